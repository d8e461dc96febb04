package ha

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/calls"
	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
)

// This file is the Active's side of calls: it takes them, from streams and from its own program, and sees to it that each takes
// effect once (G10).

// RequestID names a call, for as long as its caller repeats it: a Session, which can be compared, and a Number in it (a uint64). Done is the
// number below which the caller asks for nothing again.
type RequestID = log.RequestID

// Request is a call, as [Config.Handle] is given it.
type Request struct {
	Data []byte // the handler's
	ID   RequestID
	From string // the member or client that called, as it names itself
	Role Role   // what it is, as its certificate says under TLS
	// Known is not nil where this call has taken effect before: what a handler of it, on this member or another, has appended is in
	// the log, with these answers of the StateMachine, and the caller was perhaps not told. The handler need only make the answer of
	// them. An append with its ctx appends nothing, and returns the same.
	Known *Result
}

// CallError is an error of the program's that crosses the wire: what [Config.Handle] returns with it, [Node.Call] does. Any other error of
// Handle's arrives as one with code 0 and its text.
type CallError struct {
	Code uint32 // the program's own
	Text string // at most 4 KiB of it arrive
}

func (e *CallError) Error() string { return e.Text }

// ErrOneAppend is returned by Append and AppendBatch within a handler that has appended already: a call takes effect with one append, of
// any number of records, all or none. What is more would be appended again when the call is repeated.
var ErrOneAppend = errors.New("baton: a handler has appended already; append all records of a call at once")

// maxCallText bounds an error's text on the wire, and maxWaiters those who wait for one call.
const (
	maxCallText = 4 << 10
	maxWaiters  = 16
)

// handling is the handlers that run.
type handling struct {
	counts  callCounts
	streams atomic.Int64  // of callers that are no members
	large   chan struct{} // size largeCalls: a token for each large request of theirs that is being read

	mu      sync.Mutex // guards everything below
	running map[handledKey]*handled
	closed  bool
}

type handledKey struct {
	epoch, number uint64
	session       log.SessionID
}

// A handled is one run of a handler, and who waits for it: a call may be repeated while it is handled.
type handled struct {
	id       RequestID
	appended atomic.Bool // it has asked for its append
	entered  atomic.Bool // which is in the log, or may be

	waiters []waiter // guarded by handling.mu
}

type waiter struct {
	tag  uint64
	desk *callDesk
}

// handledIn is the key of a *handled in the ctx of a handler.
type handledIn struct{}

// A desk takes the calls of one stream, or of this member's program.
type callDesk struct {
	n    *Node
	from string
	role Role
	put  func([]wire.Reply) // does not block, and keeps nothing of it

	mu   sync.Mutex // guards everything below
	open *callBatch // which the next call may join; nil: none
}

func (n *Node) newDesk(from string, role Role, put func([]wire.Reply)) *callDesk {
	return &callDesk{n: n, from: from, role: role, put: put}
}

// take takes a request, whose data are the caller's again when it returns. It does not block. When wake is true, the log is to be woken, once for
// all that are taken at the same moment.
func (d *callDesk) take(q wire.Request) (wake bool) {
	n := d.n
	t := n.tenure.Load()
	if t == nil || n.cfg.Handle != nil && !n.holds(t) { // the log looks itself, once for all records of a batch
		d.answer(q.Tag, nil, n.notActive())
		return false
	}
	id := RequestID{Session: log.SessionID(q.Session), Number: q.Number, Done: q.Done}
	switch {
	case q.Op == wire.OpSession:
		s, err := n.log.OpenSession(t.token.Epoch)
		d.answer(q.Tag, wire.Session(s).Append(nil), err)
	case n.cfg.Handle != nil:
		d.handle(t, id, q)
	default:
		p, first, err := n.log.GatherOnce(t.token.Epoch, id, q.Data)
		if err != nil {
			d.answer(q.Tag, nil, err)
			return false
		}
		d.await(pendingCall{q.Tag, p})
		return first
	}
	return false
}

// answer puts the answer to one call, an error if there is one.
func (d *callDesk) answer(tag uint64, body []byte, err error) {
	r := wire.Reply{Tag: tag, Body: body}
	d.n.withError(&r, err)
	d.put([]wire.Reply{r})
}

// withError makes a reply one that says what has gone wrong, if something has.
func (n *Node) withError(r *wire.Reply, err error) {
	if err == nil {
		return
	}
	r.Code, r.Body = callCode(err), nil
	n.handling.counts.failed(r.Code)
	var own *CallError
	switch {
	case r.Code == wire.CallNotActive:
		s := n.view(n.clock())
		r.Active, r.Addr = s.Active, s.ActiveAddr
	case errors.As(err, &own):
		r.Own, r.Body = own.Code, []byte(own.Text)
	}
	if r.Body == nil {
		r.Body = []byte(err.Error())
	}
	r.Body = r.Body[:min(len(r.Body), maxCallText)]
}

