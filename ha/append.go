package ha

import (
	"context"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// This file is the forms of Append beside the plain one: many records at once, with the answers of the state machine, and without
// waiting.

// Result is what became of an append: where its records are in the log (Index, of the first, a uint64), and what the state machine has
// answered to each (Answers, a [][]byte, nil if it is no [Answerer]).
type Result = log.Result

// ErrAnswerLost is returned, with a [Result] that says where the records are, by AppendBatch and [Pending.Wait] when the append has
// succeeded and this member does not know the answers: it has lost the role meanwhile, and was brought up to date by a
// snapshot, in which the records are. It only comes where the StateMachine is an [Answerer].
var ErrAnswerLost = log.ErrAnswerLost

// AppendBatch appends records as [Node.Append] does one: all of them, in the token's epoch, one behind the other from
// [Result.Index] on, or none. It returns what the StateMachine has answered to each, if it is an [Answerer]: with one
// record it is the form of Append that gets the answer. The records are copied; each counts 40 bytes besides its data, and without the
// first 40 they must not be larger together than Config.MaxRecord. The errors are those of Append, and [ErrAnswerLost].
func (n *Node) AppendBatch(ctx context.Context, t fence.Token, records ...[]byte) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if h := n.handledBy(ctx); h != nil {
		return n.appendFor(ctx, h, t, records)
	}
	p, err := n.AppendAsync(t, records...)
	if err != nil {
		return Result{}, err
	}
	return p.Wait(ctx)
}

// AppendAsync is [Node.AppendBatch] without the wait: it returns at once, and what it returns tells the fate later. So one goroutine
// may have any number of appends under way, up to Config.MaxPending bytes of records; then it returns [ErrBusy]. An error
// is one of Append's, and means that nothing was accepted. What one goroutine appends in one call after the other is in the
// log in that order, as far as each is below 4 KiB.
func (n *Node) AppendAsync(t fence.Token, records ...[]byte) (Pending, error) {
	if err := n.rejects(t); err != nil {
		return Pending{}, err
	}
	p, err := n.log.AppendAsync(t.Epoch, records...)
	if err != nil {
		err = n.appendError(err)
	}
	return Pending{p, n}, err
}

// Pending is an append whose fate is not known yet, as AppendAsync returns it. It is a small value and may be copied; its methods may
// be called by any goroutine, any number of times, or never: nothing is held until then.
type Pending struct {
	p log.Pending
	n *Node
}

// Done is closed when the fate is known.
func (p Pending) Done() <-chan struct{} { return p.p.Done() }

// Wait waits for the fate. Its errors are those of AppendBatch. When ctx ends first it returns [ErrUnknown] with the cause, and may
// be called again.
func (p Pending) Wait(ctx context.Context) (Result, error) {
	r, err := p.p.Wait(ctx)
	if err != nil {
		err = p.n.appendError(err)
	}
	return r, err
}
