package log

import (
	"fmt"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// This file is where requests that have an id take effect once (G10): the table of sessions as far as it is applied here, and
// the decision whether a request is new.

// A desk decides about requests.
type desk struct {
	mu    sync.Mutex // guards everything below
	table core.Sessions
	epoch uint64 // in force after what is applied here
	given uint64 // sessions that this member has given out in that epoch
}

type requestKey struct {
	session core.SessionID
	number  uint64
}

// A place is where the records of a request are, whose fate is unknown.
type place struct {
	b         *pending
	at, count int
}

// Requests are those whose fate is unknown, and the last place that each was given.
type requests struct {
	mu   sync.Mutex // guards everything below; held for looking up and taking notes
	of   map[core.SessionID]*core.Numbers[place]
	last core.SessionID       // that was looked for last
	its  *core.Numbers[place] // what it has, perhaps nothing at the moment; nil: it is not there

	spare []requestKey // memory for a batch
}

// sessionLocked returns the requests of a session, nil if there are none. It is mostly the one of the last time.
func (r *requests) sessionLocked(id core.SessionID) *core.Numbers[place] {
	if r.its != nil && r.last == id {
		return r.its
	}
	if r.its != nil && r.its.Len() == 0 {
		delete(r.of, r.last)
	}
	r.last, r.its = id, r.of[id]
	return r.its
}

// await takes note of a request that is put into a batch. It happens before the batch can be settled, which takes the note away.
func (r *requests) await(of *core.RequestID, at place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.b.requests == nil {
		at.b.requests, r.spare = r.spare, nil
	}
	at.b.requests = append(at.b.requests, requestKey{of.Session, of.Number})
	its := r.sessionLocked(of.Session)
	if its == nil {
		if r.of == nil {
			r.of = make(map[core.SessionID]*core.Numbers[place])
		}
		its = new(core.Numbers[place])
		r.of[of.Session], r.its = its, its
	}
	its.Put(of.Number, at)
}

// look returns where a request is.
func (r *requests) look(key requestKey) (at place, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if its := r.sessionLocked(key.session); its != nil {
		at, ok = its.Get(key.number)
	}
	return at, ok
}

// settled takes the notes of a batch away, but for requests that were given another place since.
func (r *requests) settled(b *pending) {
	if len(b.requests) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range b.requests {
		its := r.sessionLocked(key.session)
		if its == nil {
			continue
		}
		if at, _ := its.Get(key.number); at.b == b {
			its.Delete(key.number)
		}
	}
	b.requests, r.spare = nil, b.requests[:0]
}

// append appends the records of a request, unless it is found to have been appended before: the claim is on what became of it then.
//
// Invariant: it is decided with everything of earlier epochs applied, or not at all; what this member has proposed in this epoch is
// either in the table or among the gatherer's requests, in this order; and what it has proposed in an earlier epoch is in the table or
// will never be in the log. So whoever is new is new.
func (d *desk) append(g *gatherer, epoch uint64, id core.RequestID, records [][]byte) (c claim, first bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.id, c.desk = id, d
	switch s := id.Session; {
	case epoch == 0, epoch > d.epoch:
		return c, false, ErrNotActive // the epoch has not begun here
	case epoch < d.epoch:
		return c, false, ErrFenced
	case s.Epoch > epoch, s.Epoch == epoch && s.Number > d.given:
		return c, false, ErrNotActive // who has given it out knows more
	case s == core.SessionID{}, id.Done > id.Number:
		return c, false, fmt.Errorf("%w: nobody gives out such a one", ErrSessionExpired)
	}
	out, done, err := d.table.Look(id)
	if err != nil || done {
		known := out // in memory of its own only here
		c.known = &known
		return c, false, err
	}
	if at, ok := g.requests.look(requestKey{id.Session, id.Number}); ok && at.b.Epoch == epoch {
		c.place = at
		return c, false, nil
	}
	c.count = len(records)
	c.b, c.at, first, err = g.put(epoch, &id, records)
	return c, first, err
}

// open gives out a session.
func (d *desk) open(epoch uint64) (core.SessionID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case epoch == 0, epoch > d.epoch:
		return core.SessionID{}, ErrNotActive
	case epoch < d.epoch:
		return core.SessionID{}, ErrFenced
	}
	d.given++
	return core.SessionID{Epoch: epoch, Number: d.given}, nil
}

// look returns what is known of a request.
func (d *desk) look(epoch uint64, id core.RequestID) (out core.Outcome, known bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if epoch != d.epoch {
		return out, false, ErrFenced
	}
	return d.table.Look(id)
}

