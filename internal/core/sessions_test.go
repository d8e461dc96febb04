package core

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

func requestNo(session, number uint64) RequestID {
	return RequestID{Session: SessionID{Epoch: 1, Number: session}, Number: number}
}

func outcomeOf(index uint64, size int) Outcome {
	return Outcome{Index: index, Answers: [][]byte{make([]byte, size)}}
}

// TestSessionsKnow: what was applied is known, until the caller has the answer, or a later one is too far away.
func TestSessionsKnow(t *testing.T) {
	var s Sessions
	if _, known, err := s.Look(requestNo(1, 1)); known || err != nil {
		t.Fatalf("known %v, %v", known, err)
	}
	for n := uint64(1); n <= 3; n++ {
		s.Apply(requestNo(1, n), outcomeOf(n, 10))
	}
	if out, known, err := s.Look(requestNo(1, 2)); !known || err != nil || out.Index != 2 || len(out.Answers) != 1 {
		t.Errorf("%+v, %v, %v", out, known, err)
	}
	if _, _, err := s.Look(requestNo(1, 0)); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("request 0: %v", err)
	}
	s.Apply(RequestID{SessionID{1, 1}, 4, 3}, outcomeOf(4, 10))
	if _, _, err := s.Look(requestNo(1, 2)); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("a request whose answer was given: %v", err)
	}
	if _, known, _ := s.Look(requestNo(1, 3)); !known {
		t.Error("request 3 is forgotten, whose answer was not given")
	}
	s.Apply(requestNo(1, 3+SessionWindow), outcomeOf(5, 10))
	if _, _, err := s.Look(requestNo(1, 3)); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("a request that is too far behind: %v", err)
	}
	if _, known, err := s.Look(requestNo(1, 5)); known || err != nil {
		t.Errorf("a request that has not come: %v, %v", known, err)
	}
	s.Apply(RequestID{SessionID{1, 1}, 1 << 62, 1 << 62}, outcomeOf(6, 10)) // takes no time
	if len(s.byID[SessionID{1, 1}].outcomes.of) != 1 {
		t.Error("what is done with is kept")
	}
}

// TestSessionsBounded: neither many sessions nor large answers take more than the bounds, and who has expired stays so.
func TestSessionsBounded(t *testing.T) {
	var s Sessions
	for n := range uint64(2 * maxSessions) {
		s.Apply(requestNo(n+1, 1), outcomeOf(n, 0))
		if n == maxSessions/2 {
			s.Apply(requestNo(1, 2), outcomeOf(n, 0)) // the first is used again
		}
	}
	if s.Len() > maxSessions || s.size > maxSessionsSize {
		t.Fatalf("%d sessions of %d bytes", s.Len(), s.size)
	}
	if _, _, err := s.Look(requestNo(2, 1)); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("the session that was not used for longest: %v", err)
	}
	s.Apply(requestNo(2, 2), outcomeOf(1, 0)) // it was under way
	if _, _, err := s.Look(requestNo(2, 1)); !errors.Is(err, ErrSessionExpired) {
		t.Errorf("a session that has expired and was used again: %v", err)
	}
	if _, known, err := s.Look(requestNo(2*maxSessions+1, 1)); known || err != nil {
		t.Errorf("a new session: %v, %v", known, err)
	}

	s = Sessions{}
	for n := uint64(1); n <= 200; n++ {
		s.Apply(requestNo(7, n), outcomeOf(n, 10<<10))
	}
	for n, lost := range map[uint64]bool{1: true, 200: false} {
		if out, known, err := s.Look(requestNo(7, n)); !known || err != nil || out.Lost != lost || out.Index != n || (out.Answers == nil) != lost {
			t.Errorf("request %d: lost %v, index %d, known %v, %v", n, out.Lost, out.Index, known, err)
		}
	}
	s.Apply(requestNo(7, 201), outcomeOf(201, maxKept+1))
	if out, known, _ := s.Look(requestNo(7, 201)); !known || !out.Lost || out.Answers != nil {
		t.Errorf("a large answer: lost %v, known %v", out.Lost, known)
	}
	if got := s.byID[SessionID{1, 7}].answers; got > maxSessionSize {
		t.Errorf("%d bytes of answers", got)
	}
}

