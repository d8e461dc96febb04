package ha

import (
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/internal/wire"
)

// TestG10_AskedAgain: a call that comes again is answered as it was at first, while it is under way, and long after.
func TestG10_AskedAgain(t *testing.T) {
	n, err := Open(Config{
		Name: "a", Dir: filepath.Join(t.TempDir(), "a"), Cluster: "shop", Members: []Member{{Name: "a", Addr: loopback.Addr(t)}}, Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for s := range n.Watch(t.Context()) {
		if s.State == Active {
			break
		}
	}
	replies := make(chan wire.Reply, 100)
	d := n.newDesk("a", RoleMember, func(all []wire.Reply) {
		for _, r := range all {
			replies <- r
		}
	})
	next := func() (r wire.Reply) {
		t.Helper()
		select {
		case r = <-replies:
		case <-time.After(10 * time.Second):
			t.Fatal("a call is not answered")
		}
		return r
	}
	take := func(q wire.Request) {
		if d.take(q) {
			n.log.Wake()
		}
	}
	take(wire.Request{Op: wire.OpSession})
	session, err := wire.ParseSession(next().Body)
	if err != nil {
		t.Fatal(err)
	}
	const calls, times = 10, 3
	index := map[uint64]uint64{} // by number
	ask := func() {
		for i := range uint64(calls * times) {
			number := 1 + i%calls
			take(wire.Request{Op: wire.OpCall, Session: session, Number: number, Done: 1, Tag: number, Data: binary.BigEndian.AppendUint64(nil, number)})
		}
		for range calls * times {
			r := next()
			if first, again := index[r.Tag]; r.Code != wire.CallDone || r.Index == 0 || again && r.Index != first {
				t.Fatalf("call %d is answered with %+v, at first with index %d", r.Tag, r, first)
			}
			index[r.Tag] = r.Index
		}
	}
	ask() // while it is under way
	ask() // all are known
	if last, _ := n.log.Position(); last != calls {
		t.Errorf("%d calls, each made %d times, are %d records", calls, 2*times, last)
	}
}
