package transport

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// another is another process with the name of a member.
func another(name string) *session.Endpoint {
	return session.NewEndpoint(unhurried(config(name)).SessionConfig)
}

// unhurried waits for an answer for as long as the test does.
func unhurried(c Config) Config {
	c.HandshakeTimeout = 2 * patience
	return c
}

// come connects to a member as another process does, and fails where it is refused.
func come(t *testing.T, e *session.Endpoint, to Peer, p Purpose) *session.Link {
	t.Helper()
	l, err := e.Dial(t.Context(), to, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// ended waits for the end of a connection.
func ended(l *session.Link) bool {
	_ = l.SetReadDeadline(time.Now().Add(patience))
	_, err := l.Read(make([]byte, 1))
	return session.HungUp(err)
}

// A copy does not take the place of the member that is at its address, whichever came first, nor end a connection of it.
func TestACopyIsRefused(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), unhurried(config("b")))
	copied := another("a")
	lost, connected := a.losses(), a.Stats().Peers[0].Bulk.Connects
	for _, p := range []Purpose{PurposeControl, PurposeBulk, PurposeSnapshot, PurposeStream} {
		_, err := copied.Dial(t.Context(), b.self, p)
		if !errors.Is(err, ErrDuplicate) || !strings.Contains(err.Error(), a.self.Addr) {
			t.Errorf("%v: %v", p, err)
		}
	}
	a.send(app("a", "b", 5, nil))
	b.wait(t, "a is heard", func() bool { return len(b.got) > 0 })
	if now := a.Stats().Peers[0].Bulk.Connects; a.losses() != lost || now != connected {
		t.Errorf("a has lost messages %d times, and connected %d times, %d before", a.losses()-lost, now, connected)
	}
}

func TestACopyGivesWay(t *testing.T) {
	t.Parallel()
	ca := staying(t, unhurried(config("a")))
	b := listen(t, unhurried(config("b")))
	b.start(t, ca.Self)
	copied := another("a")
	l := come(t, copied, b.self, PurposeControl)
	a := listen(t, ca)
	a.start(t, b.self)
	a.connected(t)
	if !ended(l) {
		t.Error("the copy is still connected")
	}
	if _, err := copied.Dial(t.Context(), b.self, PurposeControl); !errors.Is(err, ErrDuplicate) {
		t.Errorf("the copy comes back: %v", err)
	}
	if no := a.noes(); len(no) > 0 {
		t.Errorf("a was refused: %v", no)
	}
}

// What is left of its predecessor does not keep a process out that was restarted: not for one refusal.
func TestARestartedProcessIsLetIn(t *testing.T) {
	t.Parallel()
	ca := staying(t, unhurried(config("a")))
	b := listen(t, unhurried(config("b")))
	b.start(t, ca.Self)
	before := another("a") // whose host was switched off: its connections stay
	left := []*session.Link{come(t, before, b.self, PurposeControl), come(t, before, b.self, PurposeBulk)}
	a := listen(t, ca)
	a.start(t, b.self)
	a.connected(t)
	for _, l := range left {
		if !ended(l) {
			t.Error("a connection of the predecessor stays")
		}
	}
	if no := append(a.noes(), b.noes()...); len(no) > 0 {
		t.Errorf("refusals: %v", no)
	}
}

// Who is connected keeps its place while who is at its address says nothing, as a process that does not get to run.
func TestWhoIsSilentKeepsItsPlace(t *testing.T) {
	t.Parallel()
	cb := config("b")
	cb.HandshakeTimeout = 4 * time.Second // it waits for half of that
	b := listen(t, cb)
	b.start(t, blackHole(t, "a", false))
	l := come(t, another("a"), b.self, PurposeBulk)
	if _, err := another("a").Dial(t.Context(), b.self, PurposeBulk); !errors.Is(err, ErrNotNow) {
		t.Errorf("another process: %v", err)
	}
	if err := l.Send(messageFrame(t, app("a", "b", 5, nil)), time.Second); err != nil {
		t.Fatal(err)
	}
	b.wait(t, "the first is heard", func() bool { return len(b.got) > 0 })
}

// The process that is refused says so to its program, and that it is over once the other one has ended.
func TestDuplicateIsAProblem(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), unhurried(config("b")))
	problems := new(troubles)
	c := unhurried(config("a"))
	c.Problem = problems.tell
	copied := listen(t, c)
	copied.start(t, b.self)
	eventually(t, "the problem is told", func() bool { return strings.Contains(problems.get("b", "duplicate"), a.self.Addr) })
	a.Close()
	eventually(t, "the problem is over", func() bool { return problems.get("b", "duplicate") == "" })
}
