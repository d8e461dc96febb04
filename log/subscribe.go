package log

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// Subscribe yields the committed records from an index on (0 means 1), and then each new one as it is
// committed on this member, until ctx ends or the log is closed: without gap or duplicate, the same on
// every member (G6). The error comes once, last: the cause of ctx, [ErrClosed], or a
// *[CompactedError] when the next record is no longer held.
//
// A subscriber pulls. It reads recent records from memory and older ones from disk at its own speed,
// and holds nothing of the log back: a slow one delays nobody, and may find at last that the log
// has been compacted past it. Any number may run at a time.
func (l *Log) Subscribe(ctx context.Context, from uint64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r := reader{store: l.store, next: max(from, 1)}
		for piece, err := range l.pieces(ctx, &r, func() (int64, error) { return pieceBytes, nil }) {
			for _, e := range piece.Records {
				if ctx.Err() != nil {
					break
				}
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(Entry{}, err)
			}
		}
	}
}

// A Piece is what is read at a time: records, or parts.
type Piece struct {
	Records []Entry
	Epoch   uint64 // of the parts
	Parts   []Part
	Cut     bool // more was committed than is read at a time
}

// A Part is some records, encoded as they are in a batch: those of a large one as they are in the log's memory, and of small ones, one after the other, a copy that all
// who read in parts may share. They were verified, once, and must not be written to; who does so all the same, a state machine that writes to a large one, is found
// out by who verifies them again. He must then read in records.
type Part = core.Part

// Pieces is Subscribe for who only passes the records on. It yields as many at a time as are read at a time, at least one, and the
// error alone; all of it is valid until the next piece is asked for. They come in parts of at most part bytes or one record, unless that is 0.
// Before a piece is read room is called, which says how many bytes there
// is room for, and may wait until there is some: as long as it does nothing is held. What is read is no more than that, or than one batch. An
// error of room ends the sequence.
func (l *Log) Pieces(ctx context.Context, from uint64, part int, room func() (int64, error)) iter.Seq2[Piece, error] {
	r := &reader{store: l.store, next: max(from, 1), passing: true, part: part}
	if part == 0 {
		return l.pieces(ctx, r, room)
	}
	l.store.partSize.CompareAndSwap(0, int64(part))
	return func(yield func(Piece, error) bool) {
		l.store.common.enter()
		defer l.store.common.leave()
		l.pieces(ctx, r, room)(yield)
	}
}

func (l *Log) pieces(ctx context.Context, r *reader, room func() (int64, error)) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		l.counts.subscribers.Add(1)
		defer l.counts.subscribers.Add(-1)
		for {
			var piece Piece
			var changed <-chan struct{}
			from := r.next
			most, err := room()
			if err == nil {
				r.limit = int(min(most, int64(cmp.Or(l.cfg.ReadBytes, pieceBytes)), pieceBytes))
				if piece, changed, err = r.read(); err != nil && l.cfg.Unreadable != nil {
					l.cfg.Unreadable(err)
				}
			}
			goesOn := true
			if err == nil && r.next > from {
				l.counts.read.Add(r.next - from)
				goesOn = ctx.Err() != nil || yield(piece, nil)
			}
			if r.passed(); !goesOn {
				return
			}
			switch {
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case err == nil && changed != nil:
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
			if err != nil {
				var damaged *ChecksumError
				if errors.As(err, &damaged) {
					l.Fail(err)
				}
				yield(Piece{}, err)
				return
			}
		}
	}
}

// A reader is one subscriber's place in the log.
type reader struct {
	store   *Store
	limit   int    // of the bytes that are read at a time
	behind  bool   // there was more to read than is read at a time
	next    uint64 // record to be read next
	raft    uint64 // raft index of the entry to look at next; 0: not known yet
	piece   Piece
	room    []byte  // for copies of small batches
	passing bool    // what was read is used up before more is read
	lent    *[]byte // then for all copies
	part    int     // then: size of the parts in which it comes, 0: in records

	open     opened  // the part that is being put together
	records  []Entry // memory
	lentPart *[]byte // memory of open, unless others are given it, too
}

