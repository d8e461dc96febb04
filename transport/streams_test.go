package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/session"
)

var everyRole = []Role{RoleMember, RoleClient, RoleOperator}

func echo(_ context.Context, st *Stream) error {
	for {
		p, err := st.Recv(1 << 20)
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		if err := st.Send(p); err != nil {
			return err
		}
	}
}

func tail(_ context.Context, st *Stream) error {
	p := make([]byte, 64<<10)
	for {
		if _, err := st.Write(p); err != nil {
			return err
		}
	}
}

func handle(t testing.TB, n *node, kind string, h StreamHandler, roles ...Role) {
	t.Helper()
	if err := n.Handle(kind, roles, h); err != nil {
		t.Fatal(err)
	}
}

// asks sends a message on a stream and wants it back.
func asks(t testing.TB, st *Stream, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Send([]byte(what)); err != nil {
		t.Fatal(err)
	}
	if got, err := st.Recv(1 << 20); err != nil || string(got) != what {
		t.Fatalf("%q, %v", got, err)
	}
}

func client(t testing.TB, change func(c *session.ClientConfig)) *session.Client {
	t.Helper()
	c := session.ClientConfig{Cluster: "jobs", Name: "report", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	cl, err := session.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func dialled(t testing.TB, c *session.Client, addr string) *session.Mux {
	t.Helper()
	m, err := c.Dial(t.Context(), addr, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Every member opens streams to every other, whoever asked first, and clients to all of them.
func TestStreamsBetweenAll(t *testing.T) {
	for what, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			c1, c2 := config("a"), config("b")
			if secure {
				c1.TLS, c2.TLS = ca.issue(t, is(RoleMember, "a")), ca.issue(t, is(RoleMember, "b"))
			}
			a, b := pair(t, c1, c2)
			var who atomic.Value
			for _, n := range []*node{a, b} {
				handle(t, n, "echo", func(ctx context.Context, st *Stream) error {
					who.Store(st.Peer().Name)
					return echo(ctx, st)
				}, everyRole...)
			}
			for range 3 {
				st, err := a.Open(t.Context(), "b", "echo")
				asks(t, st, err, "from a")
				if who.Load() != "a" {
					t.Errorf("the stream is %v's", who.Load())
				}
				st, err = b.Open(t.Context(), "a", "echo")
				asks(t, st, err, "from b")
			}
			for _, role := range []Role{RoleClient, RoleOperator} {
				m := dialled(t, client(t, func(c *session.ClientConfig) {
					c.Role = role
					if secure {
						c.TLS = ca.issue(t, is(role, ""))
					}
				}), b.self.Addr)
				if h := m.Peer(); h.Name != "b" || len(h.Members) > 0 {
					t.Errorf("a %v was told %+v", role, h)
				}
				st, err := m.Open(t.Context(), "echo")
				asks(t, st, err, "from outside")
				m.Close()
			}
			eventually(t, "clients have gone", func() bool { return b.Stats().Clients == 0 })
			got, want := b.Stats().ClientStreams, StreamStats{Served: 2, SentBytes: 2 * 16, ReceivedBytes: 2 * 16}
			eventually(t, "nothing is held", func() bool { got = b.Stats().ClientStreams; return got.Held == 0 })
			if got != want {
				t.Errorf("streams of clients: %+v, should be %+v", got, want)
			}
			if s := a.Stats().MemberStreams; s.Opened != 3 || s.Served != 3 || s.SentBytes == 0 || s.ReceivedBytes != s.SentBytes {
				t.Errorf("streams of members: %+v", s)
			}
		})
	}
}

func TestStreamRefusals(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	handle(t, b, "vote", echo, RoleMember)
	handle(t, b, "change", echo, RoleOperator)
	handle(t, b, "read", echo, RoleMember, RoleClient)
	for _, bad := range []func() error{
		func() error { return b.Handle("read", everyRole, echo) },
		func() error { return b.Handle("a b", everyRole, echo) },
		func() error { return b.Handle("x", nil, echo) },
		func() error { return b.Handle("x", everyRole, nil) },
	} {
		if bad() == nil {
			t.Error("was taken")
		}
	}
	m := dialled(t, client(t, nil), b.self.Addr)
	opens := map[string]func(kind string) (*Stream, error){
		"client": func(kind string) (*Stream, error) { return m.Open(t.Context(), kind) },
		"member": func(kind string) (*Stream, error) { return a.Open(t.Context(), "b", kind) },
	}
	for _, c := range []struct {
		who, kind string
		code      StreamCode
	}{
		{"client", "read", 0}, {"client", "vote", StreamForbidden}, {"client", "change", StreamForbidden}, {"client", "dance", StreamNoKind},
		{"member", "read", 0}, {"member", "vote", 0}, {"member", "change", StreamForbidden}, {"member", "dance", StreamNoKind},
	} {
		st, err := opens[c.who](c.kind)
		if c.code == 0 {
			asks(t, st, err, "x")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Recv(1); !errors.Is(err, &StreamError{Code: c.code}) {
			t.Errorf("%s opens %q: %v", c.who, c.kind, err)
		}
		st.Close()
	}
	if _, err := a.Open(t.Context(), "nobody", "read"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("unknown member: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := a.SetPeers([]Peer{b.self, blackHole(t, "c", false)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(ctx, "c", "read"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("black hole: %v", err)
	}
	if _, err := client(t, nil).Dial(t.Context(), b.self.Addr, "c"); !errors.Is(err, ErrWrongMember) {
		t.Errorf("another member than the one dialled: %v", err)
	}
	if _, err := client(t, func(c *session.ClientConfig) { c.Cluster = "mail" }).Dial(t.Context(), b.self.Addr, ""); !errors.Is(err, ErrWrongCluster) {
		t.Errorf("another cluster: %v", err)
	}
}

// A client cannot be what it has no certificate for, and nobody can be a member to it with a client's.
func TestT17_RolesByCertificate(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	cb := config("b")
	cb.TLS = ca.issue(t, is(RoleMember, "b"))
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	handle(t, b, "echo", echo, everyRole...)
	fake := config("b")
	fake.TLS = ca.issue(t, is(RoleClient, ""))
	f := listen(t, fake)
	f.start(t, peerAt("a", "127.0.0.1:1"))
	for _, c := range []struct {
		what string
		addr string
		role Role
		cert func(*authority) *session.ClientConfig
		want error
	}{
		{"client", b.self.Addr, RoleClient, nil, nil},
		{"operator with a client's", b.self.Addr, RoleOperator, nil, ErrUnauthorized},
		{"at an impostor's", f.self.Addr, RoleClient, nil, ErrUnauthorized},
	} {
		m, err := client(t, func(cc *session.ClientConfig) { cc.Role, cc.TLS = c.role, ca.issue(t, is(RoleClient, "")) }).Dial(t.Context(), c.addr, "")
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", c.what, err)
		}
		if err == nil {
			st, err := m.Open(t.Context(), "echo")
			asks(t, st, err, "x")
			m.Close()
		}
	}
	if _, err := client(t, func(cc *session.ClientConfig) { cc.TLS = other.issue(t, is(RoleClient, "")) }).Dial(t.Context(), b.self.Addr, ""); err == nil {
		t.Error("a client of another authority was let in")
	}
	if _, err := client(t, nil).Dial(t.Context(), b.self.Addr, ""); err == nil {
		t.Error("a client without TLS was let in")
	}
}

func TestClientsAreBounded(t *testing.T) {
	t.Parallel()
	c := config("b")
	c.MaxClients = 3
	b := listen(t, c)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	cl := client(t, nil)
	var all []*session.Mux
	for range 3 {
		all = append(all, dialled(t, cl, b.self.Addr))
	}
	if _, err := cl.Dial(t.Context(), b.self.Addr, ""); !errors.Is(err, ErrBusy) {
		t.Errorf("a fourth of three: %v", err)
	}
	all[0].Close()
	eventually(t, "there is room again", func() bool { return b.clients.Load() == 2 })
	dialled(t, cl, b.self.Addr)
}

// A member that comes back is reached again; what was open is lost, and says so.
func TestStreamsAfterARestart(t *testing.T) {
	t.Parallel()
	cb := staying(t, config("b"))
	a, b := pair(t, config("a"), cb)
	handle(t, b, "echo", echo, RoleMember)
	st, err := a.Open(t.Context(), "b", "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(1); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := st.Recv(1); !errors.Is(err, &StreamError{Code: StreamClosed}) {
		t.Errorf("after its end: %v", err)
	}
	eventually(t, "an open fails", func() bool {
		st, err := a.Open(t.Context(), "b", "echo")
		if err == nil {
			st.Close()
		}
		return err != nil
	})
	again := listen(t, cb)
	handle(t, again, "echo", echo, RoleMember)
	again.start(t, a.self)
	eventually(t, "reached again", func() bool {
		st, err = a.Open(t.Context(), "b", "echo")
		return err == nil
	})
	asks(t, st, err, "again")
}

// Who is no longer a member is told by the end of its streams.
func TestStreamsOfARemovedPeer(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	over := make(chan error, 1)
	handle(t, b, "hold", func(ctx context.Context, st *Stream) error {
		_ = st.Send(nil)
		<-ctx.Done()
		over <- context.Cause(ctx)
		return nil
	}, RoleMember)
	st, err := a.Open(t.Context(), "b", "hold")
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if _, err := st.Recv(1); err != nil {
		t.Fatal(err)
	}
	if err := b.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(1); !errors.Is(err, &StreamError{Code: StreamClosed}) {
		t.Errorf("the stream ended with %v", err)
	}
	<-over
	if err := a.SetPeers(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(t.Context(), "b", "hold"); !errors.Is(err, ErrUnknownMember) {
		t.Errorf("open: %v", err)
	}
}

func TestCloseWithStreams(t *testing.T) {
	t.Parallel()
	for range 10 {
		a, b := pair(t, config("a"), config("b"))
		handle(t, a, "echo", echo, RoleMember)
		handle(t, b, "tail", tail, RoleMember)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					st, err := a.Open(context.Background(), "b", "tail")
					if err != nil {
						return
					}
					_, _ = io.CopyN(io.Discard, st, 1<<20)
					st.Close()
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		b.Close()
		a.Close()
		wg.Wait()
		if _, err := a.Open(context.Background(), "b", "tail"); err == nil {
			t.Error("opened after Close")
		}
		if err := a.Handle("late", everyRole, echo); !errors.Is(err, ErrClosed) {
			t.Errorf("Handle after Close: %v", err)
		}
	}
}

// Heartbeats do not wait for what streams carry, at whatever rate.
func TestG8_HeartbeatsBesideStreams(t *testing.T) {
	t.Parallel()
	a, b := pair(t, config("a"), config("b"))
	handle(t, b, "tail", tail, RoleMember)
	round := func(n int) (nearly, worst time.Duration) { // all but a tenth take at most nearly: of those a busy machine makes some late
		var took []time.Duration
		for i := range n {
			began, term := time.Now(), uint64(i+1)
			seen := len(b.messages())
			a.send(msg(raftpb.MsgHeartbeat, "a", "b", term))
			b.wait(t, "heartbeat", func() bool { return len(b.got) > seen })
			took = append(took, time.Since(began))
			time.Sleep(time.Millisecond) // heartbeats are not sent one after the other
		}
		slices.Sort(took)
		return took[n*9/10], took[n-1]
	}
	quiet, most := round(200)
	var bytes atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		st, err := a.Open(ctx, "b", "tail")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer st.Close()
			p := make([]byte, 64<<10)
			for {
				n, err := st.Read(p)
				if bytes.Add(int64(n)); err != nil {
					return
				}
			}
		})
	}
	eventually(t, "streams flow", func() bool { return bytes.Load() > 64<<20 })
	before, began := bytes.Load(), time.Now()
	loud, loudest := round(200)
	rate := float64(bytes.Load()-before) / time.Since(began).Seconds()
	cancel()
	wg.Wait()
	t.Logf("90 of 100 heartbeats take at most %v, the slowest %v; beside streams of %.0f MB/s %v and %v", quiet, most, rate/1e6, loud, loudest)
	if loud > 500*time.Millisecond {
		t.Errorf("a heartbeat took %v beside streams, %v without", loud, quiet)
	}
}

