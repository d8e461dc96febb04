package wire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"
)

// body takes the length off a message, as a stream does.
func body(t *testing.T, b []byte) []byte {
	t.Helper()
	if n := binary.BigEndian.Uint32(b); int(n) != len(b)-4 {
		t.Fatalf("the length is %d, of %d bytes", n, len(b)-4)
	}
	return b[4:]
}

// TestCallMessages: requests and replies arrive as they were sent, and what is cut is none.
func TestCallMessages(t *testing.T) {
	q := Request{Op: OpCall, Tag: 1, Session: Session{2, 3}, Number: 4, Done: 5, Timeout: 6, Data: []byte("seven")}
	b := body(t, q.AppendMessage(nil))
	if got, err := ParseRequest(b); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("%+v, %v", got, err)
	}
	for cut := range callHead {
		if _, err := ParseRequest(b[:cut]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", cut, err)
		}
	}
	if _, err := ParseRequest(append([]byte{9}, b[1:]...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("another kind: %v", err)
	}
	r := Reply{Tag: 1, Code: CallRefused, Own: 2, Index: 3, Active: "a", Addr: "b:1", Advertise: "http://c", Body: []byte("d")}
	b = body(t, r.AppendMessage(nil))
	if got, err := ParseReply(b); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	for cut := range len(b) - len(r.Body) {
		if _, err := ParseReply(b[:cut]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", cut, err)
		}
	}
	s := Session{7, 8}
	if got, err := ParseSession(s.Append(nil)); err != nil || got != s {
		t.Errorf("%v, %v", got, err)
	}
}

func FuzzCalls(f *testing.F) {
	f.Add((&Request{Op: OpCall, Data: []byte("x")}).AppendMessage(nil)[4:])
	f.Add(Session{Epoch: 3, Number: 7}.Append(nil))
	f.Add((&Reply{Active: "a", Body: []byte("x")}).AppendMessage(nil)[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := ParseRequest(b); err == nil {
			if again := body(t, q.AppendMessage(nil)); string(again) != string(b) {
				t.Fatalf("%x has become %x", b, again)
			}
		}
		if s, err := ParseSession(b); err == nil {
			if again, err := ParseSession(s.Append(nil)); err != nil || again != s {
				t.Fatalf("%x is read as %+v, and then as %+v, %v", b, s, again, err)
			}
		}
		if r, err := ParseReply(b); err == nil {
			if again := body(t, r.AppendMessage(nil)); string(again) != string(b) {
				t.Fatalf("%x has become %x", b, again)
			}
		}
	})
}

// A town is members that lose, delay and refuse, and remember what has taken effect.
type town struct {
	mu      sync.Mutex // guards everything below
	rand    *rand.Rand
	active  string
	changed chan struct{}
	given   uint64
	effects map[string]int    // of each call's data
	known   map[string]string // by session and number
	expire  bool              // sessions expire now and then
	low     map[Session]uint64
	lines   map[*townLine]bool
}

type townLine struct {
	town   *town
	member string
	w      Waiting
}

func newTown() *town {
	return &town{rand: rand.New(rand.NewPCG(1, 2)), active: "a", changed: make(chan struct{}), effects: map[string]int{},
		known: map[string]string{}, low: map[Session]uint64{}, lines: map[*townLine]bool{}}
}

func (w *town) config() CallerConfig {
	return CallerConfig{
		MaxBytes: 1 << 20,
		Active: func() string {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.active
		},
		Changed: func() <-chan struct{} {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.changed
		},
		Open: func(ctx context.Context, member string, waiting Waiting) (Line, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.rand.IntN(4) == 0 {
				return nil, errors.New("unreachable")
			}
			l := &townLine{w, member, waiting}
			w.lines[l] = true
			return l, nil
		},
	}
}

// elect makes another member Active.
func (w *town) elect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = map[string]string{"a": "b", "b": "", "": "a"}[w.active]
	close(w.changed)
	w.changed = make(chan struct{})
}

// Send implements Line.
func (l *townLine) Send(q Request) {
	w := l.town
	w.mu.Lock()
	defer w.mu.Unlock()
	r := Reply{Tag: q.Tag}
	key := fmt.Sprint(q.Session, q.Number)
	switch dice := w.rand.IntN(20); {
	case !w.lines[l] || dice == 0: // lost before it arrives
		return
	case dice == 1: // the line breaks
		delete(w.lines, l)
		go l.w.Lost(ErrLineLost)
		return
	case l.member != w.active || dice == 2:
		r.Code = CallNotActive
	case dice == 3 && w.expire && q.Op == OpCall:
		r.Code = CallExpired
	case q.Op == OpSession:
		w.given++
		r.Body = Session{1, w.given}.Append(nil)
	case q.Number < w.low[q.Session]:
		panic("a call is repeated that was said to be answered")
	default:
		w.low[q.Session] = max(w.low[q.Session], q.Done)
		if _, ok := w.known[key]; !ok {
			w.known[key] = string(q.Data)
			w.effects[string(q.Data)]++
		}
		if r.Body = []byte(w.known[key]); dice == 4 {
			r.Code, r.Body = CallUnknown, nil
		}
		if dice == 5 { // the reply is lost, with the line
			delete(w.lines, l)
			go l.w.Lost(ErrLineLost)
			return
		}
	}
	go l.w.Replied([]Reply{r})
}

