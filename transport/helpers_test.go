package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/internal/parallel"
	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { parallel.Main(m, 6) }

// recorder is a Handler that keeps everything.
type recorder struct {
	rmu      sync.Mutex
	cond     *sync.Cond
	got      []*raftpb.Message
	lost     []uint64 // of Unreachable, unless they were dropped
	dropped  []uint64
	gone     []uint64
	sent     []error
	sentOf   []*raftpb.Message // whose fates those are
	bodies   [][]byte
	refusals []error

	block   chan struct{} // Receive waits for it, if not nil
	source  []byte
	size    int64 // announced; 0: the right one
	receive func(body io.Reader) error
	body    io.ReadCloser // instead of one of source
}

func newRecorder() *recorder {
	r := &recorder{}
	r.cond = sync.NewCond(&r.rmu)
	return r
}

func (r *recorder) change(f func()) {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	f()
	r.cond.Broadcast()
}

// wait waits until ok, which is called under the lock.
func (r *recorder) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	late := false
	timer := time.AfterFunc(patience, func() { r.change(func() { late = true }) })
	defer timer.Stop()
	r.rmu.Lock()
	defer r.rmu.Unlock()
	for !ok() {
		if late {
			t.Fatalf("%s: not within %v; lost %v, dropped %v, gone %v, refusals %v", what, patience, r.lost, r.dropped, r.gone, r.refusals)
		}
		r.cond.Wait()
	}
}

