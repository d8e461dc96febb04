package log

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Who reads much of the log works on it without a pause: it reads, sums and copies. Many at a time would take all processors,
// and the goroutines by which records are appended, and the member is kept alive, would wait behind each of them for as
// long as the scheduler lets one run. So they take turns: as many work at a time as leave half of the processors, each for
// one piece, and then others get theirs. While records are being committed, the next turn begins after a rest that is
// longer than the work.

// turns are those of who reads much.
type turns struct {
	slots  chan struct{}
	begun  time.Time
	livest atomic.Int64 // when records were last committed here, since begun
	owed   atomic.Int64 // rest that is due; a sleep for each piece would be longer than it should be
}

const (
	pieceBytes = 256 << 10              // that are read in a turn, if a batch is not larger
	liveFor    = 100 * time.Millisecond // for so long after records were committed, others are expected
	restFor    = 2                      // times as long as the work is the rest
	shortRest  = time.Millisecond       // the least that is rested at a time
)

func newTurns() *turns {
	return &turns{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), begun: time.Now()}
}

// live takes note that records are committed.
func (t *turns) live() { t.livest.Store(int64(time.Since(t.begun))) }

// take waits for a turn, and returns what ends it. rest: beside records that are committed, the next one begins later.
func (t *turns) take(rest bool) (end func()) {
	t.slots <- struct{}{}
	from := time.Since(t.begun)
	return func() {
		now := time.Since(t.begun)
		if last := time.Duration(t.livest.Load()); rest && last > 0 && now-last < liveFor {
			if owed := time.Duration(t.owed.Add(int64(restFor * (now - from)))); owed >= shortRest {
				t.owed.Store(0)
				time.Sleep(owed)
			}
		}
		<-t.slots
		runtime.Gosched()
	}
}