// Close implements Line.
func (l *townLine) Close() {
	l.town.mu.Lock()
	delete(l.town.lines, l)
	l.town.mu.Unlock()
	l.w.Lost(ErrLineLost)
}

// TestCaller: whatever is lost, each call takes effect once and gets its own answer; with sessions that expire, at most once, and
// who does not know that it has is told so.
func TestCaller(t *testing.T) {
	for _, expire := range []bool{false, true} {
		w := newTown()
		w.expire = expire
		c := NewCaller(w.config())
		stop := make(chan struct{})
		var electing, calling sync.WaitGroup
		electing.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
					w.elect()
				}
			}
		})
		var mu sync.Mutex
		unknown := map[string]bool{}
		for i := range 8 {
			calling.Go(func() {
				for j := range 25 {
					data := fmt.Sprint(i, "-", j)
					r, err := c.Call(t.Context(), []byte(data))
					var lost *UnknownError
					switch {
					case expire && errors.As(err, &lost):
						mu.Lock()
						unknown[data] = true
						mu.Unlock()
					case err != nil || string(r.Body) != data:
						t.Errorf("%s: %q, %v", data, r.Body, err)
					}
				}
			})
		}
		calling.Wait()
		close(stop)
		electing.Wait()
		c.Close()
		for i := range 8 {
			for j := range 25 {
				data := fmt.Sprint(i, "-", j)
				if n := w.effects[data]; n > 1 || n == 0 && !unknown[data] {
					t.Errorf("%s took effect %d times (expire %v, unknown %v)", data, n, expire, unknown[data])
				}
			}
		}
		if _, err := c.Call(t.Context(), nil); !errors.Is(err, ErrCallerClosed) {
			t.Errorf("closed: %v", err)
		}
	}
}

// A member that does not answer while a line to it is opened keeps no call from the one that is Active now, and its line is not used
// when it answers after all.
func TestCallerTurnsAway(t *testing.T) {
	w := newTown()
	cfg := w.config()
	asked, answer, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	cfg.Open = func(_ context.Context, member string, waiting Waiting) (Line, error) {
		l := &heldLine{w: waiting}
		if member == "a" {
			close(asked)
			<-answer
			l.closed = closed
		}
		return l, nil
	}
	c := NewCaller(cfg)
	defer c.Close()
	done := make(chan error)
	go func() { _, err := c.Call(t.Context(), []byte("x")); done <- err }()
	<-asked
	w.elect() // b
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	close(answer)
	<-closed
	if _, err := c.Call(t.Context(), []byte("y")); err != nil {
		t.Error(err)
	}
}

// A heldLine answers everything.
type heldLine struct {
	w      Waiting
	closed chan struct{} // nil: nobody asks
}

func (l *heldLine) Send(q Request) {
	r := Reply{Tag: q.Tag}
	if q.Op == OpSession {
		r.Body = Session{1, 1}.Append(nil)
	}
	go l.w.Replied([]Reply{r})
}

func (l *heldLine) Close() {
	if l.closed != nil {
		close(l.closed)
	}
	l.w.Lost(ErrLineLost)
}

// TestCallerRepeats: what a member says of a call that it does not take says nothing of an earlier try, which may have taken effect.
func TestCallerRepeats(t *testing.T) {
	for _, c := range []struct {
		replies   []CallCode
		unknown   bool
		tries     int
		described string
	}{
		{[]CallCode{CallTooLarge}, false, 1, "too large at once"},
		{[]CallCode{CallNotActive, CallTooLarge}, false, 2, "too large for the next Active; the one before has not taken it"},
		{[]CallCode{CallUnknown, CallTooLarge}, true, 2, "too large for the next Active"},
		{[]CallCode{CallBusy}, false, 1, "busy at once"},
		{[]CallCode{CallUnknown, CallBusy, CallNoRoom, CallDone}, false, 4, "busy later"},
	} {
		w := newTown()
		cfg := w.config()
		var tries int
		cfg.Open = func(_ context.Context, _ string, waiting Waiting) (Line, error) {
			return &scriptedLine{waiting, func() CallCode { tries++; return c.replies[tries-1] }}, nil
		}
		caller := NewCaller(cfg)
		_, err := caller.Call(t.Context(), []byte("x"))
		caller.Close()
		var unknown *UnknownError
		if last := c.replies[len(c.replies)-1]; (err == nil) != (last == CallDone) || errors.As(err, &unknown) != c.unknown || tries != c.tries {
			t.Errorf("%s: %v (unknown: %v) after %d tries, want unknown %v after %d", c.described, err, unknown != nil, tries, c.unknown, c.tries)
		}
	}
}

// A scriptedLine answers calls with codes.
type scriptedLine struct {
	w    Waiting
	code func() CallCode
}

func (l *scriptedLine) Send(q Request) {
	r := Reply{Tag: q.Tag}
	if q.Op == OpSession {
		r.Body = Session{1, 1}.Append(nil)
	} else {
		r.Code = l.code()
	}
	go l.w.Replied([]Reply{r})
}

func (l *scriptedLine) Close() { l.w.Lost(ErrLineLost) }
