package storage

import (
	"sync/atomic"

	"github.com/baton-ha/baton/internal/stats"
)

// Stats is what a WAL has done since Open, and what it holds now. It is a plain value. Counters never go back.
type Stats struct {
	Saves       uint64 // calls of Save that have made something durable
	LogBytes    uint64 // written to the log: whole blocks of 4 KiB, of which the last one of a Save is often written again
	ZeroBytes   uint64 // of zeros, written ahead of the log
	Cuts        uint64 // segments that were begun
	Dropped     uint64 // segments that Compact has given up
	Checkpoints uint64 // snapshots that SaveSnapshot has brought into force
	Staged      uint64 // snapshots of the leader that were received
	Installed   uint64 // of those, how many were brought into force

	// Write has the time, in nanoseconds, that each write to the log took until it was durable; Write.Count is their
	// number. Sync has that of each fsync of the mark.
	Write, Sync stats.Distribution

	Segments      int   // files of the log
	Retained      int64 // bytes of the log that are kept
	Snapshots     int   // in force
	SnapshotBytes int64 // of those
	Used          int64 // bytes of the disk that all of these take, and what is reserved for the log to come
	Free          int64 // bytes that were free in the file system when Watch last looked, -1 if it has not, or cannot tell
}

// Stats may be called at any time, from any goroutine. It reads memory only, never waits for the disk, and takes a few
// microseconds.
func (w *WAL) Stats() Stats {
	t := &w.tally
	s := Stats{
		Saves: t.saves.Load(), LogBytes: t.written.Load(), ZeroBytes: t.zeros.Load(), Cuts: t.cuts.Load(), Dropped: t.dropped.Load(),
		Checkpoints: t.checkpoints.Load(), Staged: t.staged.Load(), Installed: t.installed.Load(),
		Write: t.writes.Snapshot(), Sync: t.syncs.Snapshot(), Free: t.free.Load() - 1,
	}
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	s.Segments, s.Snapshots = len(w.segs), len(w.snaps)
	for _, seg := range w.segs {
		s.Retained += seg.size.Load()
	}
	for _, id := range w.snaps {
		s.SnapshotBytes += w.snapSizes[id]
	}
	s.Used = s.Retained + s.SnapshotBytes + t.spare.Load()
	if r := w.supply.room.Load(); r != nil { // the last segment is as large as it was reserved, or larger
		s.Used += max(0, r.size-w.segs[len(w.segs)-1].size.Load())
	}
	return s
}

// tally is what Stats counts. Everything in it may be used concurrently.
type tally struct {
	saves, written, zeros, cuts, dropped, checkpoints, staged, installed atomic.Uint64

	writes, syncs stats.Histogram
	spare         atomic.Int64 // size of the file that is in stock
	free          atomic.Int64 // in the file system, and one more; 0 is not known
}
