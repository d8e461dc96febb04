package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Errors of calls that say what became of them. The packages that are seen from outside have their own for the codes of replies.
var (
	// ErrLineLost: the stream to the Active has ended, or it is another member.
	ErrLineLost = errors.New("the connection to the Active has ended")
	// ErrNoActive: nobody is known to be Active.
	ErrNoActive = errors.New("no Active is known")
	// ErrCallerBusy: so many calls wait already.
	ErrCallerBusy = errors.New("too many calls are waiting")
	// ErrCallerClosed: the caller was closed.
	ErrCallerClosed = errors.New("closed")
)

// A CallError is a reply that is no answer.
type CallError struct{ Reply Reply }

func (e *CallError) Error() string {
	return fmt.Sprintf("call: code %d: %s", e.Reply.Code, e.Reply.Body)
}

// An UnknownError ends a call of which it is not known whether it has taken effect, and may do so later.
type UnknownError struct{ Err error }

func (e *UnknownError) Error() string { return e.Err.Error() }

// Unwrap returns why nobody will know.
func (e *UnknownError) Unwrap() error { return e.Err }

// CallerConfig says how a [Caller] finds the Active.
type CallerConfig struct {
	// Active names the member that is Active, "" if none is known. It does not block.
	Active func() string
	// Changed returns a channel that is closed when Active may tell another.
	Changed func() <-chan struct{}
	// Open opens a line to a member, whose context is ctx. What comes is told to w.
	Open func(ctx context.Context, member string, w Waiting) (Line, error)
	// MaxBytes bounds the calls that wait, in bytes.
	MaxBytes int64
}

// Waiting is who waits for what comes on a line. Its methods may be called from any goroutine.
type Waiting interface {
	// Replied hands replies on. The slice is the caller's again when it returns, and keeps nothing of it but the bodies. It does not block.
	Replied(replies []Reply)
	// Resumed waits until those run whom replies were handed to: they may be about to send the next request. It must not be called by
	// one of those.
	Resumed()
	// Lost says that nothing more will come.
	Lost(err error)
}

// A Line takes requests to one member.
type Line interface {
	Send(q Request) // does not wait for the other side
	Close()         // nobody waits for what is handed on after it
}

// A Caller carries calls to whoever is Active, and repeats each under its number until it is answered. Its methods may be called
// from any goroutine.
type Caller struct {
	cfg  CallerConfig
	life context.Context // of its lines: ends with Close
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex          // guards everything below
	line    *callLine           // nil: there is none
	dialing map[string]*dialing // by member: one that does not answer keeps nobody from another
	seat    *seat               // from which calls get their numbers; nil: there is none
	asking  *seating            // for a session; nil: nobody does
	bytes   int64
	closed  bool
}

type dialing struct {
	member string
	done   chan struct{}
	err    error
}

type seating struct {
	done chan struct{}
	err  error
}

// A seat is a session, and which of its numbers are in use.
type seat struct {
	id        Session
	next, low uint64       // all below low are done with
	open      [window]bool // from low on, modulo window
}

// window is how many numbers a seat gives out behind one that is not done with: half of what the members keep.
const window = 2048

// numberLocked gives a number out, if there is one.
func (s *seat) numberLocked() (n uint64, ok bool) {
	if s == nil || s.next-s.low >= window {
		return 0, false
	}
	n = s.next
	s.next++
	s.open[n%window] = true
	return n, true
}

// leaveLocked says that a number is done with.
func (s *seat) leaveLocked(n uint64) {
	s.open[n%window] = false
	for s.low < s.next && !s.open[s.low%window] {
		s.low++
	}
}

// NewCaller returns a caller. It must be closed.
func NewCaller(cfg CallerConfig) *Caller {
	c := &Caller{cfg: cfg, dialing: map[string]*dialing{}}
	c.life, c.end = context.WithCancel(context.Background())
	return c
}

// Close ends all calls, and waits for what the caller has started.
func (c *Caller) Close() {
	c.mu.Lock()
	first, line := !c.closed, c.line
	c.closed, c.line = true, nil
	c.mu.Unlock()
	if first {
		c.end()
	}
	if line != nil {
		line.line.Close()
	}
	c.wg.Wait()
}