// TestSessionsKept: a table is the same after a checkpoint as before it, to the byte, and goes on alike, whatever has happened to it.
func TestSessionsKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var a, b Sessions
	for step := range 3000 {
		id := requestNo(1+r.Uint64N(40), 1+r.Uint64N(uint64(step)*3+1))
		id.Done = r.Uint64N(id.Number + 1)
		out := outcomeOf(uint64(step), r.IntN(1<<r.IntN(18)))
		if r.IntN(3) == 0 {
			out.Answers = append(out.Answers, nil, []byte{})
		}
		a.Apply(id, out)
		b.Apply(id, out)
		if step%100 == 0 {
			var err error
			if b, err = DecodeSessions(b.Encode()); err != nil {
				t.Fatal(err)
			}
		}
		if a.size != b.size || a.Len() != b.Len() {
			t.Fatalf("step %d: %d bytes of %d sessions, and %d of %d", step, a.size, a.Len(), b.size, b.Len())
		}
	}
	whole := a.Encode()
	if !bytes.Equal(whole, b.Encode()) {
		t.Fatal("they differ")
	}
	for _, cut := range []int{1, 20, 40, len(whole) / 2, len(whole) - 1} {
		if _, err := DecodeSessions(whole[:cut]); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes of %d: %v", cut, len(whole), err)
		}
	}
	if _, err := DecodeSessions(append(whole, 0)); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestRequestsInBatch: records of requests are records like all others, and the requests are found again with their answers.
func TestRequestsInBatch(t *testing.T) {
	batch := MakeBatch(3, nil)
	batch.Add([]byte("plain"))
	batch.AddRequest(RequestID{SessionID{2, 9}, 5, 4}, [][]byte{[]byte("x"), nil, []byte("zz")})
	batch.AddRequest(requestNo(4, 1), [][]byte{[]byte("y")})
	batch.Add(nil)
	if batch.Size() != len(batch.data) {
		t.Fatalf("size %d, and it is %d", batch.Size(), len(batch.data))
	}
	data := bytes.Clone(batch.Seal(11))
	h, err := ParseHeader(data)
	if err != nil || h.Count != 6 || !h.Requests {
		t.Fatalf("%+v, %v", h, err)
	}
	if err := CheckRecords(h, data); err != nil {
		t.Fatal(err)
	}
	var got []string
	answers := [][]byte{{10}} // to a batch before
	for _, e := range AppendRecords(nil, h, data) {
		got = append(got, string(e.Data))
		answers = append(answers, []byte{byte(e.Index)})
	}
	if want := []string{"plain", "x", "", "zz", "y", ""}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	before := MakeBatch(3, nil)
	before.Add([]byte("before"))
	var s Sessions
	s.ApplyRequests([]*raftpb.Entry{{Data: before.Seal(10)}, {Data: data}}, answers)
	for id, want := range map[RequestID]Outcome{
		{SessionID{2, 9}, 5, 0}: {Index: 12, Answers: [][]byte{{12}, {13}, {14}}},
		requestNo(4, 1):         {Index: 15, Answers: [][]byte{{15}}},
	} {
		out, known, err := s.Look(id)
		if !known || err != nil || out.Index != want.Index || len(out.Answers) != len(want.Answers) || out.Answers[0][0] != want.Answers[0][0] {
			t.Errorf("%v: %+v, %v, %v", id, out, known, err)
		}
	}
	for cut := len(data) - 1; cut > BatchHeader; cut-- {
		if err := CheckRecords(h, data[:cut]); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes of %d: %v", cut, len(data), err)
		}
	}
}
