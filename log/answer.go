package log

import (
	"context"
	"errors"
	"fmt"

	"github.com/baton-ha/baton/internal/core"
)

// This file is about what an append gets back beside its index, and about appends that are not waited for at once.

// An Answerer is a [StateMachine] that answers: what it says to a record is what the append of that record gets. Answer is called
// in the place of Apply, on every member, and what is said of Apply holds for it; besides it returns the answers to the
// records, in their order: as many as there are records, each of which may be nil, or nil if it has none to any. It must be as
// deterministic in them as in its state. They are the log's from then on, and whoever appended may keep them; nobody writes to them.
type Answerer interface {
	StateMachine
	Answer(entries []Entry) (answers [][]byte, err error)
}

// ErrAnswerLost is returned by appends whose records are in the log for good, at the index that comes with it, when the state
// machine has answered them on other members only: this one was behind, and has been brought up to date by a snapshot.
var ErrAnswerLost = errors.New("baton: the record is in the log, and its answer is lost")

// answer lets a state machine answer records.
func answer(to Answerer, records []Entry) ([][]byte, error) {
	given, err := to.Answer(records)
	switch {
	case err != nil:
		return nil, err
	case given == nil:
		return make([][]byte, len(records)), nil
	case len(given) != len(records):
		return nil, fmt.Errorf("%d answers to %d records", len(given), len(records))
	}
	return given, nil
}

// answers are those to the records of one batch.
type answers struct {
	of   [][]byte // nil: there are none
	lost bool     // there were some
}

// settle settles this member's batches that an apply is the fate of. given are the answers to its records, of a state machine that
// gives answers.
func settle(a *core.Apply, given [][]byte, answering bool) {
	for _, b := range a.Batches {
		if p, ok := b.Waiter.(*pending); ok && answering {
			p.answers = answersTo(b, a, given)
		}
		b.Waiter.Settle(nil)
	}
}

// answersTo picks those to a batch. The records of an apply follow one another; a batch that is not among them was in a snapshot.
func answersTo(b *core.Batch, a *core.Apply, given [][]byte) answers {
	if len(a.Accepted) > 0 {
		if first := core.FirstRecord(a.Accepted[0]); b.First >= first && b.First-first < uint64(len(given)) {
			return answers{of: given[b.First-first:][:b.Count]}
		}
	}
	return answers{lost: true}
}

// A Result is what became of an append: its records are in the log.
type Result struct {
	// Index is that of the record, or of the first of several, which follow one another.
	Index uint64
	// Answers are the state machine's, one to each record, if it is an [Answerer]; else nil.
	Answers [][]byte
}

// result is what the append of count records has come to, of which the first is the at-th, once done is closed.
func (b *pending) result(at, count int) (Result, error) {
	index, err := b.fate(at)
	if err != nil {
		return Result{}, err
	}
	r := Result{Index: index}
	switch {
	case b.answers.lost:
		return r, ErrAnswerLost
	case b.answers.of != nil:
		r.Answers = b.answers.of[at : at+count : at+count]
	}
	return r, nil
}

// A Pending is an append that was accepted and whose fate is not known yet. It is a small value, which may be copied; its methods
// may be called by any goroutine, again and again. It need not be waited for.
type Pending struct {
	log *Log
	claim
}

// A claim is what an append has on a batch: its part of the fate.
type claim struct {
	place
	known *core.Outcome  // of a request that had taken effect before; b is nil then
	id    core.RequestID // of the request; its Number is 0 where it is none
	desk  *desk          // of the request
}

// AppendAsync begins to append copies of records, in an epoch, and returns at once. The records are in the log together or not at all,
// one behind the other. The error is one of Append's, and means that nothing was accepted: [ErrBusy] when MaxPending bytes wait
// already. What one goroutine appends in one call after the other is in the log in that order, as far as each is below 4 KiB.
func (l *Log) AppendAsync(epoch uint64, records ...[]byte) (Pending, error) {
	p, err := l.begin(epoch, records...)
	if err != nil {
		l.counts.outcome(err)
	}
	return p, err
}

func (l *Log) begin(epoch uint64, records ...[]byte) (Pending, error) {
	if err := l.fits(records); err != nil {
		return Pending{}, err
	}
	if l.reentrant() {
		return Pending{}, ErrReentrant
	}
	b, at, err := l.add(epoch, records...)
	return Pending{l, claim{place: place{b, at, len(records)}}}, err
}

// fits reports whether records may be one append. Of several, each takes memory beside its data, wherever the log is read.
func (l *Log) fits(records [][]byte) error {
	size := -core.RecordSize
	for _, r := range records {
		size += len(r) + core.RecordSize
	}
	switch {
	case len(records) == 0:
		return errors.New("baton: an append of no records")
	case size > l.cfg.MaxRecord:
		return l.tooLarge(len(records), size)
	}
	return nil
}

func (l *Log) tooLarge(records, size int) error {
	return fmt.Errorf("%w: %d records of %d bytes, at most %d", ErrTooLarge, records, size, l.cfg.MaxRecord)
}

// Done is closed when Wait returns at once.
func (p Pending) Done() <-chan struct{} { return p.done() }

// Wait waits for the fate, and returns what Append does, with the answers. With [ErrAnswerLost] the result holds but for them. When ctx
// ends before, the error is [ErrUnknown] with its cause, and it may be waited for again.
func (p Pending) Wait(ctx context.Context) (Result, error) {
	err := p.await(ctx)
	var r Result
	if err == nil {
		r, err = p.result()
	}
	if err != nil && err != ErrAnswerLost {
		p.log.counts.outcome(err)
	}
	return r, err
}

// await waits until the fate is known, or ctx ends.
func (p Pending) await(ctx context.Context) error {
	done := p.done()
	select {
	case <-done: // looked at alone first, which takes no lock, for those who were told that it is known
		return nil
	default:
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return p.log.leave(ctx, done)
	}
}
