package storage

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"github.com/baton-ha/baton/internal/vfs"
)

// log verifies each record of each segment. Where one cannot be decoded it goes on behind it: with the next record, if that
// continues one of the checksums that the damaged one may have had, or else with the next boundary.
func (v *verification) log() error {
	dir := filepath.Join(v.dir, walName)
	segs, before, err := v.disk.listSegments(dir)
	if err != nil {
		return v.take(err, 0)
	}
	for _, s := range before {
		v.unfinished(s.path, 0, 0, "it is before the first segment of the log; a start deletes it if nothing needs it")
	}
	var last *logEnd
	for i, s := range segs {
		v.begin(s.path)
		done := v.at.Done
		f, size, err := v.disk.openSized(s.path)
		if err != nil {
			if err = v.take(err, 0); err != nil {
				return err
			}
			last = nil
			continue
		}
		l := &logFile{v: v, s: s, f: f, size: size, tail: i == len(segs)-1, follows: last != nil}
		last, err = l.verify(last)
		f.Close()
		if err != nil {
			return err
		}
		v.read(s.path, done+size-v.at.Done)
	}
	return nil
}

// logEnd is where the records of a segment end.
type logEnd struct {
	path      string
	off, size int64
	crc       uint32
}

// logFile is a segment that is being verified.
type logFile struct {
	v    *verification
	s    *segment
	f    vfs.File
	size int64
	tail bool // it is the last one
	// follows: the checksum before it is known. Else nothing but its second record tells whether its first one says it right.
	follows bool
	r       *frameReader
	n       int   // the number of the next record
	told    int64 // bytes of it that progress was told about
}

// verify verifies a segment. last is the end of the one before it, nil if that is not known; so is what it returns.
func (l *logFile) verify(last *logEnd) (*logEnd, error) {
	l.r = newFrameReader(l.s.path, l.f, 0, l.size)
	for {
		l.progress()
		at := l.r.off
		rec, err := l.r.next()
		switch {
		case err == nil && l.n == 0 && rec.typ == typeCRC && last != nil && rec.after != last.crc:
			l.brokenChain(last, rec)
		case err == nil:
			if why := l.content(rec); why != nil {
				l.v.damage(l.s.path, rec.off, rec.end, "%v", why)
			}
		case errors.Is(err, io.EOF):
			switch more, right := l.atEnd(); {
			case right:
				return &logEnd{l.s.path, l.r.off, l.size, l.r.crc}, nil
			case !more:
				return nil, nil
			}
			continue
		default:
			more, err := l.goOn(at, err)
			if !more || err != nil {
				return nil, err
			}
			continue
		}
		l.n++
	}
}

func (l *logFile) progress() {
	if n := l.r.off - l.told; n >= 1<<20 {
		l.v.read(l.s.path, n)
		l.told = l.r.off
	}
}

// brokenChain takes note that a segment does not continue the checksum of the one before it. Its second record tells which
// of the two is wrong.
func (l *logFile) brokenChain(last *logEnd, rec record) {
	off, crc := l.r.off, l.r.crc
	_, err := l.r.next()
	l.r.seek(off, crc)
	if err == nil {
		l.v.damage(last.path, last.off, max(last.off, last.size), "the records end here with checksum %08x, and the next segment goes on with %08x: some are missing", last.crc, rec.after)
		return
	}
	l.v.damage(l.s.path, rec.off, rec.end, "checksum chain is broken: %08x follows %08x", rec.after, last.crc)
	l.r.seek(off, last.crc)
}

// content tells what is wrong with a record whose checksum is right: the checksum does not cover the type.
func (l *logFile) content(rec record) (err error) {
	if l.n < 3 {
		if err := l.s.headError(rec, l.s.headTypes()[l.n], nil); err != nil {
			return errors.Unwrap(err)
		}
	}
	switch rec.typ {
	case typeCRC:
		inc, seq, ok := isBoundary(rec.data, rec.off, rec.after)
		if l.n > 0 && (!ok || seq != l.s.seq || inc != l.v.id.Incarnation) {
			err = errors.New("checksum record out of place")
		}
	case typeMetadata:
		id, ok := parseMetadata(rec.data)
		switch {
		case l.n != 1:
			err = errors.New("metadata outside of the header")
		case !ok:
			err = errors.New("metadata of another format version")
		case l.v.id == Identity{}:
			l.v.id = id
		case id != l.v.id:
			err = fmt.Errorf("the metadata are those of member %q of cluster %q, incarnation %x", id.Member, id.Cluster, id.Incarnation)
		}
	case typeEntry:
		_, _, _, _, err = decodeEntry(rec.data)
	case typeState:
		_, err = decodeState(rec.data)
	case typeSnapshot:
		_, _, err = decodeSnapshot(rec.data)
	}
	return err
}

