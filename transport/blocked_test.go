package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/session"
)

// blocker is a Handler of which anything may block.
type blocker struct {
	*recorder
	on func(what string, m *raftpb.Message)
}

func (b blocker) Receive(m *raftpb.Message) { b.on("Receive", m); b.recorder.Receive(m) }
func (b blocker) Unreachable(id uint64, dropped bool) {
	b.on("Unreachable", nil)
	b.recorder.Unreachable(id, dropped)
}
func (b blocker) Gone(id uint64, at time.Duration) {
	b.on("Gone", nil)
	b.recorder.Gone(id, at)
}
func (b blocker) Now() time.Duration { b.on("Now", nil); return b.recorder.Now() }
func (b blocker) OpenSnapshot(s *raftpb.Snapshot) (io.ReadCloser, int64, error) {
	b.on("OpenSnapshot", nil)
	return b.recorder.OpenSnapshot(s)
}
func (b blocker) ReceiveSnapshot(m *raftpb.Message, size int64, body io.Reader) error {
	b.on("ReceiveSnapshot", m)
	return b.recorder.ReceiveSnapshot(m, size, body)
}
func (b blocker) SnapshotSent(m *raftpb.Message, err error) {
	b.on("SnapshotSent", m)
	b.recorder.SnapshotSent(m, err)
}

// beats sends heartbeats from a to b and waits until the last has arrived.
func beats(t *testing.T, what string, a, b *node) {
	t.Helper()
	seen := len(b.messages())
	until := time.Now().Add(patience)
	for ; ; time.Sleep(time.Millisecond) {
		a.send(msg(raftpb.MsgHeartbeat, a.self.Name, b.self.Name, 5))
		for _, m := range b.messages()[seen:] {
			if m.GetType() == raftpb.MsgHeartbeat && m.GetFrom() == a.self.ID {
				return
			}
		}
		if time.Now().After(until) {
			t.Fatalf("%s: no heartbeat arrives", what)
		}
	}
}

