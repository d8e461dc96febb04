package log

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestG8_ReadersTakeTurns: many who read much leave half of the processors alone, and rest beside records that are
// committed; who reads for a member that lags does not rest here.
func TestG8_ReadersTakeTurns(t *testing.T) {
	const readers, each, work = 10, 50, time.Millisecond
	for _, test := range []struct {
		name       string
		live, rest bool
		times      time.Duration // that it takes, of the work
	}{{"nobody appends", false, true, 1}, {"somebody appends", true, true, 1 + restFor}, {"for a follower", true, false, 1}} {
		synctest.Test(t, func(t *testing.T) {
			turns := newTurns()
			slots := cap(turns.slots)
			time.Sleep(time.Millisecond)
			var now atomic.Int32
			var all sync.WaitGroup
			began := time.Now()
			for range readers {
				all.Go(func() {
					for range each {
						end := turns.take(test.rest)
						if n := now.Add(1); int(n) > slots {
							t.Errorf("%d read at a time, want at most %d", n, slots)
						}
						if test.live {
							turns.live()
						}
						time.Sleep(work)
						now.Add(-1)
						end()
					}
				})
			}
			all.Wait()
			once := readers * each * work / time.Duration(slots)
			if took := time.Since(began); took < once*test.times*9/10 || took > once*test.times*11/10 {
				t.Errorf("%s: it took %v, want about %v", test.name, took, once*test.times)
			}
		})
	}
}
