package wire

import (
	"bytes"
	"errors"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCluster(t *testing.T) {
	c := Cluster{From: "a", Epoch: 7, Active: "b", InTouch: true, Version: 3, Members: []Member{
		{Name: "a", Addr: "h:1", State: "Standby", Liveness: "Alive"}, {Name: "b", Addr: "h:2", Advertise: "http://h", Kind: "observer"},
	}}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeCluster(b); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := DecodeCluster(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
}

func TestTail(t *testing.T) {
	for _, c := range []struct {
		b       []byte
		parts   bool
		readers int
	}{
		{append(TailRequest(9, true, 10), "what is new"...), true, 10},
		{TailRequest(9, false, 1000), false, 255},
		{TailRequest(9, true, 0), true, 1},
		{append(TailRequest(9, true, 1)[:10], 0), true, 1},
		{TailRequest(9, true, 10)[:10], true, 1}, // of earlier versions
		{TailRequest(9, true, 10)[:9], false, 1},
	} {
		if from, parts, readers, err := ParseTailRequest(c.b); from != 9 || parts != c.parts || readers != c.readers || err != nil {
			t.Errorf("%x: %d, %v, %d, %v", c.b, from, parts, readers, err)
		}
	}
	if _, _, _, err := ParseTailRequest(TailRequest(9, true, 1)[:8]); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v", err)
	}
	if m, err := ParseTail(Compacted(3, 8), nil); err != nil || !m.Compacted || m.Index != 3 || m.Held != 8 {
		t.Errorf("%+v, %v", m, err)
	}
	part := append(AppendPart(nil, Part{Epoch: 4, First: 11, Count: 2, Before: 7, After: crc32.Update(7, castagnoli, []byte("\x01\x00\x00\x00x\x00\x00\x00\x00"))}),
		"\x01\x00\x00\x00x\x00\x00\x00\x00"...)
	if m, err := ParseTail(part, nil); err != nil || m.Epoch != 4 || m.First != 11 || string(bytes.Join(m.Records, []byte("|"))) != "x|" {
		t.Errorf("%+v, %v", m, err)
	}
	for i := partHead - 8; i < len(part); i++ { // what is before has the checksum of its frame
		damaged := bytes.Clone(part)
		damaged[i] ^= 0x20
		if _, err := ParseTail(damaged, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("byte %d of a part is damaged: %v", i, err)
		}
	}
	b := BeginRecords(nil, 4, 11)
	for _, r := range []string{"one", "", "three"} {
		b = AppendRecord(b, []byte(r))
	}
	EndRecords(b, 3)
	m, err := ParseTail(b, nil)
	if err != nil || m.Epoch != 4 || m.First != 11 || string(bytes.Join(m.Records, []byte("|"))) != "one||three" {
		t.Errorf("%+v, %v", m, err)
	}
	for i := range b {
		if _, err := ParseTail(b[:i], nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
}

func TestChange(t *testing.T) {
	c := Change{Op: OpAdd, Kind: 2, Priority: -7, Name: "d", Addr: "h:1", Advertise: strings.Repeat("x", MaxChangeText)}
	b, err := c.Encode()
	if got, perr := ParseChange(append(b, "what is new"...)); err != nil || perr != nil || got != c {
		t.Errorf("%+v, %v, %v", got, err, perr)
	}
	a := ChangeAnswer{Outcome: Refused, Reason: 9, Text: "no"}
	if got, err := ParseChangeAnswer(a.Encode()); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := ParseChange(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
	for i := range a.Encode() {
		if _, err := ParseChangeAnswer(a.Encode()[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
	a.Text = strings.Repeat("y", MaxChangeDetail+1)
	if got, err := ParseChangeAnswer(a.Encode()); err != nil || len(got.Text) != MaxChangeDetail || len(a.Encode()) > MaxChange {
		t.Errorf("%d bytes of text, %v", len(got.Text), err)
	}
	if c.Name = strings.Repeat("x", MaxChangeText+1); true {
		if _, err := c.Encode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("too long a name: %v", err)
		}
	}
}

func TestWorker(t *testing.T) {
	w := Worker{Name: "w", Addr: "h:1", Text: strings.Repeat("x", MaxWorkerText), Every: time.Second, Leave: true}
	b, err := w.Encode()
	if got, perr := ParseWorker(append(b, "what is new"...)); err != nil || perr != nil || got != w {
		t.Errorf("%+v, %v, %v", got, err, perr)
	}
	for i := range b {
		if _, err := ParseWorker(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
	for _, w := range []Worker{{}, {Every: -1}, {Every: 2 * MaxWorkerEvery}, {Every: 1, Text: w.Text + "x"}} {
		if _, err := w.Encode(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%+v: %v", w, err)
		}
	}
}

func TestCursor(t *testing.T) {
	q := CursorRequest{Op: OpMove, Index: 7, Name: "reports"}
	b, err := q.Encode()
	if got, perr := ParseCursorRequest(append(b, "later"...)); err != nil || perr != nil || got != q {
		t.Errorf("%+v, %v, %v", got, err, perr)
	}
	a := CursorAnswer{Outcome: Refused, Index: 3, Text: "why"}
	if got, err := ParseCursorAnswer(a.Encode()); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := ParseCursorRequest(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
}

// What anybody may send takes no more memory than it is long, and is no panic.
func FuzzMessages(f *testing.F) {
	b := AppendRecord(BeginRecords(nil, 1, 1), []byte("x"))
	EndRecords(b, 1)
	c, _ := (&Cluster{From: "a", Members: []Member{{Name: "a"}}}).Encode()
	change, _ := Change{Op: OpAdd, Name: "d", Addr: strings.Repeat("x", MaxChangeText)}.Encode()
	for _, b := range [][]byte{b, c, TailRequest(1, true, 1), Compacted(1, 2), change, ChangeAnswer{Text: "x"}.Encode(),
		ReportRequest{ReportEvents, true}.Encode(), AppendAnswer{Made, 1, 2, "x"}.Encode(), {1, 3, 0, 3, 'w', 'h', 'y'}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _, _ = ParseTailRequest(b)
		_, _ = DecodeCluster(b)
		_, _ = ParseCursorRequest(b)
		_, _ = ParseCursorAnswer(b)
		_, _ = ParseChange(b)
		_, _ = ParseChangeAnswer(b)
		_, _ = ParseWorker(b)
		_, _ = ParseReportRequest(b)
		_, _ = ParseAppendRequest(b)
		_, _ = ParseAppendAnswer(b)
		_ = ParseBackupRequest(b)
		if c, err := ParseCommand(b); err == nil {
			if again, err := c.Encode(); err != nil || !bytes.HasPrefix(b, again) {
				t.Errorf("%x is read as %+v, %v", b, c, err)
			}
		}
		m, err := ParseTail(b, nil)
		if err != nil || m.Compacted || b[0] == tailPart {
			return
		}
		again := BeginRecords(nil, m.Epoch, m.First)
		for _, r := range m.Records {
			again = AppendRecord(again, r)
		}
		if EndRecords(again, len(m.Records)); !bytes.Equal(again, b) {
			t.Errorf("%x is read as %+v", b, m)
		}
	})
}

func TestOperate(t *testing.T) {
	later := func(b []byte) []byte { return append(slices.Clip(b), "later"...) }
	q := ReportRequest{What: ReportEvents, Follow: true}
	if got, err := ParseReportRequest(later(q.Encode())); err != nil || got != q {
		t.Errorf("%+v, %v", got, err)
	}
	c := Command{Op: CommandStayAway, Text: strings.Repeat("x", MaxCommandText)}
	b, err := c.Encode()
	if got, perr := ParseCommand(later(b)); err != nil || perr != nil || got != c {
		t.Errorf("%+v, %v, %v", got, err, perr)
	}
	for i := range b {
		if _, err := ParseCommand(b[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of it: %v", i, err)
		}
	}
	if _, err := (Command{Text: c.Text + "x"}).Encode(); !errors.Is(err, ErrMalformed) {
		t.Errorf("a text that is too long: %v", err)
	}
	a := AppendAnswer{Outcome: Refused, Index: 7, Epoch: 3, Text: strings.Repeat("x", MaxAppendAnswer)}
	b = a.Encode()
	if a.Text = a.Text[:MaxAppendAnswer-appendAnswerHead]; len(b) != MaxAppendAnswer {
		t.Errorf("%d bytes", len(b))
	}
	if got, err := ParseAppendAnswer(b); err != nil || got != a {
		t.Errorf("%+v, %v", got, err)
	}
	if record, err := ParseAppendRequest(AppendRequest([]byte("x"))); err != nil || string(record) != "x" {
		t.Errorf("%q, %v", record, err)
	}
	if err := ParseBackupRequest(later(BackupRequest())); err != nil {
		t.Error(err)
	}
	for _, err := range []error{second(ParseReportRequest(nil)), second(ParseAppendRequest(nil)), second(ParseAppendAnswer(nil)), ParseBackupRequest(nil)} {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("nothing: %v", err)
		}
	}
	if ReasonNotChosen.String() == "" || !strings.Contains(Reason(999).String(), "999") {
		t.Error("reasons have no texts")
	}
}

func second[T any](_ T, err error) error { return err }