// callCode is how an error of an append, or a handler's, is said on the wire.
func callCode(err error) wire.CallCode {
	for _, c := range [...]struct {
		is   error
		code wire.CallCode
	}{
		{ErrUnknown, wire.CallUnknown}, {ErrFenced, wire.CallNotActive}, {ErrNotActive, wire.CallNotActive}, {ErrClosed, wire.CallNotActive},
		{ErrNoRoom, wire.CallNoRoom}, {ErrBusy, wire.CallBusy}, {ErrTooLarge, wire.CallTooLarge}, {ErrSessionExpired, wire.CallExpired},
		{ErrAnswerLost, wire.CallAnswerLost},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return wire.CallRefused
}

// handle runs the handler for a call, or waits with others for the one that runs already.
func (d *callDesk) handle(t *tenure, id RequestID, q wire.Request) {
	n := d.n
	key := handledKey{t.token.Epoch, id.Number, id.Session}
	wait := waiter{q.Tag, d}
	s := &n.handling
	s.mu.Lock()
	h := s.running[key]
	switch {
	case s.closed:
		s.mu.Unlock()
		d.answer(q.Tag, nil, ErrClosed)
		return
	case h != nil && len(h.waiters) < maxWaiters:
		h.waiters = append(h.waiters, wait)
		s.mu.Unlock()
		return
	case h != nil, len(s.running) >= n.cfg.MaxHandlers:
		s.mu.Unlock()
		d.answer(q.Tag, nil, ErrBusy)
		return
	}
	h = &handled{id: id, waiters: []waiter{wait}}
	if s.running == nil {
		s.running = make(map[handledKey]*handled)
	}
	s.running[key] = h
	n.callbacks.Add(1)
	s.mu.Unlock()

	var reply wire.Reply
	data := bytes.Clone(q.Data)
	n.calls.Go("Handle", func() error {
		body, err := n.runHandler(t, h, Request{Data: data, ID: id, From: d.from, Role: d.role}, time.Duration(min(q.Timeout, uint64(maxEvery))))
		reply.Body = body
		n.withError(&reply, err) // here, since the error's own methods are the program's, too
		return nil
	}, func(err error) {
		s.mu.Lock()
		delete(s.running, key)
		waiters := h.waiters
		s.mu.Unlock()
		if err != nil {
			reply = wire.Reply{}
			n.withError(&reply, n.panicked(err))
		}
		n.handling.counts.answered([]wire.Reply{reply})
		for _, w := range waiters {
			reply.Tag = w.tag
			w.desk.put([]wire.Reply{reply})
		}
		n.callbacks.Done()
	})
}

// panicked is the error of a handler without the stack of a panic, which is for the operator and not for the caller.
func (n *Node) panicked(err error) error {
	var p *calls.PanicError
	if !errors.As(err, &p) {
		return err
	}
	line := func(times int) {
		args := []any{"member", n.cfg.Name, "err", err}
		if times > 1 {
			args = append(args, "times", times)
		}
		n.cfg.Logger.Error("handler failed", args...)
	}
	if times, yes := n.repeats.note(time.Now(), "handler", p.Value, line); yes {
		line(times)
	}
	return &CallError{Text: "baton: the handler panicked: " + p.Value}
}

// runHandler calls the handler, with a ctx that ends with the role.
func (n *Node) runHandler(t *tenure, h *handled, r Request, timeout time.Duration) ([]byte, error) {
	out, known, err := n.log.Known(t.token.Epoch, r.ID)
	switch {
	case err != nil:
		return nil, err
	case known:
		r.Known = &out
	}
	ctx, cancel := context.WithCancel(context.WithValue(t.ctx, handledIn{}, h))
	defer cancel()
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	body, err := n.cfg.Handle(ctx, t.token, r)
	switch {
	case err != nil && ctx.Err() != nil && callCode(err) == wire.CallRefused:
		// It may have been about to append, or have appended: whoever asks again learns it.
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	case err != nil && (known || h.entered.Load()):
		return nil, afterAppend(err)
	case err == nil && len(body) > wire.MaxCall:
		return nil, fmt.Errorf("%w: an answer of %d bytes, at most %d", ErrAnswerLost, len(body), wire.MaxCall)
	}
	return body, err
}

// afterAppend is what a handler's error means whose append may be in the log: it is not about that, and must not be taken for the word that the call has not
// taken effect. What may be over in a moment, or on the next Active, is worth another try, which is told what is known; the rest is the program's own.
func afterAppend(err error) error {
	switch callCode(err) {
	case wire.CallNotActive, wire.CallBusy, wire.CallNoRoom:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case wire.CallTooLarge, wire.CallExpired:
		return &CallError{Text: err.Error()}
	}
	return err
}

// appendFor appends records for a call, under its id.
func (n *Node) appendFor(ctx context.Context, h *handled, t fence.Token, records [][]byte) (Result, error) {
	if err := n.rejects(t); err != nil {
		return Result{}, err
	}
	if h.appended.Swap(true) {
		return Result{}, ErrOneAppend
	}
	p, err := n.log.AppendOnce(t.Epoch, h.id, records...)
	if err != nil {
		return Result{}, n.appendError(err)
	}
	r, err := p.Wait(ctx)
	h.entered.Store(err == nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrAnswerLost))
	if err != nil {
		err = n.appendError(err)
	}
	return r, err
}

// appendOneFor is appendFor for one record, whose answer was not asked for.
func (n *Node) appendOneFor(ctx context.Context, h *handled, t fence.Token, record []byte) (uint64, error) {
	r, err := n.appendFor(ctx, h, t, [][]byte{record})
	if err == ErrAnswerLost {
		err = nil
	}
	return r.Index, err
}

// handledBy returns the run of a handler that a ctx is of, nil if it is none's.
func (n *Node) handledBy(ctx context.Context) *handled {
	if n.cfg.Handle == nil {
		return nil
	}
	h, _ := ctx.Value(handledIn{}).(*handled)
	return h
}
