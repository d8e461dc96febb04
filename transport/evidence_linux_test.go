package transport

import (
	"net"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
)

// Whoever has a member's address now answers its connections with resets and refuses others: that says nothing about the member.
func TestGoneNotByReset(t *testing.T) {
	t.Parallel()
	a, _, px := throughProxy(t)
	p := a.dir.Load().byName["b"]
	dials := func(l *lane) uint64 { l.mu.Lock(); defer l.mu.Unlock(); return l.counts.dials }
	control, bulk := dials(p.control), dials(p.bulk)
	px.Close()
	px.mu.Lock()
	for _, c := range px.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
	px.mu.Unlock()
	px.cut()
	// Before the next dial what there is to be seen was looked at.
	eventually(t, "both lanes dial again", func() bool { return dials(p.control) > control && dials(p.bulk) > bulk })
	a.noEvidence(t, p)
}

// A member that lives resets the connections that it ends, and only the end of its transport looks like that of a process.
func TestOnlyTheLastEndIsInOrder(t *testing.T) {
	t.Parallel()
	b := listen(t, config("b"))
	b.start(t, peerAt("a", "127.0.0.1:1"))
	dial := func() *session.Link {
		t.Helper()
		l, err := session.NewEndpoint(config("a").SessionConfig).Dial(t.Context(), b.self, PurposeBulk)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	inOrder := func(l *session.Link) bool {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(patience))
		_, err := l.Read(make([]byte, 1))
		if !session.HungUp(err) {
			t.Fatal(err)
		}
		return heardEnd(l, err) != err
	}
	first, second := dial(), dial() // which takes its place
	if inOrder(first) {
		t.Error("a connection that was replaced ends as that of a process that has ended")
	}
	if err := second.Send(messageFrame(t, msg(raftpb.MsgVote, "a", "b", 1)), time.Second); err != nil { // not on this connection
		t.Fatal(err)
	}
	if inOrder(second) {
		t.Error("a connection on which nonsense came ends as that of a process that has ended")
	}
	third := dial()
	b.Close()
	if !inOrder(third) {
		t.Error("the last connection was reset")
	}
}

// What a member dials, it resets, too, when the other side's address changes.
func TestMovedPeerIsReset(t *testing.T) {
	t.Parallel()
	for what, list := range map[string][]Peer{"moved": {peerAt("b", "127.0.0.1:1")}, "removed": {}} {
		a := listen(t, config("a"))
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		a.start(t, peerAt("b", ln.Addr().String()))
		e := session.NewEndpoint(config("b").SessionConfig)
		known := func(n string) (Peer, bool) { return peerAt(n, "x:1"), true }
		var links []*session.Link
		for range 2 {
			c, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			l, err := e.Answer(t.Context(), c, known, func(*session.Link) *RefusedError { return nil })
			if err != nil {
				t.Fatal(err)
			}
			links = append(links, l)
		}
		a.connected(t)
		if err := a.SetPeers(list); err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			_ = l.SetReadDeadline(time.Now().Add(patience))
			_, err := l.Read(make([]byte, 1))
			if got := heardEnd(l, err) != err; !session.HungUp(err) || got != (what == "removed") {
				t.Errorf("%s: in order %v: %v", what, got, err)
			}
			l.Close()
		}
		ln.Close()
		a.Close()
	}
}
