package storage

import (
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/yield"
)

// A checkpoint takes what the log's writes leave of the disk: a large state that is written as fast as the disk takes it makes each append wait
// behind many megabytes of it, on all members at the same time, since they all make their checkpoints at the same record. While the log is
// written to, a body goes at the rate at which writes to the log take no notably longer. And it never falls behind the
// log: that is kept until the checkpoint is there.

// yielding is how the bodies of checkpoints yield to the log.
type yielding struct {
	mu     sync.Mutex // guards everything below
	strain yield.Strain
	rate   yield.Rate
	bodies int       // being written
	log    int64     // bytes written to the log since the first of those was begun
	body   int64     // of them
	live   time.Time // when the log was written to last
	next   time.Time // when the next bytes may be written
}

const (
	liveFor = 100 * time.Millisecond // for so long after a write to the log, others are expected

	// aheadOfLog is how many times as many bytes of a body are written as of the log, whatever that costs: while a state is written, the log
	// grows by a quarter of its size.
	aheadOfLog = 4
)

// wrote takes note of a write to the log.
func (y *yielding) wrote(bytes int, took time.Duration, now time.Time) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.live = now
	y.strain.Took(took, y.bodies == 0 || y.rate.Slow())
	if y.bodies > 0 {
		y.log += int64(bytes)
		y.rate.Wrote(&y.strain)
	}
}

// begin takes note of a body that is about to be written. The caller calls end when it is.
func (y *yielding) begin() (end func()) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.bodies++; y.bodies == 1 {
		y.rate.Begin()
		y.log, y.body = 0, 0
	}
	return func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.bodies--
	}
}

// pause returns how long to wait after so many bytes of a body were written.
func (y *yielding) pause(bytes int, now time.Time) time.Duration {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.body += int64(bytes)
	if now.Sub(y.live) > liveFor || y.body <= aheadOfLog*y.log {
		y.next = now
		return 0
	}
	if y.next.Before(now) {
		y.next = now
	}
	y.next = y.next.Add(time.Duration(float64(bytes) / float64(y.rate.BytesPerSecond()) * float64(time.Second)))
	return y.next.Sub(now)
}

// A yieldingWriter writes the body of a checkpoint.
type yieldingWriter struct {
	openWriter
	pending int // bytes since the last pause
}

// yieldPiece is how many bytes are written between two pauses.
const yieldPiece = 128 << 10

// Write implements [io.Writer].
func (y *yieldingWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		var n int
		n, err = y.openWriter.Write(p[:min(len(p), yieldPiece-y.pending)])
		written, p, y.pending = written+n, p[n:], y.pending+n
		if y.pending >= yieldPiece {
			y.rest()
		}
	}
	return written, err
}

// rest waits as long as the log is to come first: no longer than a piece takes at the slowest rate, for each body that is being written.
func (y *yieldingWriter) rest() {
	time.Sleep(y.w.yielding.pause(y.pending, time.Now()))
	y.pending = 0
}
