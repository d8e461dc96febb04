package storage

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/yield"
)

// TestCheckpointYields: the body of a checkpoint waits for its turn while the log is written to, and not otherwise, nor when the log grows
// faster than it.
func TestCheckpointYields(t *testing.T) {
	t.Parallel()
	var y yielding
	now := time.Now()
	const piece = yield.Slowest / 100 // takes 10 ms
	log := func(bytes int) { y.wrote(bytes, time.Millisecond, now) }
	log(100)
	end := y.begin()
	if got := y.pause(piece, now); got < 9*time.Millisecond || got > 11*time.Millisecond {
		t.Errorf("beside a log that is written to: %v", got)
	}
	if got := y.pause(piece, now.Add(4*time.Millisecond)); got < 15*time.Millisecond || got > 17*time.Millisecond {
		t.Errorf("right after that: %v", got)
	}
	if got := y.pause(piece, now.Add(liveFor+1)); got != 0 {
		t.Errorf("nothing is written to the log any more: %v", got)
	}
	log(piece * 4 / aheadOfLog)
	if got := y.pause(piece, now); got != 0 {
		t.Errorf("the log grows by a quarter of the body: %v", got)
	}
	if got := y.pause(piece, now); got == 0 {
		t.Error("it is ahead of the log again, and does not wait")
	}
	end()
	defer y.begin()()
	if log(10); y.log != 10 || y.body != 0 {
		t.Errorf("the next one begins with %d bytes of the log, and %d of its own", y.log, y.body)
	}
}

// TestG8_CheckpointBesideAppends: what is written to the log while a body is, and the body itself, are counted where they are written.
func TestG8_CheckpointBesideAppends(t *testing.T) {
	t.Parallel()
	w := mustOpen(t, t.TempDir())
	must(t, w.Save(hard(1, 0, 1), entries(2, 3, 1, 10)))
	const half = 5 * yieldPiece / 2
	must(t, w.SaveSnapshot(snapshot(2, 1, "beside"), writing(func(out io.Writer) error {
		if y := &w.yielding; y.bodies != 1 || y.live.IsZero() || y.strain.Calm == 0 {
			t.Errorf("%d bodies, the log was written to at %v, which takes %v", y.bodies, y.live, y.strain.Calm)
		}
		for range 2 {
			if n, err := out.Write(make([]byte, half)); n != half || err != nil {
				return errors.Join(io.ErrShortWrite, err)
			}
			must(t, w.Save(hard(1, 0, 1), entries(3, 4, 1, 10)))
		}
		return nil
	})))
	if y := &w.yielding; y.bodies != 0 || y.body != 2*half || y.log < 2*10 || y.log > 2*200 {
		t.Errorf("%d bodies, of them %d bytes of %d, and %d of the log", y.bodies, y.body, 2*half, y.log)
	}
}

// writing is a body that a function writes.
type writing func(io.Writer) error

func (f writing) WriteTo(w io.Writer) (int64, error) { return 0, f(w) }
