package transport

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// writes counts the writes of flush on a lane.
type writes struct{ all, partial atomic.Int32 }

func (w *writes) watch(n nowWriter) nowWriter { return watched{n, w} }

// watched is a nowWriter whose writes are counted.
type watched struct {
	nowWriter
	*writes
}

func (w watched) Write(b []byte) ([]byte, error) {
	rest, err := w.nowWriter.Write(b)
	w.all.Add(1)
	if len(rest) > 0 {
		w.partial.Add(1)
	}
	return rest, err
}

// writerless starts a member whose lanes to "b" are connected, as far as Send knows, and have no writer. What flush writes
// comes out of the returned connections.
func writerless(t *testing.T) (a *node, control, bulk net.Conn, w *writes) {
	t.Helper()
	a, w = listen(t, config("a")), new(writes)
	a.end.DialTCP = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	a.start(t, peerAt("b", "silence.invalid:1"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	connect := func(l *lane) net.Conn {
		out, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close(); in.Close() })
		_ = in.SetReadDeadline(time.Now().Add(patience))
		l.setUp(w.watch(inlineOf(session.NewLink(out, out))))
		return in
	}
	p := a.dir.Load().byName["b"]
	return a, connect(p.control), connect(p.bulk), w
}

// What Send can write, it writes, in one piece for each connection; nobody else is needed.
func TestSendWritesItself(t *testing.T) {
	a, control, bulk, w := writerless(t)
	readers := map[Purpose]*session.FrameReader{PurposeControl: session.NewFrameReader(control), PurposeBulk: session.NewFrameReader(bulk)}
	for round := range uint64(3) {
		a.send(app("a", "b", 10*round, []byte("x")), msg(raftpb.MsgHeartbeat, "a", "b", round),
			app("a", "b", 10*round+1, make([]byte, 100<<10)), app("a", "b", 10*round+2, nil))
		if n := w.all.Load(); n != int32(2*round+2) {
			t.Errorf("%d writes in %d rounds, should be two in each", n, round+1)
		}
		if q := a.Status()[0].Queued; q != 0 {
			t.Fatalf("%d bytes were left to the writers", q)
		}
		for i, p := range []Purpose{PurposeBulk, PurposeControl, PurposeBulk, PurposeBulk} {
			f, err := readers[p].Next(1 << 20)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := decodeMessage(f, p, 1, 2); err != nil || p == PurposeBulk && m.GetIndex() != 10*round+uint64((i+1)/2) {
				t.Fatalf("round %d, message %d: %v, %v", round, i, m, err)
			}
		}
	}
}

// noted is a nowWriter that tells before it writes.
type noted struct {
	nowWriter
	tell func()
}

func (n noted) Write(b []byte) ([]byte, error) {
	n.tell()
	return n.nowWriter.Write(b)
}

// A heartbeat is on its way before what is bulk is even encoded, whatever its place is among what is sent.
func TestHeartbeatsGoFirst(t *testing.T) {
	a, _, _, _ := writerless(t)
	p := a.dir.Load().byName["b"]
	var order []Purpose
	for _, l := range []*lane{p.bulk, p.control} {
		l.inline = noted{l.inline, func() { order = append(order, l.purpose) }}
	}
	a.send(app("a", "b", 1, make([]byte, 100<<10)), msg(raftpb.MsgHeartbeat, "a", "b", 1))
	if len(order) != 2 || order[0] != PurposeControl {
		t.Errorf("written in the order %v", order)
	}
}

func TestSendLeavesToTheWriter(t *testing.T) {
	for what, c := range map[string]struct {
		before func(*lane)
		size   int
	}{
		"while the writer is busy": {before: func(l *lane) { l.queue = make([]queued, 1); _, _, _ = l.take(nil) }},
		"what is behind a rest":    {before: func(l *lane) { l.rest = []byte("rest") }},
		"TLS":                      {before: func(l *lane) { l.inline = nil }},
		"what is large":            {before: func(*lane) {}, size: inlineSize},
	} {
		t.Run(what, func(t *testing.T) {
			a, _, _, w := writerless(t)
			l := a.dir.Load().byName["b"].bulk
			c.before(l)
			a.send(app("a", "b", 1, make([]byte, c.size)))
			if n := w.all.Load(); n != 0 || len(l.queue) != 1 {
				t.Errorf("%d writes, %d messages in the queue", n, len(l.queue))
			}
			select {
			case <-l.wake:
			default:
				t.Error("the writer was not woken")
			}
		})
	}
}

// Bytes that went past TLS would be a message to everybody on the way.
func TestSendLeavesTLSToTheWriter(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	c1, c2 := config("a"), config("b")
	c1.TLS, c2.TLS = ca.config(t), ca.config(t)
	a, _ := pair(t, c1, c2)
	l := a.dir.Load().byName["b"].bulk
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up || l.inline != nil {
		t.Error("Send would write into the socket below TLS")
	}
}

