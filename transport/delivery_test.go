package transport

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func TestDeliveryBothWaysInOrder(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	const n = 2000
	var wg sync.WaitGroup
	for _, d := range []struct {
		n        *node
		from, to string
	}{{a, "a", "b"}, {b, "b", "a"}} {
		wg.Go(func() {
			for i := range uint64(n) {
				d.n.send(app(d.from, d.to, i, []byte("x")), msg(raftpb.MsgHeartbeat, d.from, d.to, i))
			}
		})
	}
	wg.Wait()
	for _, r := range []*node{a, b} {
		r.wait(t, "all messages", func() bool { return len(r.got) == 2*n })
		var apps, beats uint64
		for _, m := range r.messages() {
			switch m.GetType() {
			case raftpb.MsgApp:
				if m.GetIndex() != apps || string(m.GetEntries()[0].GetData()) != "x" {
					t.Fatalf("append %d came as %v", apps, m)
				}
				apps++
			case raftpb.MsgHeartbeat:
				if m.GetTerm() != beats {
					t.Fatalf("heartbeat %d came as %v", beats, m)
				}
				beats++
			}
		}
	}
	eventually(t, "queues empty", func() bool { return a.Status()[0].Queued == 0 && b.Status()[0].Queued == 0 })
}

func TestBigAndSharedEntries(t *testing.T) {
	t.Parallel()
	a, b, c := listen(t, config("a")), listen(t, config("b")), listen(t, config("c"))
	a.start(t, b.self, c.self)
	b.start(t, a.self, c.self)
	c.start(t, a.self, b.self)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	entries := []*raftpb.Entry{{Index: proto.Uint64(1), Data: big}, {Index: proto.Uint64(2), Data: big[:100]}}
	for _, to := range []string{"b", "c"} {
		m := app("a", to, 0, nil)
		m.Entries = entries
		a.send(m)
	}
	for _, r := range []*node{b, c} {
		r.wait(t, "big message", func() bool { return len(r.got) == 1 })
		if got := r.messages()[0].GetEntries(); len(got) != 2 || !bytes.Equal(got[0].GetData(), big) {
			t.Error("big message differs")
		}
	}
}

// One listener serves many groups, each gets its own messages.
func TestGroups(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	second := newRecorder()
	if _, err := b.Group(8, second); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Group(8, second); err == nil {
		t.Error("a group was registered twice")
	}
	g8, err := a.Group(8, newRecorder())
	if err != nil {
		t.Fatal(err)
	}
	g9, err := a.Group(9, newRecorder())
	if err != nil {
		t.Fatal(err)
	}
	g9.Send([]*raftpb.Message{app("a", "b", 9, nil)}) // nobody there
	g8.Send([]*raftpb.Message{app("a", "b", 8, nil)})
	a.send(app("a", "b", 7, nil))
	second.wait(t, "group 8", func() bool { return len(second.got) == 1 })
	b.wait(t, "group 7", func() bool { return len(b.got) == 1 })
	if b.messages()[0].GetIndex() != 7 || second.messages()[0].GetIndex() != 8 {
		t.Error("messages went to the wrong group")
	}
}

func TestSendRefusesWhatIsNotForTheWire(t *testing.T) {
	t.Parallel()
	c := config("a")
	c.MaxFrame = minMaxFrame
	a, b := pair(t, c, config("b"))
	a.send(msg(raftpb.MsgProp, "a", "b", 1), msg(raftpb.MsgHup, "a", "b", 1), app("b", "a", 1, nil), app("a", "d", 1, nil))
	a.send(app("a", "b", 1, make([]byte, minMaxFrame)))
	a.wait(t, "too large is dropped", func() bool { return len(a.dropped) == 1 })
	a.send(app("a", "b", 5, nil))
	b.wait(t, "good message", func() bool { return len(b.got) > 0 })
	if got := b.messages(); len(got) != 1 || got[0].GetIndex() != 5 {
		t.Errorf("delivered %v", got)
	}
}

func TestReconnectAfterRestart(t *testing.T) {
	t.Parallel()
	c := staying(t, config("b"))
	a, b := pair(t, config("a"), c)
	b.Close()
	a.wait(t, "break is reported", func() bool { return len(a.lost) == 1 && len(a.gone) > 0 })
	a.send(app("a", "b", 42, nil)) // waits for the peer
	b2 := listen(t, c)
	b2.start(t, a.self)
	b2.wait(t, "queued message", func() bool { return len(b2.got) == 1 })
	a.connected(t)
	b2.connected(t)
	a.rmu.Lock()
	defer a.rmu.Unlock()
	if len(a.lost) != 1 || len(a.gone) > 3 { // the evidence is taken again, and once more, as long as nobody listens
		t.Errorf("unreachable %v, gone %v", a.lost, a.gone)
	}
}