// lending are buffers of readers whose records are only passed on.
var lending = sync.Pool{New: func() any { return new([]byte) }}

// passed takes note that what was read was used, where it is only passed on.
func (r *reader) passed() {
	for _, lent := range []**[]byte{&r.lent, &r.lentPart} {
		if *lent != nil {
			lending.Put(*lent)
			*lent = nil
		}
	}
}

// read returns the next committed records. When there are none it returns a channel that is closed
// when there may be more. When the log has stopped, its files may be closed: then that is the error.
func (r *reader) read() (Piece, <-chan struct{}, error) {
	piece, changed, err := r.readOn()
	if err != nil && !errors.Is(err, ErrCompacted) {
		r.store.mu.RLock()
		defer r.store.mu.RUnlock()
		if r.store.err != nil {
			err = r.store.err
		}
	}
	return piece, changed, err
}

func (r *reader) readOn() (Piece, <-chan struct{}, error) {
	w := r.store
	for {
		w.mu.RLock()
		pos, b, changed, stopped := w.pos, w.base, w.changeLocked(), w.err
		w.mu.RUnlock()
		if first := firstRecord(b, pos); r.next < first {
			return Piece{}, nil, &CompactedError{Index: r.next, First: first}
		}
		if r.next > pos.Index {
			return Piece{}, changed, stopped
		}
		err := r.readBetween(b, pos)
		switch {
		case err == nil:
			return r.piece, nil, nil
		case !errors.Is(err, core.ErrNotHeld):
			return Piece{}, nil, err
		case w.oldest() == b: // a leader's snapshot is being brought into force; then it is known what is left
			return Piece{}, changed, stopped
		}
		// The log was cut meanwhile: look again.
	}
}

// readBetween reads records that are committed up to pos. The error is ErrNotHeld when the log was cut beyond b.
func (r *reader) readBetween(b core.Base, pos core.Position) error {
	w := r.store
	if r.raft == 0 {
		at, err := w.locate(r.next, b, pos)
		if err != nil {
			return err
		}
		r.raft = at
	}
	clear(r.piece.Parts)
	r.piece = Piece{Records: r.piece.Records[:0], Parts: r.piece.Parts[:0]}
	for len(r.piece.Records)+len(r.piece.Parts) == 0 {
		if err := r.readPiece(b, pos); err != nil {
			return err
		}
	}
	r.behind = r.piece.Cut
	return nil
}

// readPiece reads as much as is read at a time.
func (r *reader) readPiece(b core.Base, pos core.Position) error {
	w := r.store
	if r.behind || w.old(r.raft) {
		defer w.turns.take(true)()
	}
	r.raft = max(r.raft, b.Raft+1)
	ents, err := w.Entries(r.raft, pos.Raft+1, uint64(r.limit))
	if err != nil {
		return fmt.Errorf("read records from %d on: %w", r.next, err)
	}
	r.piece.Cut = len(ents) == 0 || ents[len(ents)-1].GetIndex() < pos.Raft
	if r.part > 0 {
		return r.readParts(ents, pos)
	}
	for _, e := range ents {
		if len(r.piece.Records)*core.RecordSize > r.limit {
			r.piece.Cut = true
			break // of small records the descriptions take more than the content
		}
		if _, err := r.take(e, pos.Epochs, r.takeRecords); err != nil {
			return err
		}
	}
	return nil
}

// take has the records of one raft entry taken by by, if they count and are not behind the reader, unless by says that they belong into another piece.
func (r *reader) take(e *raftpb.Entry, history []Epoch, by func(*raftpb.Entry, core.Header) (bool, error)) (taken bool, err error) {
	h, ok, err := core.Counts(e, history)
	if err != nil || !ok || h.First+uint64(h.Count) <= r.next {
		r.raft = e.GetIndex() + 1
		return true, err
	}
	if h.First > r.next {
		return false, fmt.Errorf("%w: raft entry %d begins with record %d, wanted %d", ErrFormat, e.GetIndex(), h.First, r.next)
	}
	if taken, err = by(e, h); taken {
		r.raft, r.next = e.GetIndex()+1, h.First+uint64(h.Count)
	}
	return taken, err
}

