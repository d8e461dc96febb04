package raftfsm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A capture is a raft.FSMSnapshot. It is written once, or never.
type capture struct {
	snap raft.FSMSnapshot
	id   string
	used atomic.Bool
}

// newCapture names a snapshot as raft's own stores do.
func newCapture(snap raft.FSMSnapshot, epoch, index uint64) *capture {
	return &capture{snap: snap, id: fmt.Sprintf("%d-%d-%d", epoch, index, time.Now().UnixMilli())}
}

// release releases one that is not being written, and was not. It may be nil.
func (c *capture) release() {
	if c != nil && c.used.CompareAndSwap(false, true) {
		c.snap.Release()
	}
}

var (
	errReleased  = errors.New("raftfsm: the snapshot has been released")
	errCancelled = errors.New("raftfsm: Persist has cancelled the snapshot")
)

// WriteTo implements [io.WriterTo].
func (c *capture) WriteTo(w io.Writer) (int64, error) {
	if !c.used.CompareAndSwap(false, true) {
		return 0, errReleased
	}
	defer c.snap.Release()
	s := &sink{w: w, id: c.id}
	if err := c.snap.Persist(s); err != nil {
		_ = s.Cancel()
		return s.n, fmt.Errorf("raftfsm: persist: %w", err)
	}
	return s.end()
}

// A sink is what a snapshot is written to.
type sink struct {
	id string

	mu  sync.Mutex // guards what follows
	w   io.Writer  // nil: it is closed
	n   int64
	err error // the first one
}

// ID implements [raft.SnapshotSink].
func (s *sink) ID() string { return s.id }

// Write implements [io.Writer].
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		return 0, os.ErrClosed
	}
	n, err := s.w.Write(p)
	s.n += int64(n)
	if s.err == nil {
		s.err = err
	}
	return n, err
}

// Close implements [io.Closer]. It returns what has failed before, so that a snapshot that is not whole is not taken for one.
func (s *sink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.w = nil
	return s.err
}

// Cancel implements [raft.SnapshotSink].
func (s *sink) Cancel() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = errCancelled
	}
	s.w = nil
	return nil
}

// end ends a snapshot whose Persist is content; as with raft it need not have closed the sink.
func (s *sink) end() (int64, error) {
	err := s.Close()
	return s.n, err
}
