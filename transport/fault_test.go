package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// long is a time for which nobody waits here who does not wait for the faulty peer.
const long = 20 * time.Second

// delivers checks that a's messages reach b without waiting for the faulty peer "c", to which a also sends.
func delivers(t *testing.T, a, b *node, faulty string) {
	t.Helper()
	eventually(t, "b is reached", func() bool {
		return slices.ContainsFunc(a.Status(), func(s PeerStatus) bool { return s.Name == "b" && s.Control && s.Bulk })
	}) // before that heartbeats are not kept for long
	data := make([]byte, 256<<10)
	for i := range 40 {
		start := time.Now()
		if faulty != "" {
			for range 4 {
				a.send(app("a", faulty, uint64(i), data), msg(raftpb.MsgHeartbeat, "a", faulty, uint64(i)))
			}
		}
		a.send(msg(raftpb.MsgHeartbeat, "a", "b", uint64(i)), app("a", "b", uint64(i), data[:100]))
		if d := time.Since(start); d > long/2 {
			t.Fatalf("Send took %v", d)
		}
		b.wait(t, "delivery", func() bool { return len(b.got) == 2*(i+1) })
		if d := time.Since(start); d > long/2 {
			t.Fatalf("message %d took %v", i, d)
		}
	}
}

func TestT10_BlackHoleSlowsNobody(t *testing.T) {
	for _, shake := range []bool{false, true} {
		t.Run(map[bool]string{false: "no handshake", true: "never reads"}[shake], func(t *testing.T) {
			t.Parallel()
			c := config("a")
			c.QueueBytes, c.WriteTimeout, c.HandshakeTimeout = 4<<20, long, long
			a, b := listen(t, c), listen(t, config("b"))
			hole := blackHole(t, "c", shake)
			a.start(t, hole, b.self)
			b.start(t, a.self)
			delivers(t, a, b, "c")
			a.wait(t, "overflow of the black hole", func() bool { return len(a.dropped) > 0 && a.dropped[0] == ids["c"] })
		})
	}
}

func TestT10_UnresolvableNameDelaysNobody(t *testing.T) {
	t.Parallel()
	c := config("a")
	a, b := listen(t, c), listen(t, config("b"))
	// A resolver that answers nothing, and a name that does not exist. The real one may be of either kind, and goes on when nobody waits for it any more.
	a.end.Names.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	real := a.end.DialTCP
	a.end.DialTCP = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "silence") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return real(ctx, network, addr)
	}
	start := time.Now()
	a.start(t, peerAt("c", "silence.invalid:1"), peerAt("d", "nowhere.invalid:1"), b.self)
	b.start(t, a.self)
	if d := time.Since(start); d > long/2 {
		t.Errorf("the start took %v", d)
	}
	delivers(t, a, b, "c")
}

func TestG8_QueueIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	const bound = 1 << 20
	c := config("a")
	c.QueueBytes, c.WriteTimeout = bound, time.Minute
	a := listen(t, c)
	a.start(t, blackHole(t, "c", true))
	a.connected(t)
	data := make([]byte, 10<<10)
	most := int64(0)
	for i := range uint64(5000) { // 50 MB, more than all socket buffers
		a.send(app("a", "c", i, data), msg(raftpb.MsgHeartbeat, "a", "c", i))
		most = max(most, a.Status()[0].Queued)
	}
	if most > bound+controlBytes {
		t.Errorf("%d bytes were queued, the bounds are %d + %d", most, bound, controlBytes)
	}
	a.wait(t, "overflow", func() bool { return len(a.dropped) > 0 })
}

// While the queue does not move, more loss is not news; to each group. It says nothing of the other side.
func TestG8_OverflowIsToldOnce(t *testing.T) {
	t.Parallel()
	c := config("a")
	c.QueueBytes = 1 << 20
	a := listen(t, c)
	a.end.DialTCP = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	a.start(t, peerAt("c", "silence.invalid:1"))
	second := newRecorder()
	g8, err := a.Group(8, second)
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 10<<10)
	for i := range uint64(1000) {
		a.send(app("a", "c", i, data))
		g8.Send([]*raftpb.Message{app("a", "c", i, data)})
		if i == 500 {
			a.wait(t, "overflow", func() bool { return len(a.dropped) == 1 }) // delivered, so that later ones are not merged with it
		}
	}
	second.wait(t, "overflow", func() bool { return len(second.dropped) == 1 })
	a.group.news.add(notice{what: noticeGone, id: 99}) // comes after all before it
	a.wait(t, "marker", func() bool { return len(a.gone) == 1 })
	a.rmu.Lock()
	defer a.rmu.Unlock()
	if len(a.dropped) != 1 || len(a.lost) != 0 {
		t.Errorf("overflow was reported %d times, and %d times as a break", len(a.dropped), len(a.lost))
	}
}

// A message larger than the queue's bound is sent when the queue is empty.
func TestG8_OneMessageLargerThanTheQueue(t *testing.T) {
	t.Parallel()
	c := config("a")
	c.QueueBytes = 1000
	a, b := pair(t, c, config("b"))
	a.send(app("a", "b", 1, make([]byte, 100<<10)))
	b.wait(t, "message", func() bool { return len(b.got) == 1 })
}

