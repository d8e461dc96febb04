package transport

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// holed starts a and b; what a sends to b goes through filter. Both redial fast, and find a stuck connection within a second.
func holed(t *testing.T, filter func(conn int, offset int64, b []byte) []byte) (a, b *node, problems *troubles, said *lines) {
	t.Helper()
	problems, said = new(troubles), new(lines)
	c := config("a")
	c.WriteTimeout, c.Problem, c.Logger = 150*time.Millisecond, problems.tell, said.logger()
	a, b = listen(t, c), listen(t, config("b"))
	a.start(t, peerAt("b", newFilter(t, b.self.Addr, filter).Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	return a, b, problems, said
}

// stuckThenMoves sends a large message again and again, as raft does, until the problem was there, and, once heal was called,
// until messages arrive and it is over.
func stuckThenMoves(t *testing.T, a, b *node, problems *troubles, heal func()) {
	t.Helper()
	i := uint64(0)
	retry := func() {
		i++
		a.send(msg(raftpb.MsgHeartbeat, "a", "b", i), app("a", "b", i, make([]byte, 20<<10)), app("a", "b", i, nil))
		time.Sleep(5 * time.Millisecond)
	}
	eventually(t, "the problem is told", func() bool { retry(); return problems.get("b", "connection") != "" })
	if text := problems.get("b", "connection"); !strings.Contains(text, "bulk") && !strings.Contains(text, "connections to") || !strings.Contains(text, "MTU") {
		t.Errorf("the problem is %q", text)
	}
	a.wait(t, "what was lost is told", func() bool { return len(a.lost) > 0 })
	large := func() (n int) {
		for _, m := range b.messages() {
			if len(m.GetEntries()) > 0 && len(m.GetEntries()[0].GetData()) > 10<<10 {
				n++
			}
		}
		return n
	}
	before := large()
	heal()
	eventually(t, "large messages arrive", func() bool { retry(); return large() > before+10 })
	eventually(t, "the problem is over", func() bool { retry(); return problems.get("b", "connection") == "" })
}

func TestProxySwallowsTheBulkConnection(t *testing.T) {
	t.Parallel()
	var healed atomic.Bool
	a, b, problems, said := holed(t, func(_ int, offset int64, p []byte) []byte {
		if offset > 8<<10 && !healed.Load() {
			return nil
		}
		return p
	})
	stuckThenMoves(t, a, b, problems, func() { healed.Store(true) })
	if n := len(said.with("connection lost")); n > 2+3 {
		t.Errorf("%d lines: %q", n, said.all())
	}
}

// Somebody else may end the connection before we do.
func TestStuckConnectionIsEndedByAnother(t *testing.T) {
	t.Parallel()
	var healed atomic.Bool
	problems := new(troubles)
	c := config("a")
	c.WriteTimeout, c.Problem = 10*time.Second, problems.tell
	a, b := listen(t, c), listen(t, config("b"))
	px := newFilter(t, b.self.Addr, func(_ int, offset int64, p []byte) []byte {
		if offset > 64<<10 && !healed.Load() { // heartbeats do not come so far meanwhile
			return nil
		}
		return p
	})
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	go func() {
		time.Sleep(3*minStuck + 2*maxLook) // longer than what is overlooked
		px.cut()
	}()
	stuckThenMoves(t, a, b, problems, func() { healed.Store(true) })
}

// Heartbeats and small messages pass all the time, and on the very connection.
func TestOnlySmallFramesPass(t *testing.T) {
	t.Parallel()
	var healed atomic.Bool
	a, b, problems, _ := holed(t, func(_ int, _ int64, p []byte) []byte {
		if len(p) > 4<<10 && !healed.Load() {
			return nil
		}
		return p
	})
	stuckThenMoves(t, a, b, problems, func() { healed.Store(true) })
}

// A receiver whose handler blocks for long is slow, and not a hole.
func TestSlowReceiverIsNotStuck(t *testing.T) {
	t.Parallel()
	for _, large := range []int{100, 1 << 20} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			var problems troubles
			c := config("a")
			c.WriteTimeout, c.Problem = 150*time.Millisecond, problems.tell
			a, b := listen(t, c), listen(t, config("b"))
			b.block = make(chan struct{})
			a.start(t, b.self)
			b.start(t, a.self)
			a.connected(t)
			const n = 30
			for i := range uint64(n) {
				a.send(app("a", "b", i, make([]byte, large)))
			}
			time.Sleep(2 * minStuck) // what is tested is that time passes
			if text := problems.get("b", "connection"); text != "" || a.losses() > 0 {
				t.Errorf("%q, lost %d times", text, a.losses())
			}
			close(b.block)
			b.wait(t, "all", func() bool { return len(b.got) == n })
		})
	}
}

// While nothing is sent nothing is said, and an idle connection stays.
func TestIdleConnectionIsNotStuck(t *testing.T) {
	t.Parallel()
	c := config("a")
	c.WriteTimeout = 50 * time.Millisecond
	a, b := pair(t, c, config("b"))
	a.send(app("a", "b", 1, nil))
	b.wait(t, "message", func() bool { return len(b.got) == 1 })
	bulk := a.dir.Load().byName["b"].bulk
	eventually(t, "taken", func() bool { return bulk.progress.taken.Load() == bulk.progress.sent.Load() })
	time.Sleep(2 * minStuck) // what is tested is that time passes
	if a.losses() > 0 {
		t.Error("an idle connection was closed")
	}
}

// A message that is missing on the way is found with the next one, however small that is.
func TestMissingMessageEndsTheConnection(t *testing.T) {
	t.Parallel()
	b := listen(t, config("b"))
	b.start(t, peerAt("a", "127.0.0.1:1"))
	l, err := session.NewEndpoint(config("a").SessionConfig).Dial(t.Context(), b.self, PurposeBulk)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	first, third := messageFrame(t, app("a", "b", 1, nil)), messageFrame(t, app("a", "b", 3, nil))
	session.NumberFrame(third, 2)
	if err := l.Send(append(first, third...), time.Second); err != nil {
		t.Fatal(err)
	}
	_ = l.SetReadDeadline(time.Now().Add(patience))
	for err == nil {
		_, err = l.Read(make([]byte, 100)) // acknowledgements, at most
	}
	if got := b.messages(); !session.HungUp(err) || len(got) != 1 || got[0].GetIndex() != 1 {
		t.Errorf("%v, delivered %v", err, got)
	}
}
