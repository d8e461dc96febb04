package transport

import (
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/session"
)

// of returns what a node counts about a peer.
func (n *node) of(peer string) PeerStats {
	for _, p := range n.Stats().Peers {
		if p.Name == peer {
			return p
		}
	}
	return PeerStats{}
}

func TestStatsCountWhatIsSentAndReceived(t *testing.T) {
	t.Parallel()
	ca, cb := config("a"), config("b")
	a, b := pair(t, ca, cb)
	const beat, apps = 50, 20
	for i := range beat {
		a.send(msg(raftpb.MsgHeartbeat, "a", "b", uint64(i+1)))
	}
	for i := range apps {
		a.send(app("a", "b", uint64(i), make([]byte, 100<<10)), msg(raftpb.MsgHeartbeat, "a", "b", 1))
	}
	a.source = make([]byte, 1<<20)
	a.send(msg(raftpb.MsgSnap, "a", "b", 1))
	b.wait(t, "all", func() bool { return len(b.got) == beat+2*apps+1 })
	a.wait(t, "snapshot", func() bool { return len(a.sent) == 1 })
	eventually(t, "counted", func() bool { s := a.of("b"); return s.Bulk.Sent.Frames == apps && s.Control.Queued+s.Bulk.Queued == 0 })
	from, to := a.of("b"), b.of("a")
	for _, l := range []struct {
		what     string
		sent, in LaneStats
		frames   uint64
	}{{"control", from.Control, to.Control, beat + apps}, {"bulk", from.Bulk, to.Bulk, apps}} {
		if l.sent.Sent != l.in.Received || l.sent.Sent.Frames != l.frames || l.sent.Sent.Bytes < l.frames*session.HeaderSize {
			t.Errorf("%s: sent %+v, received %+v, should be %d", l.what, l.sent.Sent, l.in.Received, l.frames)
		}
		if l.sent.Dropped != (Traffic{}) || l.in.Lost != (Traffic{}) || l.sent.Connects != 1 || l.sent.Dials < 1 || l.sent.Since.IsZero() {
			t.Errorf("%s: %+v", l.what, l.sent)
		}
		if runtime.GOOS == "linux" && (l.sent.Network.Smoothed <= 0 || l.sent.Network.Min <= 0) {
			t.Errorf("%s: round trip %+v", l.what, l.sent.Network)
		}
	}
	if s := from.Snapshots; s != (SnapshotStats{Sent: 1, SentBytes: 1 << 20}) {
		t.Errorf("sender of a snapshot: %+v", s)
	}
	eventually(t, "snapshot counted", func() bool { return b.of("a").Snapshots.Received == 1 })
	if s := b.of("a").Snapshots; s != (SnapshotStats{Received: 1, ReceivedBytes: 1 << 20}) {
		t.Errorf("receiver of a snapshot: %+v", s)
	}
	b.receive = func(io.Reader) error { return errors.New("no") }
	a.send(msg(raftpb.MsgSnap, "a", "b", 2))
	a.wait(t, "second snapshot", func() bool { return len(a.sent) == 2 })
	eventually(t, "failure counted", func() bool { return a.of("b").Snapshots.Failed == 1 && b.of("a").Snapshots.NotTaken == 1 })
	if s := b.Stats(); s.Accepted < 4 || s.Refused+s.Failed != 0 {
		t.Errorf("%+v", s)
	}
	stranger := config("d")
	if _, err := Probe(t.Context(), stranger, b.self); err == nil {
		t.Error("stranger")
	}
	hear(t, b.self.Addr, []byte("GET / HTTP/1.1\r\n\r\n"))
	eventually(t, "strangers counted", func() bool { s := b.Stats(); return s.Refused == 1 && s.Failed == 1 })
}

// Whatever becomes of a message, it is counted once: sent, dropped, or queued.
func TestStatsLoseNothing(t *testing.T) {
	t.Parallel()
	conf := config("a")
	conf.QueueBytes = 1 << 20
	a := listen(t, conf)
	b := listen(t, config("b"))
	proxy := newProxy(t, b.self.Addr, passed)
	a.start(t, Peer{ID: b.self.ID, Name: "b", Addr: proxy.Addr().String()})
	b.start(t, a.self)
	given := map[Purpose]Traffic{}
	send := func(m *raftpb.Message) {
		p, _ := laneOf(m.GetType())
		g := given[p]
		g.add(1, int64(session.HeaderSize+messageSize(m)))
		given[p] = g
		a.send(m)
	}
	cuts := uint64(0)
	again := func() {
		t.Helper()
		eventually(t, "connected after each cut", func() bool {
			s := a.of("b")
			return s.Control.Connects > cuts && s.Bulk.Connects > cuts
		})
		a.connected(t)
	}
	for round := range 5 {
		for i := range 100 {
			send(app("a", "b", uint64(i), make([]byte, 40<<10)))
			send(msg(raftpb.MsgHeartbeat, "a", "b", 1))
			send(msg(raftpb.MsgTimeoutNow, "a", "b", 1))
		}
		if round%2 == 1 {
			proxy.cut()
			cuts++
		} else {
			again()
		}
	}
	eventually(t, "nothing is queued", func() bool { s := a.of("b"); return s.Control.Queued+s.Bulk.Queued == 0 })
	s := a.of("b")
	for p, l := range map[Purpose]LaneStats{PurposeControl: s.Control, PurposeBulk: s.Bulk} {
		if frames := l.Sent.Frames + l.Dropped.Frames; frames != given[p].Frames {
			t.Errorf("%v: %d sent and %d dropped of %d", p, l.Sent.Frames, l.Dropped.Frames, given[p].Frames)
		}
		if bytes := l.Sent.Bytes + l.Dropped.Bytes; bytes != given[p].Bytes {
			t.Errorf("%v: %d bytes sent and %d dropped of %d", p, l.Sent.Bytes, l.Dropped.Bytes, given[p].Bytes)
		}
		if l.Dropped.Frames == 0 || l.Connects < 2 {
			t.Errorf("%v: %+v: nothing was dropped, or nothing cut", p, l)
		}
	}
	if s.Bulk.Waited.Count == 0 {
		t.Error("nothing has waited")
	}
}

func TestStatsOfAGroupThatBlocks(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	b.block = make(chan struct{})
	release := sync.OnceFunc(func() { close(b.block) })
	t.Cleanup(release)
	const n = 30000
	for i := range n {
		a.send(msg(raftpb.MsgHeartbeat, "a", "b", uint64(i+1)))
		if i%100 == 0 {
			eventually(t, "sent", func() bool { return a.of("b").Control.Queued == 0 })
		}
	}
	eventually(t, "received", func() bool { return b.of("a").Control.Received.Frames == n })
	lost := b.of("a").Control.Lost.Frames
	release()
	b.wait(t, "the rest", func() bool { return uint64(len(b.got))+lost >= n })
	if lost == 0 || uint64(len(b.messages()))+lost != n {
		t.Errorf("%d lost and %d handed on of %d", lost, len(b.messages()), n)
	}
}

func BenchmarkStats(b *testing.B) {
	x, _ := pair(b, config("a"), config("b"))
	for b.Loop() {
		x.Stats()
	}
}