// Whatever blocks for one group or one peer, the heartbeats of the others arrive, and others can connect. a and b are well; c is
// the peer, and 8 the group, for which something blocks in b.
func TestG8_BlockedForOneIsNotBlockedForOthers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	type world struct {
		t       *testing.T
		cb      *Config
		b, c    *node
		block   func() // does not return until the test is over
		other   *Group // 8, of b
		ofC     *Group // 8, of c
		release chan struct{}
	}
	isC := func(s tls.ConnectionState) bool {
		return len(s.PeerCertificates) > 0 && s.PeerCertificates[0].DNSNames[0] == "c"
	}
	for what, point := range map[string]struct {
		prepare func(w *world) // b's configuration
		do      func(w *world)
		call    string // of b's group 8 that blocks
	}{
		"Receive of a control message": {call: "Receive", do: func(w *world) {
			for range 100 {
				w.ofC.Send([]*raftpb.Message{msg(raftpb.MsgHeartbeat, "c", "b", 1)})
			}
		}},
		"Receive of a bulk message": {call: "Receive", do: func(w *world) {
			for range 100 {
				w.ofC.Send([]*raftpb.Message{app("c", "b", 1, make([]byte, 1<<20))})
			}
		}},
		"Unreachable": {call: "Unreachable", do: func(w *world) {
			w.other.Send([]*raftpb.Message{app("b", "c", 1, make([]byte, 70<<20))})
		}},
		"ReceiveSnapshot": {call: "ReceiveSnapshot", do: func(w *world) {
			w.ofC.Send([]*raftpb.Message{msg(raftpb.MsgSnap, "c", "b", 1)})
		}},
		"OpenSnapshot": {call: "OpenSnapshot", do: func(w *world) {
			w.other.Send([]*raftpb.Message{msg(raftpb.MsgSnap, "b", "c", 1)})
		}},
		"SnapshotSent": {call: "SnapshotSent", do: func(w *world) {
			w.other.Send([]*raftpb.Message{msg(raftpb.MsgSnap, "b", "c", 1)})
		}},
		"Now, for evidence":  {call: "Now", do: func(w *world) { w.c.Close() }},
		"Gone, for evidence": {call: "Gone", do: func(w *world) { w.c.Close() }},
		"Problem": {
			prepare: func(w *world) { w.cb.Problem = func(string, string, error) { w.block() } },
			do: func(w *world) {
				p := w.b.dir.Load().byName["c"]
				p.stuck(PurposeBulk)
				p.stuck(PurposeControl)
				p.moves(PurposeBulk)
				_ = w.b.SetPeers([]Peer{peerAt("a", w.b.dir.Load().byName["a"].Addr)}) // takes it back, under the lock
			},
		},
		"Refused": {
			prepare: func(w *world) { w.cb.Refused = func(string, error) { w.block() } },
			do: func(w *world) {
				c := config("c")
				c.TLS = ca.issue(w.t, isDNS("d"))
				for range 300 {
					_, _ = Probe(context.Background(), c, w.b.self)
				}
			},
		},
		"Admit": {prepare: func(w *world) {
			w.cb.Admit = func(h Hello) error {
				if h.Name == "c" {
					w.block()
				}
				return nil
			}
		}},
		"Authorize": {prepare: func(w *world) {
			w.cb.Authorize = func(_ context.Context, c Claim) error {
				if c.Name == "c" {
					w.block()
				}
				return nil
			}
		}},
		"a callback of TLS": {prepare: func(w *world) {
			w.cb.TLS.VerifyConnection = func(s tls.ConnectionState) error {
				if isC(s) {
					w.block()
				}
				return nil
			}
		}},
		"lookup of a name": {do: func(w *world) {
			w.b.end.Names.Lookup = nil // replaced below, before b starts
		}},
		"Logger": {prepare: func(w *world) { w.cb.Logger = slog.New(slowLines{w.block}) }, do: func(w *world) {
			w.c.Close()
		}},
		"strangers that say nothing": {do: func(w *world) {
			for range 3 * maxHandshakes {
				conn, err := net.Dial("tcp", w.b.self.Addr)
				if err != nil {
					continue
				}
				go func() { <-w.release; conn.Close() }()
			}
		}},
	} {
		t.Run(what, func(t *testing.T) {
			release := make(chan struct{})
			blocked := make(chan struct{}, 1000)
			w := &world{release: release, block: func() {
				select {
				case blocked <- struct{}{}:
				default:
				}
				<-release
			}}
			conf := config("a")
			conf.TLS = ca.issue(t, isDNS("a"))
			a := listen(t, conf)
			cc := config("c")
			cc.TLS = ca.issue(t, isDNS("c"))
			w.c = listen(t, cc)
			cb := config("b")
			cb.TLS, cb.HandshakeTimeout = ca.issue(t, isDNS("b")), patience
			w.cb = &cb
			if point.prepare != nil {
				point.prepare(w)
			}
			b := listen(t, cb)
			t.Cleanup(func() { close(release) }) // before what listen has put there
			addrC := w.c.self.Addr
			if what == "lookup of a name" {
				_, port, _ := net.SplitHostPort(addrC)
				addrC = "c.jobs.internal:" + port
				b.end.Names.Lookup = func(context.Context, string) ([]netip.Addr, error) { w.block(); return nil, errors.New("no") }
				point.do = nil
			}
			w.b = b
			w.t = t
			a.start(t, b.self)
			b.start(t, a.self, peerAt("c", addrC))
			w.c.start(t, b.self)
			a.connected(t)
			eventually(t, "b reaches a", func() bool { s := b.Status()[0]; return s.Control && s.Bulk })
			var err error
			if w.other, err = b.Group(8, blocker{newRecorder(), func(call string, m *raftpb.Message) {
				if call == point.call {
					w.block()
				}
			}}); err != nil {
				t.Fatal(err)
			}
			quiet := newRecorder()
			quiet.source = make([]byte, 10)
			if w.ofC, err = w.c.Group(8, quiet); err != nil {
				t.Fatal(err)
			}
			if point.call != "" {
				w.c.connected(t)
				b.connected(t)
			}
			var ways []func() bool
			same := func(n *node, from string) {
				p := n.dir.Load().byName[from]
				control := func() *session.Link {
					p.mu.Lock()
					defer p.mu.Unlock()
					return p.live[PurposeControl]
				}
				was := control()
				ways = append(ways, func() bool { return was == control() })
			}
			same(a, "b")
			same(b, "a")
			if point.call != "" && point.call != "Now" && point.call != "Gone" {
				same(w.c, "b")
				same(b, "c")
			}
			if point.do != nil {
				point.do(w)
			}
			if what != "strangers that say nothing" {
				select {
				case <-blocked:
				case <-time.After(patience):
					t.Fatal("nothing has blocked")
				}
			}
			beats(t, "a to b", a, b)
			beats(t, "b to a", b, a)
			if point.call != "" && point.call != "Now" && point.call != "Gone" {
				beats(t, "c to b, in another group", w.c, b)
				b.send(msg(raftpb.MsgHeartbeat, "b", "c", 5))
				w.c.wait(t, "b to c, in another group", func() bool { return len(w.c.got) > 0 })
			}
			for _, stands := range ways {
				if !stands() {
					t.Error("a control connection was replaced, so it has stood still")
				}
			}
			// Not only what stands already.
			for range 3 {
				for _, n := range []struct{ from, to *node }{{a, b}, {b, a}} {
					if _, err := n.from.Probe(t.Context(), n.to.self); err != nil {
						t.Errorf("%s to %s: %v", n.from.self.Name, n.to.self.Name, err)
					}
				}
			}
			if err := b.SetPeers([]Peer{a.self}); err != nil {
				t.Error(err)
			}
			beats(t, "a to b, without c", a, b)
		})
	}
}

// slowLines is a log handler that blocks on lines about c.
type slowLines struct{ block func() }

func (s slowLines) Enabled(context.Context, slog.Level) bool { return true }
func (s slowLines) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s slowLines) WithGroup(string) slog.Handler            { return s }
func (s slowLines) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.String() == "c" {
			s.block()
		}
		return true
	})
	return nil
}