// applied takes note of what an apply has done, before anybody is told.
func (d *desk) applied(a *core.Apply, given [][]byte) error {
	if a.Snapshot == nil && !a.Requests() && a.Position.Epoch().Epoch == d.epoch { // it is this goroutine that changes it
		return nil
	}
	if a.Snapshot != nil {
		if err := d.restore(a.Snapshot); err != nil {
			return err
		}
	}
	d.took(a.Accepted, given)
	d.begin(a.Position.Epoch().Epoch)
	return nil
}

// took takes note of the requests in accepted entries.
func (d *desk) took(accepted []*raftpb.Entry, given [][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.table.ApplyRequests(accepted, given)
}

// restore goes on from a checkpoint.
func (d *desk) restore(snap *raftpb.Snapshot) error {
	cp, err := core.ParseCheckpoint(snap)
	if err != nil {
		return err
	}
	table, err := core.DecodeSessions(cp.Sessions)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.table = table
	d.mu.Unlock()
	d.begin(cp.Position.Epoch().Epoch)
	return nil
}

// begin says which epoch is in force, with everything before it applied.
func (d *desk) begin(epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if epoch != d.epoch {
		d.epoch, d.given = epoch, 0
	}
}

// encode returns the table as it is in a checkpoint.
func (d *desk) encode() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Encode()
}

// size returns how many sessions there are, and how many bytes they take.
func (d *desk) size() (sessions, bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.table.Len(), d.table.Size()
}

// OpenSession gives out a session for requests that take effect once. Only the Active of the epoch may ask for one, since each process
// counts those that it has given out. It costs nothing until a request of it is appended. The error is [ErrFenced] or [ErrNotActive].
func (l *Log) OpenSession(epoch uint64) (SessionID, error) { return l.desk.open(epoch) }

// AppendOnce is [Log.AppendAsync] for a request that has an id: where one of that id was appended before, in whichever epoch, nothing is
// appended, and what is returned is the fate of that one. An error that matches [ErrSessionExpired] means that it is not known, and
// will not be known, whether it was.
func (l *Log) AppendOnce(epoch uint64, id RequestID, records ...[]byte) (Pending, error) {
	p, first, err := l.GatherOnce(epoch, id, records...)
	if first {
		l.Wake()
	}
	return p, err
}

// GatherOnce is AppendOnce for whoever is about to append more: where first is true, [Log.Wake] is to be called after that.
func (l *Log) GatherOnce(epoch uint64, id RequestID, records ...[]byte) (p Pending, first bool, err error) {
	p, first, err = l.beginOnce(epoch, id, records)
	if err != nil {
		l.counts.outcome(err)
	}
	return p, first, err
}

// Wake has what was gathered looked at.
func (l *Log) Wake() { l.inbox.poke() }

func (l *Log) beginOnce(epoch uint64, id RequestID, records [][]byte) (p Pending, first bool, err error) {
	if err := l.fits(records); err != nil {
		return p, false, err
	}
	if l.reentrant() {
		return p, false, ErrReentrant
	}
	c, first, err := l.desk.append(&l.gather, epoch, id, records)
	return Pending{l, c}, first, err
}

// Known returns what became of a request, if it has taken effect and everything before the epoch is applied here, which must be the one in force.
func (l *Log) Known(epoch uint64, id RequestID) (r Result, known bool, err error) {
	out, known, err := l.desk.look(epoch, id)
	if !known {
		return Result{}, false, err
	}
	r, err = resultOf(&out)
	return r, true, err
}

// resultOf is what the append of a request gets that had taken effect before.
func resultOf(out *core.Outcome) (Result, error) {
	if out.Lost {
		return Result{Index: out.Index}, ErrAnswerLost
	}
	return Result{out.Index, out.Answers}, nil
}

// settledAlready is closed.
var settledAlready = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// done is closed when the fate is known.
func (c *claim) done() <-chan struct{} {
	if c.known != nil {
		return settledAlready
	}
	return c.b.done
}

// result is the fate, once it is known. What came back in a snapshot, because this member was behind, has the answers to requests in its table.
func (c *claim) result() (Result, error) {
	if c.known != nil {
		return resultOf(c.known)
	}
	r, err := c.b.result(c.at, c.count)
	if err == ErrAnswerLost && c.id.Number > 0 {
		return c.desk.recall(c.id, r)
	}
	return r, err
}

// recall returns the result of a request that has taken effect with its answers, if they are still kept.
func (d *desk) recall(id core.RequestID, r Result) (Result, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if out, known, _ := d.table.Look(id); known {
		return resultOf(&out)
	}
	return r, ErrAnswerLost
}
