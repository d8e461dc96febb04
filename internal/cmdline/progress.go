package cmdline

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A bar shows to a terminal how far something is; to anything else it shows nothing.
type bar struct{ b *progressbar.ProgressBar }

// newBar begins a bar of so many bytes, -1 if that is not known.
func newBar(what string, size int64) *bar {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return &bar{}
	}
	return &bar{progressbar.NewOptions64(size, progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetSpinnerChangeInterval(0))} // no goroutine of its own, which would race with the rest of it
}

// to says how far it is, and of how many bytes.
func (b *bar) to(done, total int64) {
	if b.b != nil {
		if b.b.GetMax64() != total {
			b.b.ChangeMax64(total)
		}
		_ = b.b.Set64(done)
	}
}

// Write counts bytes.
func (b *bar) Write(p []byte) (int, error) {
	if b.b != nil {
		_ = b.b.Add(len(p))
	}
	return len(p), nil
}

// end takes the bar away.
func (b *bar) end() {
	if b.b != nil {
		_ = b.b.Finish()
	}
}

// reading is r with a bar.
func (b *bar) reading(r io.Reader) io.Reader {
	if b.b == nil {
		return r
	}
	return io.TeeReader(r, b)
}