// Call carries a call to the Active and returns the reply, whose code is CallDone, or as error a *[CallError] with one that is
// final, [ErrCallerBusy] or [ErrCallerClosed]. When ctx ends first, the error wraps its cause; where the call may have got as far as an Active, or a
// reply says that nobody knows, it is an *[UnknownError].
func (c *Caller) Call(ctx context.Context, data []byte) (Reply, error) {
	call := calling{c: c, ctx: ctx, data: data}
	changed := c.cfg.Changed() // before anything is looked at
	if err := call.enter(); err != nil {
		return Reply{}, err
	}
	defer call.exit()
	for {
		reply, final, err := call.try()
		if final {
			return reply, err
		}
		if err := call.pause(changed, err); err != nil {
			return Reply{}, err
		}
		changed = c.cfg.Changed()
	}
}

// A calling is one call on its way.
type calling struct {
	c     *Caller
	ctx   context.Context
	data  []byte
	seat  *seat // nil: it has no number yet
	id    uint64
	low   uint64    // below which number all calls of the seat were done with, at some moment
	line  *callLine // for the next try; nil: to be looked for
	sent  bool      // under its number
	tries int
}

// callBytes is about what a call takes beside its data.
const callBytes = 512

// size is how much of MaxBytes the call takes.
func (g *calling) size() int64 { return int64(len(g.data)) + callBytes }

// enter makes room for the call, or says why there is none, and gives it a number and a line if they are there at once.
func (g *calling) enter() error {
	c := g.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return ErrCallerClosed
	case c.bytes > 0 && c.bytes+g.size() > c.cfg.MaxBytes:
		return ErrCallerBusy
	}
	c.bytes += g.size()
	if n, ok := c.seat.numberLocked(); ok {
		g.seat, g.id, g.low = c.seat, n, c.seat.low
		g.line = c.lineLocked()
	}
	return nil
}

// exit gives back what enter, and what came after it, has taken.
func (g *calling) exit() {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	g.c.bytes -= g.size()
	g.leaveLocked()
}

// leaveLocked gives the number back.
func (g *calling) leaveLocked() {
	if g.seat != nil {
		g.seat.leaveLocked(g.id)
		g.seat, g.sent = nil, false
	}
}

// try tries once. It is final, or the error says why it is to be tried again.
func (g *calling) try() (reply Reply, final bool, err error) {
	line := g.line
	if g.line = nil; line == nil {
		if line, err = g.c.connect(g.ctx); err != nil {
			return reply, errors.Is(err, ErrCallerClosed), g.unknown(err)
		}
		if g.seat == nil {
			if g.seat, g.id, err = g.c.take(g.ctx, line); err != nil {
				return reply, errors.Is(err, ErrCallerClosed), err
			}
		}
		g.low = g.c.low(g.seat)
	}
	q := Request{Op: OpCall, Session: g.seat.id, Number: g.id, Done: g.low, Timeout: timeoutOf(g.ctx), Data: g.data}
	again := g.sent
	g.sent = true
	reply, err = line.ask(g.ctx, q)
	if err != nil {
		return reply, false, err
	}
	switch reply.Code {
	case CallDone:
		return reply, true, nil
	case CallNotActive, CallUnknown:
		if reply.Code == CallNotActive && !again {
			g.sent = false
		}
		return reply, false, &CallError{reply}
	case CallBusy, CallNoRoom:
		if again { // an earlier try may have taken effect
			return reply, false, &CallError{reply}
		}
		return reply, true, &CallError{reply}
	case CallTooLarge:
		if again { // for this member, which therefore has not looked whether an earlier try has taken effect
			return reply, true, &UnknownError{&CallError{reply}}
		}
		return reply, true, &CallError{reply}
	case CallExpired:
		g.c.drop(g.seat)
		if again {
			return reply, true, &UnknownError{&CallError{reply}}
		}
		g.leave() // it has not taken effect: nobody has heard of it before
		return reply, false, &CallError{reply}
	}
	return reply, true, &CallError{reply}
}

// leave gives the number back, so that the call will get another.
func (g *calling) leave() {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	g.leaveLocked()
}

// unknown is an error after which the call is over.
func (g *calling) unknown(err error) error {
	if g.sent {
		return &UnknownError{err}
	}
	return err
}