func descriptors(t testing.TB) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(all)
}

// Strangers by the thousand, garbage, wrong roles, clients that vote: each is told or cut off, and nobody else notices.
func TestT23_Strangers(t *testing.T) {
	cb := config("b")
	cb.HandshakeTimeout = 2 * patience // nobody goes because of that
	a, b := pair(t, config("a"), cb)
	handle(t, b, "echo", echo, everyRole...)
	goroutines, fds := runtime.NumGoroutine(), descriptors(t)
	control := func() *session.Link {
		p := b.dir.Load().byName["a"]
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.live[PurposeControl]
	}
	was := control()

	// Those who say nothing. The test's own ends are descriptors, too.
	var silent []net.Conn
	for range 1500 {
		c, err := net.Dial("tcp", b.self.Addr)
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
		if len(silent)%100 == 0 {
			beats(t, "among silent ones", a, b)
		}
	}
	eventually(t, "few have a goroutine", func() bool { return runtime.NumGoroutine()-goroutines <= 4*maxHandshakes }) // whose connection was closed ends when it gets to run
	eventually(t, "few are open on this side", func() bool { return descriptors(t)-fds-len(silent) <= 2*maxHandshakes })
	for _, c := range silent {
		c.Close()
	}

	// Wrong roles: the handshake says no.
	hello := func(change func(*Hello)) []byte {
		h := Hello{Version: Version, Cluster: "jobs", Name: "x", Instance: 9, Purpose: PurposeStream, Role: RoleClient}
		change(&h)
		body, err := session.EncodeHello(h)
		if err != nil {
			t.Fatal(err)
		}
		return session.AppendFrame(session.AppendOpening(nil), session.KindHello, 0, body)
	}
	for what, c := range map[string]struct {
		bytes []byte
		code  Code
	}{
		"a client that votes":                    {hello(func(h *Hello) { h.Purpose = PurposeControl }), CodeProtocol},
		"a client that appends":                  {hello(func(h *Hello) { h.Purpose = PurposeBulk }), CodeProtocol},
		"an operator with a snapshot":            {hello(func(h *Hello) { h.Purpose, h.Role = PurposeSnapshot, RoleOperator }), CodeProtocol},
		"a role that there is not":               {hello(func(h *Hello) { h.Role = 9 }), CodeProtocol},
		"a purpose that there is not":            {hello(func(h *Hello) { h.Purpose = 77 }), CodeProtocol},
		"a client with a member's name":          {hello(func(h *Hello) { h.Name, h.Purpose = "a", PurposeControl }), CodeProtocol},
		"a client for somebody else":             {hello(func(h *Hello) { h.To = "c" }), CodeWrongMember},
		"a member with a stream that is unknown": {hello(func(h *Hello) { h.Role, h.To = RoleMember, "b" }), CodeUnknownMember},
	} {
		got := hear(t, b.self.Addr, c.bytes)
		r := session.NewFrameReader(bytes.NewReader(got))
		if _, err := r.Opening(); err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		f, err := r.Next(session.MaxHello)
		if err != nil || f.Kind != session.KindRefuse {
			t.Errorf("%s: answered with type %d, %v", what, f.Kind, err)
			continue
		}
		if code, text, _ := session.DecodeCoded(f.Body); Code(code) != c.code {
			t.Errorf("%s: refused with %v: %s", what, Code(code), text)
		}
	}

	// A client that is let in, and sends what is raft's.
	for _, k := range []session.Kind{session.KindMessage, session.KindSnapshot, session.KindChunk, session.KindTaken, session.KindHello} {
		body := messageFrame(t, msg(raftpb.MsgVote, "a", "b", 99))[session.HeaderSize:]
		hear(t, b.self.Addr, session.AppendFrame(hello(func(*Hello) {}), k, 7, body))
	}
	if slices.ContainsFunc(b.messages(), func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgVote }) {
		t.Error("a client has voted")
	}
	eventually(t, "they are gone", func() bool { return b.clients.Load() == 0 })
	beats(t, "after all this", a, b)
	if control() != was {
		t.Error("a's control connection was replaced")
	}
	eventually(t, "no more goroutines than before", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	st, err := a.Open(t.Context(), "b", "echo")
	asks(t, st, err, "hello")
}