// A peer that dials us is dialled at once, whatever pause was left.
func TestRedialWhenThePeerIsThere(t *testing.T) {
	t.Parallel()
	c := config("a")
	c.Backoff, c.MaxBackoff = time.Hour, time.Hour
	cb := staying(t, config("b"))
	a := listen(t, c)
	a.start(t, cb.Self)
	time.Sleep(20 * time.Millisecond) // for the first dials to fail
	b := listen(t, cb)
	b.start(t, a.self)
	a.connected(t)
}

func TestControlIsNotKept(t *testing.T) {
	t.Parallel()
	a, b := listen(t, config("a")), listen(t, config("b"))
	a.start(t, peerAt("b", "127.0.0.1:1"))
	for i := range uint64(100) {
		a.send(msg(raftpb.MsgHeartbeat, "a", "b", i), msg(raftpb.MsgTimeoutNow, "a", "b", i))
	}
	if q := a.Status()[0].Queued; q > 2000 {
		t.Errorf("%d bytes of control messages are kept", q)
	}
	time.Sleep(2 * controlStale) // what is tested is that time passes
	a.send(msg(raftpb.MsgVote, "a", "b", 500))
	p := a.dir.Load().byName["b"]
	p.control.setUp(nil)
	_, now, _ := p.control.take(nil)
	if len(now) != 1 || now[0].m.GetTerm() != 500 {
		t.Errorf("kept %d messages, want the young one", len(now))
	}
	p.control.setDown()
	_ = b
}

func TestSetPeers(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	if err := a.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	b.wait(t, "b is refused", func() bool { return len(b.refusals) > 0 })
	b.rmu.Lock()
	err := b.refusals[0]
	b.rmu.Unlock()
	if !errors.Is(err, ErrUnknownMember) {
		t.Errorf("refusal: %v", err)
	}
	a.send(app("a", "b", 1, nil))
	if err := a.SetPeers([]Peer{b.self}); err != nil {
		t.Fatal(err)
	}
	a.connected(t)
	b.connected(t)
	a.send(app("a", "b", 2, nil))
	b.wait(t, "message", func() bool { return len(b.got) == 1 })
	if b.messages()[0].GetIndex() != 2 {
		t.Error("message to an unknown peer was kept")
	}
	if err := a.SetPeers([]Peer{{ID: 0, Name: "", Addr: "nowhere"}}); err == nil {
		t.Error("bad peers were taken")
	}
}

func TestT13_PortTaken(t *testing.T) {
	t.Parallel()
	a := listen(t, config("a"))
	c := config("b")
	c.Bind = a.Addr().String()
	_, err := Listen(c)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), a.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestConfigFaultsComeTogether(t *testing.T) {
	_, err := Listen(Config{SessionConfig: SessionConfig{Self: Peer{Addr: "x"}, Peers: []Peer{{ID: 1, Name: "b", Addr: "b:1"}, {ID: 1, Name: "b", Addr: ":1"}}}, QueueBytes: -1, MaxFrame: 5, WriteTimeout: -1, Bind: "y"})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"id 0", `name ""`, "missing port", "no host", "same id 1", "two members", "QueueBytes", "MaxFrame", "WriteTimeout", "Bind", "Hello"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not mention %s: %v", want, err)
		}
	}
}

func TestCloseAtAnyTime(t *testing.T) {
	t.Parallel()
	a := listen(t, config("a")) // never started
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Group(1, newRecorder()); !errors.Is(err, ErrClosed) {
		t.Errorf("Group after Close: %v", err)
	}
	if err := a.SetPeers(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("SetPeers after Close: %v", err)
	}
	b := listen(t, config("b"))
	b.start(t, a.self)
	b.Close()
	b.send(app("b", "a", 1, nil))
}

func BenchmarkRoundTrip(b *testing.B) {
	x, y := pair(b, config("a"), config("b"))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		x.send(app("a", "b", 1, make([]byte, 128)))
		y.wait(b, "there", func() bool { return len(y.got) == n })
		y.send(msg(raftpb.MsgAppResp, "b", "a", 1))
		x.wait(b, "back", func() bool { return len(x.got) == n })
	}
}