func (r *recorder) Receive(m *raftpb.Message) {
	if r.block != nil {
		<-r.block
	}
	r.change(func() { r.got = append(r.got, m) })
}
func (r *recorder) Unreachable(id uint64, dropped bool) {
	r.change(func() {
		if dropped {
			r.dropped = append(r.dropped, id)
		} else {
			r.lost = append(r.lost, id)
		}
	})
}
func (r *recorder) Gone(id uint64, _ time.Duration) {
	r.change(func() { r.gone = append(r.gone, id) })
}
func (r *recorder) Now() time.Duration { return 1 }
func (r *recorder) OpenSnapshot(*raftpb.Snapshot) (io.ReadCloser, int64, error) {
	size := int64(len(r.source))
	if r.size != 0 {
		size = r.size
	}
	if r.source == nil {
		return nil, 0, errors.New("no snapshot here")
	}
	if r.body != nil {
		return r.body, size, nil
	}
	return io.NopCloser(bytes.NewReader(r.source)), size, nil
}
func (r *recorder) ReceiveSnapshot(m *raftpb.Message, size int64, body io.Reader) error {
	if r.receive != nil {
		return r.receive(body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	r.change(func() { r.got, r.bodies = append(r.got, m), append(r.bodies, b) })
	return nil
}
func (r *recorder) SnapshotSent(m *raftpb.Message, err error) {
	r.change(func() { r.sent, r.sentOf = append(r.sent, err), append(r.sentOf, m) })
}

func (r *recorder) messages() []*raftpb.Message {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	return append([]*raftpb.Message(nil), r.got...)
}

func (r *recorder) losses() int {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	return len(r.lost)
}

func (r *recorder) noes() []error {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	return append([]error(nil), r.refusals...)
}

func (r *recorder) fates() []error {
	r.rmu.Lock()
	defer r.rmu.Unlock()
	return append([]error(nil), r.sent...)
}

type node struct {
	*TCP
	*recorder
	group *Group
	self  Peer
}

var ids = map[string]uint64{"a": 1, "b": 2, "c": 3, "d": 4}

func peerAt(name string, addr string) Peer { return Peer{ID: ids[name], Name: name, Addr: addr} }

// config is a member of the cluster "jobs" that redials fast.
func config(name string) Config {
	return Config{
		SessionConfig: SessionConfig{
			Self:   peerAt(name, "127.0.0.1:0"),
			Hello:  func() Hello { return Hello{Cluster: "jobs", Members: []string{"a", "b", "c"}} },
			Logger: slog.New(slog.DiscardHandler),
		},
		MaxBackoff:    50 * time.Millisecond,
		CrashEvidence: true,
	}
}

// staying gives a member an address that stays its own while it is closed.
func staying(t testing.TB, c Config) Config {
	c.Self.Addr = loopback.Addr(t)
	return c
}

// listen binds; the group is registered by start.
func listen(t testing.TB, c Config) *node {
	t.Helper()
	n := &node{recorder: newRecorder()}
	if c.Refused == nil {
		c.Refused = func(_ string, err error) { n.change(func() { n.refusals = append(n.refusals, err) }) }
	}
	var err error
	if n.TCP, err = Listen(c); err != nil {
		t.Fatal(err)
	}
	n.self = Peer{ID: c.Self.ID, Name: c.Self.Name, Addr: n.Addr().String()}
	t.Cleanup(func() { n.Close() })
	return n
}

func (n *node) start(t testing.TB, peers ...Peer) {
	t.Helper()
	if err := n.SetPeers(peers); err != nil {
		t.Fatal(err)
	}
	var err error
	if n.group, err = n.Group(7, n.recorder); err != nil {
		t.Fatal(err)
	}
}

// connected waits until both lanes to each peer are up.
func (n *node) connected(t testing.TB) {
	t.Helper()
	eventually(t, "connected", func() bool {
		for _, s := range n.Status() {
			if !s.Control || !s.Bulk {
				return false
			}
		}
		return true
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// pair starts two members that are connected.
func pair(t testing.TB, ca, cb Config) (a, b *node) {
	t.Helper()
	a, b = listen(t, ca), listen(t, cb)
	a.start(t, b.self)
	b.start(t, a.self)
	a.connected(t)
	b.connected(t)
	return a, b
}

func app(from, to string, index uint64, data []byte) *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(ids[from]), To: proto.Uint64(ids[to]), Index: proto.Uint64(index),
		Entries: []*raftpb.Entry{{Index: proto.Uint64(index + 1), Term: proto.Uint64(1), Data: data}},
	}
}

func msg(typ raftpb.MessageType, from, to string, term uint64) *raftpb.Message {
	return &raftpb.Message{Type: typ.Enum(), From: proto.Uint64(ids[from]), To: proto.Uint64(ids[to]), Term: proto.Uint64(term)}
}

func (n *node) send(m ...*raftpb.Message) { n.group.Send(m) }

// proxy forwards connections to a target, and passes what the dialler sends through change.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	over  bool
	wg    sync.WaitGroup
}

func newProxy(t testing.TB, target string, change func(conn int, offset int64, b []byte)) *proxy {
	t.Helper()
	return newFilter(t, target, func(conn int, offset int64, b []byte) []byte { change(conn, offset, b); return b })
}

// newFilter is a proxy that passes on what filter returns of each piece.
func newFilter(t testing.TB, target string, filter func(conn int, offset int64, b []byte) []byte) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: ln}
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		p.over = true // also of what was accepted and is not known yet
		p.mu.Unlock()
		p.cut()
		p.wg.Wait()
	})
	p.wg.Go(func() {
		for i := 0; ; i++ {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			over := p.over
			p.mu.Unlock()
			if over {
				p.cut()
			}
			p.wg.Go(func() { _, _ = io.Copy(in, out); in.Close() })
			p.wg.Go(func() {
				defer out.Close()
				b, offset := make([]byte, 64<<10), int64(0)
				for {
					n, err := in.Read(b)
					if n > 0 {
						pass := filter(i, offset, b[:n])
						offset += int64(n)
						if _, err := out.Write(pass); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			})
		}
	})
	return p
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func passed(int, int64, []byte) {}

// blackHole accepts connections and never reads. With shake it makes the handshake as the named member before.
func blackHole(t testing.TB, name string, shake bool) Peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	e := session.NewEndpoint(config(name).SessionConfig)
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			if shake {
				known := func(n string) (Peer, bool) { return peerAt(n, "x:1"), true }
				wg.Go(func() {
					_, _ = e.Answer(context.Background(), c, known, func(*session.Link) *RefusedError { return nil })
				})
			}
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return peerAt(name, ln.Addr().String())
}
