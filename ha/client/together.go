package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/wire"
)

// Tails of one client that have everything want the same records at the same moment. So they share one stream, a feed: the member sends each record once, it is
// read and verified once, and all are woken by one piece. What comes is kept in a list of pages, in which each reader goes on by himself. Who is too far behind the
// others leaves, and reads for himself until he has everything again; so nobody is slowed by anybody.

const (
	// feedAhead is how far the member is read ahead of the foremost reader, in bytes, beside what is in the stream's window.
	feedAhead = 512 << 10
	// feedKept is how far a reader may be behind what has come last, in bytes.
	feedKept = readAhead
	// pageBytes is about what a page takes beside its records.
	pageBytes = 512
	// feedRest is for how long no feed is begun after one that has failed.
	feedRest = time.Second
)

var (
	errParted = errors.New("the stream that the client's tails have shared has ended")
	errAlone  = errors.New("it reads for itself")
)

// A company is the tails of one client.
type company struct {
	c  *Client
	wg sync.WaitGroup // of feeds

	mu    sync.Mutex // guards what follows, all of the feed but what is said there, and wg.Add against Wait
	over  bool
	tails int       // that run
	feed  *feed     // nil: there is none
	rest  time.Time // no feed is begun before
}

// A feed is one stream for several tails.
type feed struct {
	at   place
	stop context.CancelFunc // ends it
	went chan struct{}      // 1: the foremost reader has gone on

	readers  int
	foremost int64 // offset of the page that the foremost reader has come to
	oldest   *page // that is kept
	coming   *page // has not come yet
}

// A page is one message of a feed. Where its records are it says without a pointer to each: pages are kept, and the collector would follow all of them.
type page struct {
	come  chan struct{} // closed when the page has come, or the feed has ended
	at    int64         // offset in the feed, in bytes that are held
	first uint64        // record

	// Set before come is closed, and never changed.
	epoch uint64
	b     []byte   // the records: before each wire.RecordHead bytes that say nothing here
	sizes []uint32 // of the records; none: the feed has ended

	next *page // guarded by company.mu; nil: it has not come, or is so far ahead that the way from here is closed
}

// records puts the records from one on into the memory of records; with own they are a copy.
func (p *page) records(from uint64, records [][]byte, own bool) [][]byte {
	b := p.b
	if own {
		b = bytes.Clone(b)
	}
	records = records[:0]
	at := 0
	for i, n := range p.sizes {
		at += wire.RecordHead
		end := at + int(n)
		if p.first+uint64(i) >= from {
			records = append(records, b[at:end:end])
		}
		at = end
	}
	return records
}

// enter takes note of a tail, until leave.
func (y *company) enter() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.tails++
}

func (y *company) leave() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.tails--
}

// join returns the feed and the page of it where record next is or will be, nil if there is none for who is there. Where there is none at all, and other
// tails, one is begun at a place if begin says so. Who has joined must part.
func (y *company) join(next uint64, at place, begin bool) (*feed, *page) {
	y.mu.Lock()
	defer y.mu.Unlock()
	f := y.feed
	if f == nil {
		if !begin || y.tails < 2 || y.over || time.Now().Before(y.rest) {
			return nil, nil
		}
		f = y.beginLocked(next, at)
	}
	p := f.oldest
	if next < p.first || next > f.coming.first {
		return nil, nil
	}
	for p != f.coming && next >= p.next.first {
		p = p.next
	}
	f.readers++
	return f, p
}

// part takes a reader from a feed, which ends with the last one.
func (y *company) part(f *feed) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if f.readers--; f.readers == 0 {
		f.stop()
		y.endLocked(f)
	}
}

// beginLocked begins a feed with record next.
func (y *company) beginLocked(next uint64, at place) *feed {
	ctx, stop := context.WithCancel(y.c.sessions.life)
	p := &page{come: make(chan struct{}), first: next}
	f := &feed{at: at, stop: stop, went: make(chan struct{}, 1), oldest: p, coming: p}
	y.feed = f
	y.wg.Go(func() {
		defer stop()
		err := y.run(ctx, f, next)
		y.mu.Lock()
		defer y.mu.Unlock()
		if ctx.Err() == nil {
			y.rest = time.Now().Add(feedRest)
		}
		y.endLocked(f)
		close(f.coming.come)
		y.c.cfg.Logger.Debug("tails part", "cluster", y.c.cfg.Cluster, "at", at.String(), "err", err)
	})
	return f
}

