package client_test

import (
	"flag"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/sessionflood"
	"github.com/baton-ha/baton/internal/wire"
)

var floodSessions = flag.Int("sessions", 17_000, "how many sessions TestT17_SessionFlood opens; members keep 16,384")

// T17: a client that opens more and more sessions gets them, and costs the members no more than their bounds: its first are forgotten, and are
// told so; the session of another client that goes on calling is not among them. For a million:
//
//	go test ./ha/client -run TestT17_SessionFlood -v -sessions=1000000
func TestT17_SessionFlood(t *testing.T) { // alone, since it looks at the memory of all
	c := newCluster(t, 1, func(cfg *ha.Config) {
		appending(cfg)
		cfg.ElectionTimeout = 10 * time.Second // whatever else this machine does
	})
	n, _ := c.active()
	st := open(t, stranger(t, c.addr(n.Status().Name), session.RoleClient), wire.KindCall)

	cl := dial(t, c.addrs()...)
	stop := make(chan struct{})
	var calling sync.WaitGroup
	var calls int
	var longest time.Duration
	calling.Go(func() {
		for {
			began := time.Now()
			if _, err := cl.Call(t.Context(), number(1)); err != nil {
				t.Errorf("call beside the flood: %v", err)
				return
			}
			calls, longest = calls+1, max(longest, time.Since(began))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	began := time.Now()
	first, codes, err := sessionflood.Run(st, *floodSessions, number(2))
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	close(stop)
	calling.Wait()
	if codes[wire.CallDone] != *floodSessions {
		t.Errorf("the calls were answered with %v", codes)
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	t.Logf("%d sessions in %v; %d calls beside them, the longest took %v; heap %d MiB", *floodSessions, took.Round(time.Millisecond), calls, longest.Round(time.Microsecond), memory.HeapAlloc>>20)
	if memory.HeapAlloc > 256<<20 {
		t.Errorf("the heap has %d bytes", memory.HeapAlloc)
	}

	// What was forgotten is told so, and does not take effect again.
	q := wire.Request{Op: wire.OpCall, Session: first, Number: 1, Done: 1, Data: number(2)}
	if _, err := st.Write(q.AppendMessage(nil)); err != nil {
		t.Fatal(err)
	}
	b, err := st.Recv(wire.MaxCallMessage)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := wire.ParseReply(b); err != nil || r.Code != wire.CallExpired {
		t.Errorf("the first call again: code %d, %v", r.Code, err)
	}
	if records := n.Stats().Log.Appended; records < uint64(*floodSessions+calls) || records > uint64(*floodSessions+calls)+10 {
		t.Errorf("%d records were appended by %d calls", records, *floodSessions+calls)
	}
}
