package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
)

// reader reads entries in their order, run by run and segment by segment. It keeps the file open that it reads, and what it has
// read ahead of it, so that whoever reads on pays for nothing but what he gets. It belongs to one call at a time.
type reader struct {
	past bool     // it reads past the page cache
	seg  *segment // whose file is open; nil: none
	file readFile
	fr   frameReader
	at   uint64 // the entry whose record comes next, or before which only others come; 0: not known
	run  int64  // where the run begins that this is in
}

// read reads entries [lo, hi) of one run. more is false when the budget is used up.
func (r *reader) read(w *WAL, lo, hi, maxBytes uint64, size *uint64) (out []*raftpb.Entry, more bool, err error) {
	if w.closed.Load() {
		return nil, false, ErrClosed
	}
	s, run, end, unpin, err := w.lookup(lo)
	if err != nil {
		return nil, false, err
	}
	defer unpin()
	next, err := r.seek(s, run, lo, end)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for hi = min(hi, run.last+1); next < hi; {
		n, _, err := r.fr.length()
		if err == nil && next >= lo && *size > 0 && (uint64(n) > maxBytes || *size > maxBytes-uint64(n)) {
			return out, false, nil
		}
		rec, err := r.fr.next()
		if errors.Is(err, io.EOF) {
			return nil, false, corrupt(s.path, r.fr.off, "entry %d is missing", next)
		}
		if err != nil {
			return nil, false, err
		}
		if rec.typ != typeEntry {
			continue
		}
		typ, term, index, data, err := decodeEntry(rec.data)
		if err == nil && index != next {
			err = fmt.Errorf("entry %d where %d should be", index, next)
		}
		if err != nil {
			return nil, false, &CorruptError{File: s.path, Offset: rec.off, Err: err}
		}
		next++
		r.at = next
		if index < lo {
			continue
		}
		*size += uint64(n)
		e := &raftpb.Entry{Type: new(typ), Term: new(term), Index: new(index)}
		if len(data) > 0 {
			e.Data = bytes.Clone(data)
		}
		out = append(out, e)
	}
	return out, true, nil
}

// seek goes to entry lo of a run, or to a place in the run before it, and returns which entry comes next there.
func (r *reader) seek(s *segment, run run, lo uint64, end int64) (next uint64, err error) {
	if r.seg != s {
		r.close()
		if r.file, err = s.open(r.past); err != nil {
			return 0, fileError(s.path, 0, err)
		}
		r.seg, r.fr.path, r.fr.r, r.fr.soon = s, s.path, r.file, r.file.Ahead
		r.fr.seek(run.off, run.crc)
		r.at, r.run = run.first, run.off
	}
	r.fr.size = end
	switch {
	case r.run == run.off && r.at <= lo && r.at >= run.first: // further on in the same run
	case r.at == run.first && r.run < run.off && r.fr.off <= run.off && run.off-r.fr.off < runBytes: // at its beginning
		if err := r.skip(run); err != nil {
			return 0, err
		}
	default:
		r.fr.seek(run.off, run.crc)
	}
	if r.run != run.off || r.at > lo {
		r.at, r.run = run.first, run.off
	}
	return r.at, nil
}

// skip reads what lies before the first record of a run: it is no entry that counts.
func (r *reader) skip(run run) error {
	for r.fr.off < run.off {
		if _, err := r.fr.next(); err != nil {
			if errors.Is(err, io.EOF) {
				err = corrupt(r.fr.path, r.fr.off, "entry %d is missing", run.first)
			}
			r.close()
			return err
		}
	}
	return nil
}

// close closes the file.
func (r *reader) close() {
	if r.seg != nil {
		r.file.Close()
	}
	r.seg, r.file, r.fr.r, r.fr.soon, r.fr.ahead, r.at = nil, nil, nil, nil, nil, 0
}

// readers are those that wait for somebody to read on where they are. There are few, so that they cost little; when
// more read at the same time, some begin anew with each call.
type readers struct {
	mu     sync.Mutex // guards what follows
	idle   []*reader  // the one that was used last is the last
	closed bool
}

const (
	keepReaders    = 16
	keepReadBuffer = 1 << 20 // bytes of the largest buffer that one keeps

	// pastCache is the least that somebody reads at a time who reads past the page cache, and at a time he reads so much: members that lag, and starts.
	// The log is written past it, so it is not there, and nobody else will read it soon; subscribers, of whom many may replay the same, ask
	// for less. It costs the processor a fourth of the work. With more at a time a synced write beside it would wait for longer.
	pastCache = 512 << 10
)

// take returns a reader that is at entry lo, or a new one.
func (p *readers) take(lo uint64, past bool) *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.idle, func(r *reader) bool { return r.at == lo && r.past == past })
	if i < 0 {
		return &reader{past: past, fr: frameReader{chunk: runBytes}} // it may be asked for one entry only
	}
	r := p.idle[i]
	p.idle = slices.Delete(p.idle, i, i+1)
	r.fr.chunk = readAhead
	if past {
		r.fr.chunk = pastCache
	}
	return r
}

// giveBack keeps a reader, as long as its segment is part of the log.
func (p *readers) giveBack(r *reader, w *WAL) {
	if cap(r.fr.buf) > keepReadBuffer {
		r.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case r.seg == nil:
	case p.closed || !w.holds(r.seg):
		r.close()
	default:
		p.idle = append(p.idle, r)
		if len(p.idle) > keepReaders {
			p.idle[0].close()
			p.idle = slices.Delete(p.idle, 0, 1)
		}
	}
}

// holds reports whether a segment is part of the log.
func (w *WAL) holds(s *segment) bool {
	w.indexMu.Lock()
	defer w.indexMu.Unlock()
	return s.seq >= w.segs[0].seq
}

// leave has the readers let go of a segment that is no part of the log any more.
func (p *readers) leave(s *segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = slices.DeleteFunc(p.idle, func(r *reader) bool {
		if r.seg != s {
			return false
		}
		r.close()
		return true
	})
}

// close closes all.
func (p *readers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, r := range p.idle {
		r.close()
	}
	p.idle = nil
}
