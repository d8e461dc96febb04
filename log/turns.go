package log

import "runtime"

// Who reads much of the log works on it without a pause: it reads, sums and copies. Many at a time would take all processors,
// and the goroutines by which records are appended, and the member is kept alive, would wait behind each of them for as
// long as the scheduler lets one run. So they take turns: as many work at a time as leave half of the processors, each for
// one piece, and then others get theirs.

// turns are those of who reads much.
type turns chan struct{}

// pieceBytes is how many bytes are read in a turn, if a batch is not larger.
const pieceBytes = 256 << 10

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// take waits for a turn.
func (t turns) take() { t <- struct{}{} }

// pass ends it.
func (t turns) pass() {
	<-t
	runtime.Gosched()
}