// pause waits before the next try. It returns an error when there will be none.
func (g *calling) pause(changed <-chan struct{}, why error) error {
	if g.ctx.Err() != nil {
		return g.unknown(fmt.Errorf("%w: %w", context.Cause(g.ctx), why))
	}
	g.tries++
	pause := min(minPause<<min(g.tries-1, 10), maxPause)
	t := time.NewTimer(pause/2 + rand.N(pause))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-changed:
		return nil
	case <-g.ctx.Done():
		return g.unknown(fmt.Errorf("%w: %w", context.Cause(g.ctx), why))
	case <-g.c.life.Done():
		return g.unknown(ErrCallerClosed)
	}
}

const (
	minPause = 2 * time.Millisecond
	maxPause = 200 * time.Millisecond
)

func timeoutOf(ctx context.Context) uint64 {
	at, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint64(max(1, time.Until(at)))
}

// lineLocked returns the line to the Active, nil if there is none that its watch has not ended.
func (c *Caller) lineLocked() *callLine {
	if l := c.line; l != nil && l.alive() {
		return l
	}
	return nil
}

// connect returns the line to the Active, and opens it where there is none. It does not wait for a member that is not Active any more.
func (c *Caller) connect(ctx context.Context) (*callLine, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, ErrCallerClosed
		}
		if l := c.lineLocked(); l != nil {
			c.mu.Unlock()
			return l, nil
		}
		active := c.cfg.Active()
		if active == "" {
			c.mu.Unlock()
			return nil, ErrNoActive
		}
		d := c.dialing[active]
		if d == nil {
			d = &dialing{member: active, done: make(chan struct{})}
			c.dialing[active] = d
			c.wg.Go(func() { c.dial(d) })
		}
		c.mu.Unlock()
		changed := c.cfg.Changed()
		if c.cfg.Active() != active {
			continue
		}
		select {
		case <-d.done:
		case <-changed:
			continue
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if d.err != nil {
			return nil, d.err
		}
	}
}

// dial opens a line, and closes the one before; or the new one, if its member is not Active any more.
func (c *Caller) dial(d *dialing) {
	l := newCallLine(d.member)
	var err error
	l.line, err = c.cfg.Open(c.life, d.member, l)
	active := c.cfg.Active()
	c.mu.Lock()
	old := c.line
	delete(c.dialing, d.member)
	d.err = err
	switch {
	case err != nil:
		old = nil
	case c.closed:
		old, d.err = l, ErrCallerClosed
	case active != "" && active != d.member:
		old, d.err = l, ErrLineLost
	default:
		c.line = l
		c.wg.Go(func() { c.watch(l) })
	}
	c.mu.Unlock()
	close(d.done)
	if old != nil {
		old.line.Close()
		old.Lost(ErrLineLost)
	}
}

// watch ends a line when the Active is another than at its end.
func (c *Caller) watch(l *callLine) {
	for {
		changed := c.cfg.Changed()
		if active := c.cfg.Active(); active != "" && active != l.member {
			l.Lost(ErrLineLost)
			return
		}
		select {
		case <-changed:
		case <-l.gone:
			return
		}
	}
}

// take takes a number, and asks for a session where there is none with one left.
func (c *Caller) take(ctx context.Context, line *callLine) (*seat, uint64, error) {
	for {
		c.mu.Lock()
		s := c.seat
		if n, ok := s.numberLocked(); ok {
			c.mu.Unlock()
			return s, n, nil
		}
		a := c.asking
		if a == nil {
			a = &seating{done: make(chan struct{})}
			c.asking = a
			c.wg.Go(func() { c.askSession(a, line) })
		}
		c.mu.Unlock()
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
		if a.err != nil {
			return nil, 0, a.err
		}
	}
}

// askSession asks for a session.
func (c *Caller) askSession(a *seating, line *callLine) {
	reply, err := line.ask(c.life, Request{Op: OpSession})
	var id Session
	switch {
	case err != nil:
	case reply.Code != CallDone:
		err = &CallError{reply}
	default:
		id, err = ParseSession(reply.Body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking, a.err = nil, err
	if err == nil {
		c.seat = &seat{id: id, next: 1, low: 1}
	}
	close(a.done)
}

// low is below which number all calls of a seat are done with.
func (c *Caller) low(s *seat) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.low
}

// drop lets no more calls take a seat.
func (c *Caller) drop(s *seat) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seat == s {
		c.seat = nil
	}
}
