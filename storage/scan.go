package storage

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
)

// scanned is what a pass over segments found: the prefix that decodes, and where it ends.
type scanned struct {
	segs []*segment
	view *view
	mark *markState // not reached yet
	meta []byte
	torn error // why decoding stopped in the last segment, nil at its clean end
}

func (s *scanned) tail() *segment { return s.segs[len(s.segs)-1] }

func (s *scanned) markState(floor uint64) markState {
	return markState{
		seq: s.tail().seq, offset: uint64(s.tail().end), crc: s.tail().crc, hs: s.view.hs,
		lastTerm: s.view.lastTerm(), last: s.view.last, snap: s.view.snap, floor: max(floor, s.view.floor),
	}
}

// scan decodes segments and compares them with the mark, nil for none. It changes nothing on disk. Damage before the mark,
// or in a segment that is not the last, is a *CorruptError; damage after it is left in torn.
func scan(segs []*segment, m *markState) (*scanned, error) {
	s := &scanned{segs: segs, view: &view{}, mark: m}
	if m != nil && m.seq < segs[0].seq {
		s.mark = nil // the mark is from before a segment that is durable as a whole
	}
	for k := range segs {
		if err := s.scanSegment(k); err != nil {
			return nil, err
		}
	}
	if s.mark != nil {
		return nil, s.short()
	}
	return s, nil
}

func (s *scanned) scanSegment(k int) error {
	seg := s.segs[k]
	f, size, err := seg.disk.openSized(seg.path)
	if err != nil {
		return err
	}
	defer f.Close()
	seg.mu.Lock()
	defer seg.mu.Unlock()
	seg.loaded, seg.headed, seg.runs, seg.low, seg.end = true, true, nil, math.MaxUint64, 0
	r := newFrameReader(seg.path, f, 0, size)
	if k > 0 {
		r.crc, r.chained = s.segs[k-1].crc, true
	}
	for n := 0; ; n++ {
		rec, err := r.next()
		if n < 3 {
			if err := seg.headError(rec, seg.headTypes()[n], err); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && k < len(s.segs)-1:
			if s.mark != nil && s.mark.seq == seg.seq {
				return corrupt(seg.path, seg.end, "the segment ends here; it was durable up to %d", s.mark.offset)
			}
			return r.restIsZero()
		case err != nil && (k < len(s.segs)-1 || unread(err)): // what cannot be read just now may have been acknowledged
			return err
		case err != nil:
			if !errors.Is(err, io.EOF) {
				s.torn = err
			}
			return s.nothingBehind(f, size)
		}
		if err := s.take(seg, rec, n); err != nil {
			return &CorruptError{File: seg.path, Offset: rec.off, Err: err}
		}
		seg.end, seg.crc = rec.end, rec.after
		if err := s.passMark(seg); err != nil {
			return &CorruptError{File: seg.path, Offset: rec.off, Err: err}
		}
	}
}

// nothingBehind verifies that no boundary follows where the last segment does not decode any more: one is written only
// after everything before it was durable.
func (s *scanned) nothingBehind(f io.ReaderAt, size int64) error {
	id, _ := parseMetadata(s.meta)
	tail := s.tail()
	at, err := findBoundary(f, tail.end, size, id.Incarnation, tail.seq)
	if err != nil {
		return fileError(tail.path, tail.end, err)
	}
	if at < 0 {
		return nil
	}
	return corrupt(tail.path, tail.end, "%w; it was durable up to offset %d, where a later write begins", s.why(), at)
}

// why says why decoding stopped.
func (s *scanned) why() error {
	if ce := (*CorruptError)(nil); errors.As(s.torn, &ce) {
		return ce.Err
	}
	return errors.New("the log ends here")
}

// passMark drops the mark once the scan has reached it, and verifies that what was read up to there is what it says.
func (s *scanned) passMark(seg *segment) error {
	m := s.mark
	if m == nil || seg.seq < m.seq || seg.seq == m.seq && uint64(seg.end) < m.offset {
		return nil
	}
	switch v := s.view; {
	case seg.seq != m.seq || uint64(seg.end) != m.offset:
		return fmt.Errorf("the mark, segment %d offset %d, is not at the end of a record", m.seq, m.offset)
	case seg.crc != m.crc:
		return fmt.Errorf("checksum %08x differs from %08x in the mark", seg.crc, m.crc)
	case !m.hs.follows(v.hs): // else it was being promised
		return fmt.Errorf("term %d, vote %x differ from %d, %x in the mark", v.hs.term, v.hs.vote, m.hs.term, m.hs.vote)
	case v.exact && v.last != m.last:
		return fmt.Errorf("last entry %d differs from %d in the mark", v.last, m.last)
	}
	s.mark = nil
	return nil
}

// short is the error for a log that ends before the mark.
func (s *scanned) short() error {
	m, tail := s.mark, s.tail()
	if m.seq > tail.seq {
		name := filepath.Join(filepath.Dir(tail.path), fmt.Sprintf("%016x-*.wal", m.seq))
		return corrupt(name, 0, "missing; it was durable up to offset %d, entry %d of term %d", m.offset, m.last, m.lastTerm)
	}
	return corrupt(tail.path, tail.end, "%w; it was durable up to offset %d, entry %d of term %d", s.why(), m.offset, m.last, m.lastTerm)
}

// take feeds record n of a segment to the view and to the segment's index.
func (s *scanned) take(seg *segment, rec record, n int) error {
	switch rec.typ {
	case typeCRC:
		if n == 0 && rec.data == nil {
			return nil
		}
		id, _ := parseMetadata(s.meta)
		if inc, seq, ok := isBoundary(rec.data, rec.off, rec.after); !ok || n == 0 || inc != id.Incarnation || seq != seg.seq {
			return errors.New("checksum record out of place")
		}
	case typeMetadata:
		if n != 1 {
			return errors.New("metadata outside of the header")
		}
		if s.meta != nil && string(s.meta) != string(rec.data) {
			return errors.New("segments of different members")
		}
		s.meta = append([]byte{}, rec.data...)
	case typeEntry:
		_, term, index, _, err := decodeEntry(rec.data)
		if err != nil {
			return err
		}
		seg.note(index, rec.off, rec.before)
		return s.view.entry(index, term)
	case typeState:
		h, err := decodeState(rec.data)
		if err != nil {
			return err
		}
		if n == 2 {
			seg.commit = h.commit
		}
		return s.view.state(h)
	case typeSnapshot:
		index, term, err := decodeSnapshot(rec.data)
		if err != nil {
			return err
		}
		return s.view.snapshot(index, term, seg.index)
	}
	return nil
}
