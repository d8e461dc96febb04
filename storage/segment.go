package storage

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/baton-ha/baton/internal/vfs"
)

const runBytes = 64 << 10

// run is a stretch of consecutive entries in a segment with no superseded one in between.
type run struct {
	first, last uint64
	off         int64  // of the record of first
	crc         uint32 // running checksum before it
}

// segment is one file of the WAL with a sparse index of its entries. The last one grows with Save; the others never change.
type segment struct {
	disk  disk
	path  string
	seq   uint64
	index uint64       // from the name: the current version of no entry from here on is in an earlier segment
	pins  int          // readers of it or of later ones; guarded by WAL.indexMu
	size  atomic.Int64 // bytes of log in it

	mu     sync.Mutex // guards what follows; held while an old segment is loaded, never by Save then
	loaded bool
	direct bool   // is being written past the page cache, so that it must be read in the same way
	end    int64  // durable and decoded up to here
	crc    uint32 // running checksum at end
	commit uint64 // commit in the head: entries up to it are in earlier segments, and final
	headed bool   // commit is known
	low    uint64 // lowest entry in it; MaxUint64 when there is none
	runs   []run  // ascending in first and in off
}

func segmentName(seq, index uint64) string { return fmt.Sprintf("%016x-%016x.wal", seq, index) }

func parseSegmentName(name string) (seq, index uint64, ok bool) {
	if len(name) != 37 || name[16] != '-' || name[33:] != ".wal" || strings.ToLower(name) != name {
		return 0, 0, false
	}
	a, err1 := hex.DecodeString(name[:16])
	b, err2 := hex.DecodeString(name[17:33])
	if err1 != nil || err2 != nil {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(b), true
}

// listSegments returns the segments of a WAL directory, oldest first, without those that were being deleted when the power was
// cut or the process died. These are the ones before a gap, as a file system need not keep the order of removals; and first ones that
// are named after a higher entry than one behind them, as they are where a new leader has overwritten entries: the log begins with that one, and
// whatever else they hold was to go with those before them. The start decides whether it lacks something; if it does not, it deletes them.
func (d disk) listSegments(dir string) (segs, before []*segment, err error) {
	names, err := d.ReadDir(dir)
	if err != nil {
		return nil, nil, fileError(dir, 0, err)
	}
	for _, e := range names {
		if seq, index, ok := parseSegmentName(e.Name()); ok {
			segs = append(segs, newSegment(d, dir, seq, index))
		}
	}
	if len(segs) == 0 {
		return nil, nil, corrupt(dir, 0, "no segment")
	}
	sort.Slice(segs, func(i, j int) bool { return segs[i].seq < segs[j].seq })
	first := 0
	for i, s := range segs[1:] {
		if s.seq == segs[i].seq {
			return nil, nil, corrupt(filepath.Join(dir, fmt.Sprintf("%016x-*.wal", s.seq)), 0, "double")
		}
		if s.seq != segs[i].seq+1 {
			first = i + 1
		}
	}
	for k := first; k < len(segs); k++ {
		if segs[k].index < segs[first].index {
			first = k
		}
	}
	return segs[first:], segs[:first], nil
}

func newSegment(d disk, dir string, seq, index uint64) *segment {
	return &segment{disk: d, path: filepath.Join(dir, segmentName(seq, index)), seq: seq, index: index, low: math.MaxUint64}
}

// headTypes are the records that etcd puts in front of every segment. A snapshot stands in for the state in the first one.
func (s *segment) headTypes() [3]int64 {
	if s.seq == 0 {
		return [3]int64{typeCRC, typeMetadata, typeSnapshot}
	}
	return [3]int64{typeCRC, typeMetadata, typeState}
}

// note adds entry index, whose record starts at off, to the sparse index.
func (s *segment) note(index uint64, off int64, crc uint32) {
	s.low = min(s.low, index)
	fresh := len(s.runs) == 0
	for len(s.runs) > 0 && s.runs[len(s.runs)-1].first >= index {
		s.runs, fresh = s.runs[:len(s.runs)-1], true
	}
	if n := len(s.runs); n > 0 {
		r := &s.runs[n-1]
		if r.last >= index {
			r.last, fresh = index-1, true
		}
		if !fresh && r.last+1 == index && off-r.off < runBytes {
			r.last = index
			return
		}
	}
	s.runs = append(s.runs, run{first: index, last: index, off: off, crc: crc})
}

// findLocked returns the run that holds entry i. s.mu is held.
func (s *segment) findLocked(i uint64) (run, bool) {
	k := sort.Search(len(s.runs), func(k int) bool { return s.runs[k].first > i })
	if k == 0 || s.runs[k-1].last < i {
		return run{}, false
	}
	return s.runs[k-1], true
}

// place is where an entry's record is: its offset, and the running checksum before it.
type place struct {
	index uint64
	off   int64
	crc   uint32
}

// grow takes note of what has become durable in the last segment.
func (s *segment) grow(out *appender, entries []place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.note(e.index, e.off, e.crc)
	}
	s.end, s.crc, s.direct = out.end(), out.crc, out.f.direct
	s.size.Store(s.end)
}