// takeRecords takes the records of a batch from the reader's place on.
func (r *reader) takeRecords(e *raftpb.Entry, h core.Header) (taken bool, err error) {
	own, err := r.verified(e, h)
	if err != nil {
		return false, err
	}
	before := len(r.piece.Records)
	r.piece.Records = core.AppendRecords(r.piece.Records, h, own)
	if skip := int(r.next - h.First); skip > 0 {
		r.piece.Records = append(r.piece.Records[:before], r.piece.Records[before+skip:]...)
	}
	return true, nil
}

// verified returns a copy of a batch that is as it was proposed. It is a copy first, so that nothing can change what was verified; and whatever the
// subscriber does to it, it does to its own.
func (r *reader) verified(e *raftpb.Entry, h core.Header) ([]byte, error) {
	own, err := r.store.sound(&raftpb.Entry{Index: e.Index, Term: e.Term, Data: r.copied(e.GetData())}, "when a subscriber reads them")
	if err != nil {
		return nil, err
	}
	if err := core.CheckRecords(h, own.GetData()); err != nil {
		return nil, fmt.Errorf("raft entry %d: %w", e.GetIndex(), err)
	}
	return own.GetData(), nil
}

// copied returns a copy of a batch. Small ones share a piece of memory, since a piece for each costs more than copying.
func (r *reader) copied(data []byte) []byte {
	if r.passing {
		if r.lent == nil {
			r.lent = lending.Get().(*[]byte)
			*r.lent = (*r.lent)[:0]
		}
		at := len(*r.lent)
		*r.lent = append(*r.lent, data...)
		return (*r.lent)[at:len(*r.lent):len(*r.lent)]
	}
	if len(data) > cap(r.room)-len(r.room) {
		if len(data) > copyRoom/4 {
			return slices.Clone(data)
		}
		r.room = slices.Grow([]byte(nil), copyRoom)
	}
	at := len(r.room)
	r.room = append(r.room, data...)
	return r.room[at:len(r.room):len(r.room)]
}

const copyRoom = 64 << 10

// locate returns a raft index at or before the entry that holds a record, from where it is not far.
func (w *Store) locate(record uint64, b core.Base, pos core.Position) (uint64, error) {
	w.mu.RLock()
	low, high := b.Raft+1, pos.Raft+1 // the entry is in [low, high)
	i := sort.Search(len(w.marks), func(i int) bool { return w.marks[i].index > record })
	if i > 0 {
		low = max(low, w.marks[i-1].raft)
	}
	if i < len(w.marks) {
		high = w.marks[i].raft
	}
	w.mu.RUnlock()
	// The history of epochs narrows it further: row i's records begin behind its start.
	j := sort.Search(len(pos.Epochs), func(j int) bool { return pos.Epochs[j].First > record })
	if j > 0 {
		low = max(low, pos.Epochs[j-1].Raft)
	}
	if j < len(pos.Epochs) {
		high = min(high, pos.Epochs[j].Raft)
	}
	// What a restart has left without marks is searched on disk.
	for high-low > 256 {
		mid := low + (high-low)/2
		at, first, err := w.batchFrom(mid, high, pos.Epochs)
		if err != nil {
			return 0, err
		}
		if at == 0 || first > record {
			high = mid
		} else {
			low = at
		}
	}
	return low, nil
}

// batchFrom finds the first batch that counts in [lo, hi) and its first record; 0 if there is none.
func (w *Store) batchFrom(lo, hi uint64, history []Epoch) (at, first uint64, err error) {
	for lo < hi {
		ents, err := w.Entries(lo, hi, 4<<10)
		if err != nil {
			return 0, 0, err
		}
		for _, e := range ents {
			if h, ok, err := core.Counts(e, history); err != nil || ok {
				return e.GetIndex(), h.First, err
			}
		}
		lo += uint64(len(ents))
	}
	return 0, 0, nil
}