// endLocked lets nobody join a feed any more.
func (y *company) endLocked(f *feed) {
	if y.feed == f {
		y.feed = nil
	}
}

// close waits until all feeds have ended. The client's life has ended before.
func (y *company) close() {
	y.mu.Lock()
	y.over = true
	y.mu.Unlock()
	y.wg.Wait()
}

// run reads a feed from record next on, until ctx ends or the member has nothing more to say. The stream is opened anew, at the same record, when so many more or
// fewer read along that the member should know.
func (y *company) run(ctx context.Context, f *feed, next uint64) error {
	for {
		told := y.readers(f)
		st, err := y.c.sessions.open(ctx, f.at, wire.KindTail)
		if err != nil {
			return err
		}
		if next, err = y.read(ctx, f, st, next, told); err != nil {
			return err
		}
	}
}

// read reads a stream from record next on, and returns the record behind the last one; without an error if the number of those who read along has changed.
func (y *company) read(ctx context.Context, f *feed, st *session.Stream, next uint64, told int) (uint64, error) {
	defer st.Close()
	st.Assemble(false)
	if err := st.Send(wire.TailRequest(next, true, told)); err != nil {
		return next, err
	}
	var records [][]byte // memory
	for {
		b, m, err := receive(st, records)
		switch {
		case err != nil:
			return next, err
		case m.Compacted:
			return next, &CompactedError{Index: m.Index, First: m.Held}
		case m.First != next:
			return next, fmt.Errorf("%w: record %d comes where %d should", wire.ErrMalformed, m.First, next)
		}
		records = m.Records
		next += uint64(len(records))
		y.put(f, b, m)
		if n := y.readers(f); n > 2*told || 2*n < told {
			return next, nil
		}
		for y.far(f) {
			select {
			case <-f.went:
			case <-ctx.Done():
				return next, context.Cause(ctx)
			}
		}
	}
}

// readers is how many read along.
func (y *company) readers(f *feed) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return max(1, f.readers)
}

// far reports whether the feed is far enough ahead of its readers.
func (y *company) far(f *feed) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	return f.coming.at-f.foremost > feedAhead
}

// put gives a message, which is parsed as m, to the readers.
func (y *company) put(f *feed, b []byte, m wire.Tail) {
	sizes, size := make([]uint32, len(m.Records)), 0
	for i, r := range m.Records {
		sizes[i] = uint32(len(r))
		size += wire.RecordHead + len(r)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	p := f.coming
	p.epoch, p.b, p.sizes = m.Epoch, b[len(b)-size:], sizes
	f.coming = &page{come: make(chan struct{}), at: p.at + int64(size) + pageBytes, first: m.First + uint64(len(sizes))}
	p.next = f.coming
	for o := f.oldest; p.at-o.next.at > feedKept; o = f.oldest {
		f.oldest, o.next = o.next, nil // whoever is still there has no way from it, and holds nothing of what comes
	}
	close(p.come)
}

// next returns the page behind one that was read, nil if the way there is closed, or there is no other tail any more.
func (y *company) next(f *feed, p *page) *page {
	y.mu.Lock()
	defer y.mu.Unlock()
	n := p.next
	if y.tails == 1 {
		return nil
	}
	if n != nil && n.at > f.foremost {
		f.foremost = n.at
		session.Signal(f.went)
	}
	return n
}

// follow yields what comes in a feed from a page on, until ctx ends, the reader wants no more, they part, or, with errAlone, the tail is to go on for itself.
func (t *tailer) follow(ctx context.Context, f *feed, p *page) error {
	y := &t.c.company
	defer y.part(f)
	for {
		select {
		case <-p.come:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if len(p.sizes) == 0 {
			t.left = f.at
			return errParted
		}
		t.records = p.records(t.next, t.records, !t.lent)
		if err := t.give(ctx, p.epoch, t.records); err != nil {
			return err
		}
		if p = y.next(f, p); p == nil {
			return errAlone
		}
	}
}