// A receiver that blocks holds the sender back, and nothing is lost or reordered while the queue has room.
func TestG8_BackPressure(t *testing.T) {
	t.Parallel()
	a, b := listen(t, config("a")), listen(t, config("b"))
	b.block = make(chan struct{})
	a.start(t, b.self)
	b.start(t, a.self)
	a.connected(t)
	data := make([]byte, 1<<20)
	for i := range uint64(30) {
		a.send(app("a", "b", i, data))
	}
	close(b.block)
	b.wait(t, "all", func() bool { return len(b.got) == 30 })
	for i, m := range b.messages() {
		if m.GetIndex() != uint64(i) {
			t.Fatalf("message %d has index %d", i, m.GetIndex())
		}
	}
}

func TestT17_CorruptionOnTheWayDeliversNothingWrong(t *testing.T) {
	t.Parallel()
	a, b := listen(t, config("a")), listen(t, config("b"))
	var mu sync.Mutex
	hits := 0
	px := newProxy(t, b.self.Addr, func(conn int, offset int64, p []byte) {
		mu.Lock()
		defer mu.Unlock()
		// Past the handshake, on the first connections: a flipped bit somewhere in each piece.
		if offset > 0 && hits < 20 {
			hits++
			p[(hits*7919)%len(p)] ^= 1 << (hits % 8)
		}
	})
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	payload := func(i uint64) []byte { return bytes.Repeat([]byte{byte(i) | 1}, 300) } // no batch
	for i := uint64(0); ; i++ {
		a.send(app("a", "b", i, payload(i)))
		mu.Lock()
		done := hits == 20
		mu.Unlock()
		if done {
			break
		}
		time.Sleep(time.Millisecond)
	}
	a.connected(t)
	for i := uint64(1 << 20); ; i++ {
		a.send(app("a", "b", i, payload(i)))
		got := b.messages()
		if len(got) > 0 && got[len(got)-1].GetIndex() >= 1<<20 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, m := range b.messages() {
		if !bytes.Equal(m.GetEntries()[0].GetData(), payload(m.GetIndex())) {
			t.Fatalf("message %d was delivered altered", m.GetIndex())
		}
	}
}

// An admitted connection that speaks for another member is closed, and delivers nothing.
func TestT17_SpeakingForAnother(t *testing.T) {
	t.Parallel()
	b := listen(t, config("b"))
	b.start(t, peerAt("a", "127.0.0.1:1"))
	for what, m := range map[string]*raftpb.Message{
		"other sender": app("c", "b", 1, nil), "other receiver": app("a", "c", 1, nil),
		"local": msg(raftpb.MsgHup, "a", "b", 1), "control on bulk": msg(raftpb.MsgVote, "a", "b", 1),
	} {
		l, err := session.NewEndpoint(config("a").SessionConfig).Dial(t.Context(), b.self, PurposeBulk)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Send(messageFrame(t, m), time.Second); err != nil {
			t.Fatal(err)
		}
		_ = l.SetReadDeadline(time.Now().Add(patience))
		if _, err := l.Read(make([]byte, 1)); !session.HungUp(err) {
			t.Errorf("%s: %v", what, err)
		}
		l.Close()
	}
	if got := b.messages(); len(got) != 0 {
		t.Errorf("delivered %v", got)
	}
}

func TestNewestConnectionWins(t *testing.T) {
	t.Parallel()
	b := listen(t, config("b"))
	b.start(t, peerAt("a", "127.0.0.1:1"))
	dial := func(e *session.Endpoint, p Purpose) (*session.Link, error) { return e.Dial(t.Context(), b.self, p) }
	must := func(l *session.Link, err error) *session.Link {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	old, young := session.NewEndpoint(config("a").SessionConfig), session.NewEndpoint(config("a").SessionConfig)
	c1, b1 := must(dial(old, PurposeControl)), must(dial(old, PurposeBulk))
	b2 := must(dial(old, PurposeBulk))
	if !ended(b1) {
		t.Error("older bulk connection lives")
	}
	b3 := must(dial(young, PurposeBulk)) // a restarted process replaces all of its predecessor's
	if !ended(c1) || !ended(b2) {
		t.Error("predecessor's connections live")
	}
	if _, err := dial(old, PurposeControl); !errors.Is(err, ErrDuplicate) {
		t.Errorf("predecessor came back beside its successor: %v", err)
	}
	b3.Close()
	eventually(t, "successor left", func() bool { return b.Status()[0].Inbound == 0 })
	must(dial(old, PurposeControl))
}

// Strangers that fill the lobby and say nothing do not keep members out.
func TestG8_FullLobby(t *testing.T) {
	t.Parallel()
	c := config("b")
	c.HandshakeTimeout = 2 * patience // nobody goes because of that
	b := listen(t, c)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	var strangers []net.Conn
	for range 2 * maxHandshakes {
		c, err := net.Dial("tcp", b.self.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		strangers = append(strangers, c)
	}
	_ = strangers[0].SetReadDeadline(time.Now().Add(patience))
	if _, err := strangers[0].Read(make([]byte, 1)); !session.HungUp(err) {
		t.Errorf("the oldest of %d strangers may stay: %v", len(strangers), err)
	}
	if _, err := Probe(t.Context(), config("a"), b.self); err != nil {
		t.Error(err)
	}
}
