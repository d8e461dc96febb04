package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// ErrClosed is returned by [TCP.Group] and [TCP.SetPeers] after Close, and told to SnapshotSent for what Close cut off, or
// SetPeers by removing the peer.
var ErrClosed = errors.New("transport: closed")

// Handler takes what arrives for one group. Its methods are called from transport goroutines, several at once, and never
// from inside Send. It must not call Close, which waits for it.
type Handler interface {
	// Receive takes a message, which is the handler's from now on. Data of its entries that carries a checksum was verified. In order
	// for each peer and connection. It may block on
	// messages of the bulk connection (see laneOf: MsgApp, MsgAppResp, MsgReadIndex and its response), and holds up the
	// bulk messages of that peer meanwhile. It should not block on others: of those more than 1 MiB from one peer are lost.
	Receive(m *raftpb.Message)
	// Unreachable says that bulk messages to the peer were lost: its connection broke, or its address has changed (once for each break, to all
	// groups). Or, if dropped, this side has not sent them: the group's queue overflowed (once until the queue moves again), or one was too
	// large. That says nothing of the peer. Must not block.
	Unreachable(id uint64, dropped bool)
	// Gone is crash evidence: an established connection to or from the peer was ended by its own host, in order, as no member
	// does that goes on, and a dial of the address where that process was reached was refused right after it, so no process
	// listens there. A reset is no evidence, nor is a refusal alone. at is what Now said just before that dial: whoever
	// was heard from later is another process. Once until a connection to it is established again. Only with
	// Config.CrashEvidence. Must not block.
	Gone(id uint64, at time.Duration)
	// Now reads the handler's clock, for Gone. Must not block.
	Now() time.Duration
	// OpenSnapshot returns the body of a snapshot that is to be sent, and its size, -1 if unknown. It may block. The
	// transport closes the body. If the body has a method Rewind() error, which lets it be read from its beginning again, the
	// snapshot goes on over another connection where one breaks.
	OpenSnapshot(snap *raftpb.Snapshot) (body io.ReadCloser, size int64, err error)
	// ReceiveSnapshot takes a MsgSnap and reads its body to the end; size is -1 if unknown. Reading fails if the body is
	// damaged or cut: what was read before is then to be thrown away. io.EOF, or the last of size bytes, means that the
	// whole body was verified. Until then the term of m may grow: the sender may have become the leader anew. The error is
	// told to the sender, but one that matches [net.ErrClosed]: that the receiver is being closed says nothing of the snapshot, which goes
	// on when it is back. It may block. One at a time for each peer. The body has a method Resume(have int64, sum [32]byte) (from int64,
	// err error), which may be called before the first Read, by who has kept the first bytes of an earlier body of the same snapshot,
	// and their SHA-256: if the sender's body begins so, it is read from there on; from is 0 if it does not.
	ReceiveSnapshot(m *raftpb.Message, size int64, body io.Reader) error
	// SnapshotSent is the fate of m, a MsgSnap given to Send, exactly one for each until Close: nil when the receiver's
	// ReceiveSnapshot returned nil. With an error the receiver may still have it. It may come after a later MsgSnap was
	// given to Send: what it says is of m alone. Must not block.
	SnapshotSent(m *raftpb.Message, err error)
}

// TCP connects this member with its peers. Its methods may be called from any goroutine.
type TCP struct {
	end     *session.Endpoint
	cfg     Config
	said    *session.Conditions // end.Said
	lobby   lobby
	changed chan struct{} // 1: the peers changed; the supervisor starts what is new
	reached atomic.Bool   // somebody has come in
	closing chan struct{} // closed by Close
	counts  tcpCounts
	pacer   *pacer  // of snapshots
	unbound error   // why there was nothing to listen on at first
	shared  *shared // nil: the port is ours alone
	dir     atomic.Pointer[directory]

	memberStreams, clientStreams streams
	clients                      atomic.Int64 // sessions of those who are no members

	wg        sync.WaitGroup
	mu        sync.Mutex         // guards what follows, replacing dir, and wg.Add against Wait
	listeners []net.Listener     // empty: the name to listen on leads nowhere yet
	cancel    context.CancelFunc // nil before the start
	closed    bool
}

// directory is who and what is registered. It is immutable; changes replace it.
type directory struct {
	groups map[uint64]*Group
	kinds  map[string]service // of streams
	byID   map[uint64]*peer
	byName map[string]*peer
}

// Listen validates c, reporting all its faults, and binds the address, or all addresses of this host that its name leads to.
// Until the first [TCP.Group] nothing else happens: who dials us waits in the listener's backlog. An address that is taken is
// an error that matches syscall.EADDRINUSE. A name that leads nowhere yet, or to other hosts only, is none: after the first Group it
// is tried again until it does, with a problem "address" meanwhile, and nobody is dialled before.
func Listen(c Config) (*TCP, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	e := session.NewEndpoint(c.SessionConfig)
	if err := e.Prepare(); err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bindTimeout)
	defer cancel()
	all, err := []net.Listener{c.Listener}, error(nil)
	if c.Listener == nil {
		all, err = bind(ctx, e, c.Bind)
	}
	if err != nil && !errors.Is(err, errNotYet) {
		return nil, err
	}
	t := &TCP{end: e, cfg: c, said: e.Said, listeners: all, unbound: err, changed: make(chan struct{}, 1), closing: make(chan struct{}), pacer: &pacer{most: c.SnapshotLimit, now: c.SnapshotPace}}
	if c.Share {
		t.shared = newShared(t)
	}
	t.memberStreams.budget, t.clientStreams.budget = session.NewBudget(c.StreamBytes), session.NewBudget(c.StreamBytes)
	e.Members = t.members
	t.dir.Store(&directory{groups: map[uint64]*Group{}, kinds: map[string]service{}, byID: map[uint64]*peer{}, byName: map[string]*peer{}})
	t.setPeersLocked(c.Peers)
	return t, nil
}

