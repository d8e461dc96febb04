package storage

import (
	"errors"
	"fmt"
	"math"

	"go.etcd.io/raft/v3/raftpb"
)

// First returns the lowest raft index that Entries can read.
func (w *WAL) First() uint64 {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	return w.firstLocked()
}

func (w *WAL) firstLocked() uint64 { return max(w.segs[0].index, w.floor+1) }

// Entries reads the raft entries [lo, hi) back from disk: at least one, as many as fit in maxBytes, none beyond the last
// durable one. It returns the current version of each and verifies its checksum. The entries are the caller's. Errors:
// ErrCompacted when lo is below First, ErrUnavailable when lo is beyond the last durable entry, *CorruptError.
// It may run concurrently with everything else; it blocks for the disk, but never Save.
func (w *WAL) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	var out []*raftpb.Entry
	var size uint64
	r := w.readers.take(lo, maxBytes >= pastCache && w.direct())
	defer func() { w.readers.giveBack(r, w) }()
	for more := true; more && lo < hi; {
		var part []*raftpb.Entry
		var err error
		part, more, err = r.read(w, lo, hi, maxBytes, &size)
		out, lo = append(out, part...), lo+uint64(len(part))
		if err != nil {
			if len(out) > 0 && (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCompacted)) {
				return out, nil
			}
			return nil, err
		}
	}
	return out, nil
}

// direct reports whether the log is being written past the page cache.
func (w *WAL) direct() bool {
	w.indexMu.Lock()
	s := w.segs[len(w.segs)-1]
	w.indexMu.Unlock()
	return s.grows()
}

// lookup returns the run with the current version of entry lo, cut to what is durable and current. Until unpin is called
// the log keeps its segment.
func (w *WAL) lookup(lo uint64) (s *segment, r run, end int64, unpin func(), err error) {
	for {
		w.indexMu.Lock()
		segs, first, last, rewrites := w.segs, w.firstLocked(), w.last, w.rewrites
		if lo < first || lo > last {
			w.indexMu.Unlock()
			if lo < first {
				return nil, run{}, 0, nil, fmt.Errorf("%w: %d is below %d", ErrCompacted, lo, first)
			}
			return nil, run{}, 0, nil, fmt.Errorf("%w: %d is beyond %d", ErrUnavailable, lo, last)
		}
		// Segments are given up oldest first, so the oldest one that is looked at keeps those after it.
		k := segmentOf(segs, lo)
		pinned := segs[k]
		pinned.pins++
		w.indexMu.Unlock()
		s, r, end, err := locate(segs[k:], lo)
		w.indexMu.Lock()
		same := rewrites == w.rewrites
		w.indexMu.Unlock()
		if same && err == nil {
			r.last = min(r.last, last)
			return s, r, end, func() { w.unpin(pinned) }, nil
		}
		w.unpin(pinned)
		if same {
			return nil, run{}, 0, nil, err
		}
	}
}

func (w *WAL) unpin(s *segment) {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	if s.pins--; s.pins == 0 {
		w.unpinned.Broadcast()
	}
}

// segmentOf returns which segment the current version of entry i is in, or the first of those that it may be in.
func segmentOf(segs []*segment, i uint64) int {
	k := len(segs) - 1
	for k > 0 && segs[k].index > i {
		k--
	}
	return k
}

// locate finds the current version of entry i: the one written last. The run is cut where later segments may hold newer
// versions of its entries.
//
// A segment's name says that no current entry from there on is in an earlier segment; the commit in its head says that no
// entry up to there is in it or a later one. So i is between two segments, nearly always in the first of them.
func locate(segs []*segment, i uint64) (*segment, run, int64, error) {
	k := segmentOf(segs, i)
	settled := uint64(math.MaxUint64)
	m := k
	for ; m+1 < len(segs); m++ {
		commit, err := segs[m+1].head()
		if err != nil {
			return nil, run{}, 0, err
		}
		if commit >= i {
			settled = commit
			break
		}
	}
	for ; m >= k; m-- {
		s := segs[m]
		if m+1 < len(segs) {
			if err := s.load(segs[m+1]); err != nil {
				return nil, run{}, 0, err
			}
		}
		s.mu.Lock()
		r, ok := s.findLocked(i)
		end, low := s.end, s.low
		s.mu.Unlock()
		if ok {
			r.last = min(r.last, settled)
			return s, r, end, nil
		}
		settled = min(settled, low-1)
	}
	return nil, run{}, 0, corrupt(segs[k].path, 0, "entry %d is in no segment", i)
}
