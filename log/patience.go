package log

import (
	"errors"
	"syscall"
	"time"
)

// problemRead is the kind of [Problem] of files that cannot be read just now.
const problemRead = "read"

// patiently reads something, on a worker's goroutine: again and again, as long as it fails for want of descriptors or
// memory and the log runs. Nothing is wrong with the files then, so nothing ends. f keeps its last error.
func (l *Log) patiently(f func() error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := f()
		if !scarce(err) || l.net == nil { // not started yet: whoever starts it shall know
			if pause > 10*time.Millisecond {
				l.Post(Problem{Kind: problemRead})
			}
			return
		}
		l.Post(Problem{Kind: problemRead, Err: err})
		if !l.wait(pause) {
			return
		}
	}
}

// wait waits before something is tried again. It returns false at once when the loop has ended.
func (l *Log) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ending:
		return false
	}
}

// scarce reports whether err says that there are not enough descriptors, or not enough memory, just now.
func scarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}