// goOn goes on behind what does not decode at off. It reports whether there is anything.
func (l *logFile) goOn(at int64, why error) (bool, error) {
	var ce *CorruptError
	if !errors.As(why, &ce) {
		return false, why
	}
	if unread(why) {
		l.v.damage(l.s.path, at, l.size, "%v; nothing behind it was verified", ce.Err)
		return false, nil
	}
	from := at
	if l.n == 1 && !l.follows && errors.Is(why, errChecksum) {
		from = 0 // either of the two records may be what is damaged
	}
	next, err := findBoundary(l.f, at, l.size, l.v.id.Incarnation, l.s.seq)
	m := l.v.mark
	switch marked := m != nil && m.seq == l.s.seq && at < int64(m.offset); {
	case err != nil:
		l.v.damage(l.s.path, from, l.size, "%v; behind it not all can be read: %v", ce.Err, err)
		return false, nil
	case l.tail && next < 0 && !marked && (m == nil || m.seq <= l.s.seq):
		l.v.unfinished(l.s.path, from, l.size, "%v; nothing shows that it was durable", ce.Err)
		return false, nil
	}
	if end, ok := l.skip(at); ok {
		l.n++
		l.v.damage(l.s.path, from, end, "%v; the record behind it is right", ce.Err)
		return true, nil
	}
	switch {
	case next >= 0:
		l.resume(next)
		l.v.damage(l.s.path, from, next, "%v; the records up to the next boundary cannot be told apart", ce.Err)
		return true, nil
	case l.tail && m != nil && m.seq == l.s.seq:
		l.v.damage(l.s.path, from, int64(m.offset), "%v; it was durable up to offset %d", ce.Err, m.offset)
	default:
		l.v.damage(l.s.path, from, l.size, "%v; no boundary follows", ce.Err)
	}
	return false, nil
}

// skip goes on behind a record whose frame is right, if the next one continues the checksum that it says it has, or that it should have.
func (l *logFile) skip(at int64) (end int64, ok bool) {
	crc, chained := l.r.crc, l.r.chained
	l.r.seek(at, crc)
	l.r.chained = chained
	n, pad, err := l.r.length()
	if err != nil {
		return 0, false
	}
	b, err := l.r.peek(int(frameHead + n + pad))
	if err != nil {
		return 0, false
	}
	end = at + frameHead + n + pad
	var sums []uint32
	if _, sum, head, ok := recordHead(b[frameHead:][:n]); ok {
		sums = append(sums, sum, crc)
		c := cursor{b: b[frameHead:][head:n]}
		if size := c.tagged(0x1a); !c.bad && size == uint64(len(c.b)) {
			sums = append(sums, crc32.Update(crc, castagnoli, c.b))
		}
	}
	for _, sum := range sums {
		l.r.seek(end, sum)
		if _, err := l.r.next(); err == nil {
			l.r.seek(end, sum)
			return end, true
		}
	}
	l.r.seek(at, crc)
	l.r.chained = chained
	return 0, false
}

// resume goes on at a boundary.
func (l *logFile) resume(at int64) {
	l.r.seek(at, 0)
	l.r.chained, l.n = false, len(l.s.headTypes())
}

// atEnd is called where the records end. It reports whether they go on behind it, and if not, whether that is as it should be.
func (l *logFile) atEnd() (more, right bool) {
	end := l.r.off
	next, err := findBoundary(l.f, end, l.size, l.v.id.Incarnation, l.s.seq)
	if err != nil {
		l.v.damage(l.s.path, end, l.size, "not all of it can be read: %v", err)
		return false, false
	}
	if next >= 0 {
		l.resume(next)
		l.v.damage(l.s.path, end, next, "zeros, where records were: a later write begins behind them")
		return true, false
	}
	m := l.v.mark
	switch {
	case l.n < len(l.s.headTypes()):
		l.v.damage(l.s.path, end, l.size, "incomplete segment header")
	case !l.tail:
		err := l.r.restIsZero()
		if ce := (*CorruptError)(nil); errors.As(err, &ce) {
			l.v.damage(l.s.path, end, l.size, "%v", ce.Err)
		}
		return false, err == nil
	case m != nil && m.seq == l.s.seq && end < int64(m.offset):
		l.v.damage(l.s.path, end, int64(m.offset), "the log ends here; it was durable up to offset %d", m.offset)
	case m != nil && m.seq > l.s.seq:
		name := filepath.Join(filepath.Dir(l.s.path), fmt.Sprintf("%016x-*.wal", m.seq))
		l.v.damage(name, 0, 0, "missing; it was durable up to offset %d, entry %d of term %d", m.offset, m.last, m.lastTerm)
	default:
		return false, true
	}
	return false, false
}