// Order and content survive every change between Send's own writes, their rests, and the writer.
func TestOrderWithAReaderThatIsSlow(t *testing.T) {
	t.Parallel()
	a, b := listen(t, config("a")), listen(t, config("b"))
	dial := a.end.DialTCP
	a.end.DialTCP = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			_ = conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
		}
		return conn, err
	}
	var gate sync.Mutex // held while the reader is to stand still
	px := newProxy(t, b.self.Addr, func(int, int64, []byte) { gate.Lock(); defer gate.Unlock() })
	a.start(t, peerAt("b", px.Addr().String()))
	b.start(t, a.self)
	a.connected(t)
	l := a.dir.Load().byName["b"].bulk
	var w writes
	l.mu.Lock()
	l.inline = w.watch(l.inline)
	l.mu.Unlock()

	data := func(i uint64) []byte {
		size := int(i * 7919 % 20_000)
		if i%200 == 0 {
			size += inlineSize // for the writer
		}
		return bytes.Repeat([]byte{byte(i) | 1, byte(i >> 8)}, size/2) // no batch
	}
	next := uint64(0)
	send := func() {
		a.send(app("a", "b", next, data(next)), app("a", "b", next+1, data(next+1)))
		next += 2
	}
	for range 10 {
		gate.Lock()
		for a.Status()[0].Queued == 0 {
			send()
		}
		for range 10 {
			send()
		}
		gate.Unlock()
		for range 20 { // while the writer and the reader are at work
			send()
		}
		eventually(t, "queue empty", func() bool { return a.Status()[0].Queued == 0 })
		for range 5 {
			send()
		}
	}
	b.wait(t, "all messages", func() bool { return len(b.got) == int(next) })
	for i, m := range b.messages() {
		if got := m.GetEntries()[0].GetData(); m.GetIndex() != uint64(i) || !bytes.Equal(got, data(uint64(i))) {
			t.Fatalf("message %d came as %d with %d bytes", i, m.GetIndex(), len(got))
		}
	}
	t.Logf("%d messages, %d writes by Send, %d of them partial", next, w.all.Load(), w.partial.Load())
	if w.partial.Load() == 0 {
		t.Error("no write was partial, so nothing was tested")
	}
	a.rmu.Lock()
	defer a.rmu.Unlock()
	if len(a.lost) > 0 {
		t.Error("the connection broke")
	}
}

// A peer that does not read holds up no Send, however long its connection lives, and the writer finds out that it is stuck.
func TestT10_SendDoesNotWaitForAStuckReader(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"its connection lives": 2 * patience, "its connection ends": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config("a")
			c.WriteTimeout = timeout
			a := listen(t, c)
			a.start(t, blackHole(t, "c", true))
			a.connected(t)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				data := make([]byte, 10<<10)
				for i := range uint64(3000) { // 30 MB: more than all socket buffers, less than the queue's bound
					a.send(app("a", "c", i, data))
				}
			}()
			select {
			case <-sent:
			case <-time.After(patience):
				t.Error("Send waits")
				a.Close()
				<-sent
				return
			}
			if timeout < patience {
				a.wait(t, "the stuck connection ends", func() bool { return len(a.lost) > 0 })
			}
		})
	}
}

// A socket that is full is neither waited for nor taken for broken.
func TestSendIntoAFullSocket(t *testing.T) {
	a, _, _, w := writerless(t)
	l := a.dir.Load().byName["b"].bulk
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		data := make([]byte, 10<<10)
		for i := range uint64(3000) {
			a.send(app("a", "b", i, data))
			l.mu.Lock()
			l.rest, l.bytes = nil, 0 // as if it had been written
			l.mu.Unlock()
		}
	}()
	select {
	case <-sent:
	case <-time.After(patience):
		t.Fatal("Send waits")
	}
	if l.failed != nil || w.partial.Load() < 2 {
		t.Errorf("%d writes found the socket full; error %v", w.partial.Load(), l.failed)
	}
}

// A connection of which nobody but Send's write knows that it is broken, ends, and is made again.
func TestSendNoticesABrokenConnection(t *testing.T) {
	t.Parallel()
	a := listen(t, config("a"))
	var mu sync.Mutex
	var dialled []*net.TCPConn
	dial := a.end.DialTCP
	a.end.DialTCP = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err == nil {
			mu.Lock()
			dialled = append(dialled, conn.(*net.TCPConn))
			mu.Unlock()
		}
		return conn, err
	}
	a.start(t, blackHole(t, "c", true))
	a.connected(t)
	mu.Lock()
	before := len(dialled)
	for _, conn := range dialled {
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	mu.Unlock()
	a.send(app("a", "c", 1, nil))
	a.wait(t, "the break is told", func() bool { return len(a.lost) == 1 })
	eventually(t, "dialled again", func() bool { mu.Lock(); defer mu.Unlock(); return len(dialled) > before })
	a.connected(t)
}

func TestFlushHandsItsErrorToTheWriter(t *testing.T) {
	for what, c := range map[string]struct {
		end  func(*net.TCPConn) error
		want error
	}{
		"closed by us": {func(c *net.TCPConn) error { return c.Close() }, net.ErrClosed},
		"broken pipe":  {func(c *net.TCPConn) error { return c.CloseWrite() }, syscall.EPIPE},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			a := listen(t, config("a"))
			l := newPeer(a.TCP, peerAt("b", "b:1")).bulk
			l.setUp(inlineOf(session.NewLink(conn, conn)))
			if err := c.end(conn.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				l.push(&Group{t: a.TCP, id: 7}, app("a", "b", 1, nil), 100)
				l.flush()
			}
			if len(l.wake) != 1 || l.inline != nil || len(l.queue) != 1 {
				t.Errorf("after the error: woken %d, queue %d", len(l.wake), len(l.queue))
			}
			if _, _, err := l.take(nil); !errors.Is(err, c.want) {
				t.Errorf("the writer gets %v", err)
			}
			l.setDown()
			if l.setUp(nil); l.failed != nil || l.bytes != 0 {
				t.Errorf("the next connection starts with %v and %d bytes", l.failed, l.bytes)
			}
		})
	}
}