// Addr returns the address that is listened on, the first one if there are several, or nil as long as there is none.
func (t *TCP) Addr() net.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.listeners) == 0 {
		return nil
	}
	return t.listeners[0].Addr()
}

// Group registers a group of raft members. The first one starts accepting and dialling. It fails if the id is taken, or
// with ErrClosed. Messages for a group that is not registered are dropped.
func (t *TCP) Group(id uint64, h Handler) (*Group, error) {
	if h == nil {
		return nil, errors.New("transport: group needs a handler")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	d := *t.dir.Load()
	if _, ok := d.groups[id]; ok {
		return nil, fmt.Errorf("transport: group %d is registered already", id)
	}
	g := &Group{t: t, id: id, h: h, news: notices{wake: make(chan struct{}, 1)}}
	d.groups = maps.Clone(d.groups)
	d.groups[id] = g
	t.dir.Store(&d)
	t.wg.Go(func() { g.news.deliver(h, t.closing) })
	if t.cancel == nil {
		var ctx context.Context
		ctx, t.cancel = context.WithCancel(context.Background())
		t.wg.Go(func() { t.listen(ctx) })
	}
	return g, nil
}

// SetPeers replaces the peers: connections to and from those that are gone or changed end, and those that are new or
// changed are dialled. It fails with all faults of the list, or with ErrClosed.
func (t *TCP) SetPeers(peers []Peer) error {
	if err := errors.Join(session.ValidatePeers(t.cfg.Self, peers)...); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	t.setPeersLocked(peers)
	session.Signal(t.changed)
	return nil
}

func (t *TCP) setPeersLocked(peers []Peer) {
	old := t.dir.Load()
	d := &directory{groups: old.groups, kinds: old.kinds, byID: map[uint64]*peer{}, byName: map[string]*peer{}}
	for _, p := range peers {
		if p == t.cfg.Self {
			continue
		}
		q := old.byID[p.ID]
		if q == nil || q.Peer != p {
			q = newPeer(t, p)
		}
		d.byID[p.ID], d.byName[p.Name] = q, q
	}
	t.dir.Store(d)
	for id, p := range old.byID {
		if q := d.byID[id]; q != p {
			p.remove(q == nil)
			if q != nil {
				t.unreachable(id) // what was on the way to the old address is lost
			}
		}
	}
}

// supervise starts the peers. All goroutines of a peer but the checks for crash evidence start here.
func (t *TCP) supervise(ctx context.Context) {
	for {
		t.mu.Lock()
		if !t.closed {
			for _, p := range t.dir.Load().byID {
				p.startLocked(ctx)
			}
		}
		t.mu.Unlock()
		select {
		case <-t.changed:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends all connections and the listener, and waits for all goroutines, so also for running Handler methods. It may
// be called again. A listener that closes is what makes others see this member as gone: give up every role before.
func (t *TCP) Close() error {
	t.mu.Lock()
	first := !t.closed
	var err error
	if first {
		t.closed = true
		close(t.closing)
		err = closeAll(t.listeners)
		if t.cancel != nil {
			t.cancel()
		}
		d := t.dir.Load()
		t.dir.Store(&directory{groups: d.groups})
		for _, p := range d.byID {
			p.remove(true)
		}
	}
	t.mu.Unlock()
	t.wg.Wait()
	t.end.Close()
	return err
}

// spawn runs f in a goroutine that Close waits for, or not at all after Close.
func (t *TCP) spawn(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.wg.Go(f)
	}
}

func (t *TCP) known(name string) (Peer, bool) {
	if p := t.dir.Load().byName[name]; p != nil {
		return p.Peer, true
	}
	return Peer{}, false
}

// members returns the present list, this member included.
func (t *TCP) members() []Peer {
	all := []Peer{t.cfg.Self}
	for _, p := range t.dir.Load().byID {
		all = append(all, p.Peer)
	}
	return all
}

func (t *TCP) unreachable(id uint64) {
	for _, g := range t.dir.Load().groups {
		g.news.add(notice{what: noticeUnreachable, id: id})
	}
}

// PeerStatus is what the transport knows about a peer.
type PeerStatus struct {
	Peer
	Control, Bulk bool  // connected for sending
	Inbound       int   // connections from it
	Queued        int64 // bytes in both queues and being written
}

// Status returns the state of all peers, by id.
func (t *TCP) Status() []PeerStatus {
	var all []PeerStatus
	for _, p := range t.dir.Load().byID {
		all = append(all, p.status())
	}
	slices.SortFunc(all, func(a, b PeerStatus) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return all
}
