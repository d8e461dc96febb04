package client_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// stranger opens a session of a role with a member, past the client's own manners.
func stranger(t *testing.T, addr string, role session.Role) *session.Mux {
	t.Helper()
	c, err := session.NewClient(session.ClientConfig{Cluster: "test", Name: "stranger", Role: role, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Dial(t.Context(), addr, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func open(t *testing.T, m *session.Mux, kind string) *session.Stream {
	t.Helper()
	st, err := m.Open(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return st
}

// TestT17_CallBeforeGarbage: what a caller sends behind a call, or does not send, does not keep the call's record waiting, nor those of others in the same batch. Nothing
// else wakes the loop here for minutes.
func TestT17_CallBeforeGarbage(t *testing.T) {
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.Heartbeat, cfg.ElectionTimeout = 2*time.Minute, 10*time.Minute
	})
	n, _ := c.active()
	time.Sleep(300 * time.Millisecond) // the loop has a look soon after a start
	m := stranger(t, c.addr(n.Status().Name), session.RoleClient)
	for what, rest := range map[string][]byte{"garbage": {0, 0, 0, 1, 7}, "the half of one": {0, 0, 0, 50, 1, 2, 3}, "nothing": nil} {
		st := open(t, m, wire.KindCall)
		recv := func() wire.Reply {
			b, err := st.Recv(wire.MaxCallMessage)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			r, err := wire.ParseReply(b)
			if err != nil || r.Code != wire.CallDone {
				t.Fatalf("%s: code %d, %v", what, r.Code, err)
			}
			return r
		}
		send := func(b []byte) {
			if _, err := st.Write(b); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		ask := wire.Request{Op: wire.OpSession}
		send(ask.AppendMessage(nil))
		s, err := wire.ParseSession(recv().Body)
		if err != nil {
			t.Fatal(err)
		}
		before := n.Stats().Log.Appended
		q := wire.Request{Op: wire.OpCall, Session: s, Number: 1, Done: 0, Data: number(1)}
		call := q.AppendMessage(nil)
		send(call[:10]) // so that it is not taken while it comes
		time.Sleep(20 * time.Millisecond)
		send(append(call[10:], rest...))
		eventually(t, what+" behind a call", func() bool { return n.Stats().Log.Appended > before })
	}
}

// T17, T23: whatever clients do, it ends their own stream or session, what is held for them is bounded, and appends go on.
func TestT17_HostileClients(t *testing.T) { // alone, since it looks at the memory of all
	c := newCluster(t, 3, func(cfg *ha.Config) { cfg.MemoryBytes = 128 << 20 })
	n, _ := c.active()
	record := make([]byte, 16<<10)
	for range 64 {
		c.put(record)
	}
	addr := c.addr(n.Status().Name)
	m := stranger(t, addr, session.RoleClient)
	ends := func(what string, st *session.Stream, code session.StreamCode) {
		t.Helper()
		for {
			if _, err := st.Recv(1 << 20); err != nil {
				if !errors.Is(err, &session.StreamError{Code: code}) {
					t.Errorf("%s: %v, want %v", what, err, code)
				}
				return
			}
		}
	}
	// What only members say.
	for _, kind := range []string{"news", "members"} {
		ends(kind, open(t, m, kind), session.StreamForbidden)
	}
	ends("no such kind", open(t, m, "votes"), session.StreamNoKind)

	// What is no request, too long, or cut off.
	st := open(t, m, wire.KindTail)
	_ = st.Send([]byte("give me all of it"))
	ends("no request", st, wire.CodeMalformed)
	st = open(t, m, wire.KindTail)
	_, _ = st.Write(binary.BigEndian.AppendUint32(nil, 1<<31))
	ends("huge length", st, session.StreamTooLarge)
	st = open(t, m, wire.KindTail)
	_, _ = st.Write([]byte{0, 0, 0, 9, 1})
	_ = st.CloseWrite()
	ends("half a request", st, session.StreamFailed)

	// Readers that never read: no more than so many, and what is held for all of them is bounded.
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	busy := 0
	for range 100 {
		st := open(t, m, wire.KindTail)
		if err := st.Send(wire.TailRequest(1, true, 1)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the member serves as many readers as it can", func() bool { return n.Stats().Log.Subscribers >= 64 })
	st = open(t, m, wire.KindTail)
	_ = st.Send(wire.TailRequest(1, true, 1))
	if _, err := st.Recv(1 << 20); errors.Is(err, &session.StreamError{Code: session.StreamBusy}) {
		busy++
	}
	if busy == 0 || n.Stats().Log.Subscribers > 64 {
		t.Errorf("%d readers are served", n.Stats().Log.Subscribers)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 48<<20 {
		t.Errorf("readers that do not read hold %d bytes", grown)
	}

	// Somebody else who wants one is served all the same, in place of one of them.
	other := open(t, stranger(t, addr, session.RoleClient), wire.KindTail)
	_ = other.Send(wire.TailRequest(1, true, 1))
	if _, err := other.Recv(1 << 20); err != nil {
		t.Errorf("one session keeps another one out: %v", err)
	}
	_ = other.Close()

	// Connections that say nothing, or nothing more.
	for range 100 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}

	// All the while others are served, and records appended.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := dial(t, c.addrs()...)
	last := c.put(record)
	if err := read(ctx, cl, 1, int(last)); err != nil {
		t.Error(err)
	}
	m.Close()
	eventually(t, "nothing is left of the readers", func() bool { return n.Stats().Log.Subscribers <= 1 })
	// Somebody with a session can be an operator without TLS, and reads no less.
	o := open(t, stranger(t, addr, session.RoleOperator), wire.KindCluster)
	if b, err := o.Recv(wire.MaxCluster); err != nil {
		t.Error(err)
	} else if said, err := wire.DecodeCluster(b); err != nil || len(said.Members) != 3 {
		t.Errorf("%+v, %v", said, err)
	}
}

// A reader that asks for nothing is given up, and takes no place meanwhile.
func TestSilentReader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	n, _ := c.active()
	st := open(t, stranger(t, c.addr("a"), session.RoleClient), wire.KindTail)
	if _, err := st.Recv(1 << 20); !errors.Is(err, &session.StreamError{Code: wire.CodeSlow}) {
		t.Errorf("it ends with %v", err)
	}
	if tails := n.Stats().Calls.Tails; tails != 0 {
		t.Errorf("%d places are taken", tails)
	}
}

// A reader that has stopped does not slow the others, and gets the rest when it goes on (T12).
func TestStoppedReader(t *testing.T) {
	t.Parallel()
	const count = 200
	c := newCluster(t, 1, nil)
	record := make([]byte, 32<<10)
	cl := dial(t, c.addrs()...)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stopped, goOn := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		next := uint64(1)
		for e, err := range cl.Subscribe(ctx, 1) {
			if err != nil || e.Index != next {
				t.Errorf("record %d: %d, %v", next, e.Index, err)
				return
			}
			if next == 1 {
				close(stopped)
				<-goOn
			}
			if next++; next > count {
				return
			}
		}
	})
	c.put(record)
	<-stopped
	for range count/10 - 1 {
		c.put(slices.Repeat([][]byte{record}, 10)...)
	}
	c.put(slices.Repeat([][]byte{record}, 9)...)
	if err := read(ctx, cl, 1, count); err != nil {
		t.Error(err)
	}
	close(goOn)
	all.Wait()
}

// Without a majority nothing new is given out, however it got into the log of the member that is asked (the planted bug
// "tail-uncommitted" does), and what was committed is.
func TestUncommitted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	n, token := c.active()
	self := n.Status().Name
	written := c.put(number(1))
	cl := dial(t, c.addrs()...)
	for _, m := range c.members {
		if m.Name != self {
			c.stop(m.Name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.Append(ctx, token, number(2)); err == nil {
		t.Fatal("appended without a majority")
	}
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	seen := uint64(0)
	for e, err := range cl.Subscribe(ctx, 1) {
		if err == nil {
			if seen = e.Index; seen == written {
				time.AfterFunc(300*time.Millisecond, cancel)
			}
		}
	}
	if seen != written {
		t.Errorf("record %d was given out, %d is committed", seen, written)
	}
	// Whoever has all that this member has is sent to others, who may have more.
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	st, err := stranger(t, c.addr(self), session.RoleClient).Open(ctx, wire.KindTail)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Send(wire.TailRequest(written+1, true, 1)); err != nil {
		t.Fatal(err)
	}
	if b, err := st.Recv(1 << 20); !errors.Is(err, &session.StreamError{Code: wire.CodeOutOfTouch}) {
		t.Errorf("%x, %v", b, err)
	}
}