// finish takes note that the segment does not grow any more.
func (s *segment) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.direct = false
}

// readFile is a file that is open for reading.
type readFile interface {
	io.ReaderAt
	io.Closer
	Ahead(off, size int64)
}

// open opens the segment for reading. What is written past the page cache is read past it, too: a page that is
// read while it is being written could stay in the cache as it was. So is all the rest, if past is true; the file system must be able to do that.
func (s *segment) open(past bool) (readFile, error) {
	if !past && !s.grows() {
		return s.disk.open(s.path)
	}
	return s.disk.OpenFile(s.path, os.O_RDONLY|vfs.Direct, 0)
}

// grows reports whether it is being written, past the page cache.
func (s *segment) grows() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.direct
}

// head reads the commit index in front of the segment.
func (s *segment) head() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.headed {
		return s.commit, nil
	}
	f, size, err := s.disk.openSized(s.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := newFrameReader(s.path, f, 0, size)
	for _, typ := range s.headTypes() {
		rec, err := r.next()
		if err := s.headError(rec, typ, err); err != nil {
			return 0, err
		}
		if typ == typeState {
			h, err := decodeState(rec.data)
			if err != nil {
				return 0, &CorruptError{File: s.path, Offset: rec.off, Err: err}
			}
			s.commit = h.commit
		}
	}
	s.headed = true
	return s.commit, nil
}

func (s *segment) headError(rec record, typ int64, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return corrupt(s.path, 0, "incomplete segment header")
	case err != nil:
		return err
	case rec.typ != typ:
		return corrupt(s.path, rec.off, "record of type %d in the segment header", rec.typ)
	}
	return nil
}

// load reads an old segment once, verifies it and builds its index. next is the segment after it.
func (s *segment) load(next *segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		return nil
	}
	f, size, err := s.disk.openSized(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := newFrameReader(s.path, f, 0, size)
	s.runs, s.low = nil, math.MaxUint64
	for n := 0; ; n++ {
		rec, err := r.next()
		if n < 3 {
			if err := s.headError(rec, s.headTypes()[n], err); err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if rec.typ == typeEntry {
			_, _, index, _, err := decodeEntry(rec.data)
			if err != nil {
				return &CorruptError{File: s.path, Offset: rec.off, Err: err}
			}
			s.note(index, rec.off, rec.before)
		}
	}
	sum, err := next.startSum()
	if err != nil {
		return err
	}
	if sum != r.crc {
		return corrupt(s.path, r.off, "checksum chain to the next segment is broken: %08x, then %08x", r.crc, sum)
	}
	s.end, s.crc, s.loaded = r.off, r.crc, true
	return nil
}

// startSum returns the checksum with which the segment continues the one before it.
func (s *segment) startSum() (uint32, error) {
	f, err := s.open(false)
	if err != nil {
		return 0, fileError(s.path, 0, err)
	}
	defer f.Close()
	rec, err := newFrameReader(s.path, f, 0, blockSize).next()
	if err := s.headError(rec, typeCRC, err); err != nil {
		return 0, err
	}
	return rec.after, nil
}
