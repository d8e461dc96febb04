package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3"
)

// An actor is one member.
type actor struct {
	stage   *stage
	cfg     Config
	core    *Core // nil: its process has ended
	held    *memory
	hangs   bool // its disk does
	sleeps  bool
	slow    bool // its state machine does not return
	writes  []*Write
	applies []*Apply
	lease   time.Duration // as it was told last
}

func (a *actor) start() {
	var err error
	a.lease = 0
	if a.core, err = New(a.cfg, a.held, a.stage.now); err != nil {
		a.stage.t.Fatal(err)
	}
}

// Changed and Posted make it an observer, which opens an epoch as soon as it leads if the script says so.
func (a *actor) Changed(_ time.Duration, _ View, change Change) []Event {
	if l, ok := change.(Leadership); ok && l.Leading && a.stage.opens {
		return []Event{StartEpoch{ClusterID: [16]byte{1}}}
	}
	return nil
}

func (a *actor) Posted(time.Duration, View, Mail) []Event { return nil }

// step steps the core, and does what it asks for.
func (a *actor) step(events ...Event) {
	s := a.stage
	if a.core == nil {
		return
	}
	var mail []Mail
	for _, ev := range events {
		mail = append(mail, ev)
	}
	a.held.stepping = true
	eff, err := Drive(a.core, a, s.now, mail)
	a.held.stepping = false
	if err != nil {
		s.t.Fatalf("%s: %v", a.cfg.Name, err)
	}
	for _, ch := range eff.Changes {
		a.tell(ch)
	}
	s.net = append(s.net, eff.Send...)
	a.writes = append(a.writes, eff.Writes...)
	for _, d := range eff.Done {
		if d.Err != nil {
			s.say("%s: %d records are refused: %v", a.cfg.Name, d.Batch.Count, d.Err)
		} else {
			s.say("%s: records from %d on are acknowledged", a.cfg.Name, d.Batch.First)
		}
	}
	for _, d := range eff.Decided {
		if d.Err != nil {
			s.say("%s: the change is refused: %v", a.cfg.Name, d.Err)
		} else {
			s.say("%s: the change is in force, in version %d", a.cfg.Name, d.Version)
		}
	}
	var next []Event
	for _, f := range eff.Fetches {
		s.say("%s: fetches entries [%d, %d) from disk", a.cfg.Name, f.Lo, f.Hi)
		next = append(next, a.held.fetch(f))
	}
	for _, p := range eff.Applies {
		if p.Snapshot != nil {
			s.say("%s: restores the checkpoint at record %d", a.cfg.Name, p.Position.Index)
		}
		for _, r := range p.AppendRecords(nil) {
			s.say("%s: applies record %d of epoch %d: %s", a.cfg.Name, r.Index, r.Epoch, r.Data)
		}
		a.applies = append(a.applies, p)
	}
	if !a.slow {
		for _, p := range a.applies {
			next = append(next, Applied{Apply: p})
		}
		a.applies = nil
	}
	for _, ev := range next {
		a.step(ev)
	}
}

// tell says what the core tells its observer.
func (a *actor) tell(change Change) {
	s := a.stage
	switch ch := change.(type) {
	case Leadership:
		switch {
		case ch.Leading:
			after := ""
			if ch.After.Leader != 0 {
				after = fmt.Sprintf(", after %s in term %d: %v", s.name(ch.After.Leader), ch.After.Term, ch.After.Ended)
			}
			s.say("%s: leads in term %d%s", a.cfg.Name, ch.Term, after)
		case ch.Leader == 0:
			s.say("%s: follows nobody in term %d", a.cfg.Name, ch.Term)
		default:
			s.say("%s: follows %s in term %d", a.cfg.Name, s.name(ch.Leader), ch.Term)
		}
	case Lease:
		had := a.lease > s.now
		if has := ch.Until > s.now; has != had || s.shows["heartbeats"] {
			s.say("%s: lease until %s", a.cfg.Name, s.at(ch.Until))
		}
		a.lease = ch.Until
	case EpochStarted:
		s.say("%s: epoch %d of %s has started", a.cfg.Name, ch.Epoch.Epoch, ch.Epoch.Holder)
	case PeerGone:
		s.say("%s: the process of %s has ended", a.cfg.Name, s.name(ch.ID))
	case PeerLost:
		s.say("%s: messages to %s were lost", a.cfg.Name, s.name(ch.ID))
	case TransferRefused:
		s.say("%s: %s cannot take over", a.cfg.Name, s.name(ch.By))
	case TransferAsked:
		s.say("%s: is asked by %s to hand over", a.cfg.Name, s.name(ch.By))
	case RosterChanged:
		var names []string
		for _, m := range ch.Roster.Members {
			names = append(names, m.Name)
			if m.Kind != KindVoter {
				names[len(names)-1] += " (" + m.Kind.String() + ")"
			}
		}
		text := strings.Join(names, ", ")
		if ch.Roster.Joint() {
			var old []string
			for _, m := range ch.Roster.Outgoing {
				old = append(old, m.Name)
			}
			text += "; until they agree also a majority of " + strings.Join(old, ", ")
		}
		s.say("%s: the members are %s", a.cfg.Name, text)
	case Doubted:
		s.say("%s: the lease is given up: the clock on the wall got ahead by %v", a.cfg.Name, ch.By)
	case StartRefused:
		s.say("%s: cannot start an epoch now", a.cfg.Name)
	case Problem:
		about := ""
		if ch.Peer != 0 {
			about = " of " + s.name(ch.Peer)
		}
		if ch.Err != nil {
			s.say("%s: problem %s%s: %v", a.cfg.Name, ch.Kind, about, ch.Err)
		} else {
			s.say("%s: problem %s%s is over", a.cfg.Name, ch.Kind, about)
		}
	}
}

// write does a write, and sends what rests on it.
func (a *actor) write(w *Write) {
	s := a.stage
	a.held.write(w)
	if s.shows["writes"] && len(w.Entries) > 0 {
		s.say("%s: writes %s", a.cfg.Name, s.entries(w.Entries))
	}
	if s.shows["writes"] && w.Hard != nil {
		s.say("%s: writes term %d, vote for %s, committed %d", a.cfg.Name, w.Hard.GetTerm(), s.name(w.Hard.GetVote()), w.Hard.GetCommit())
	}
	s.net = append(s.net, w.Send...)
	a.step(Written{Write: w})
}

// checkpoint makes a checkpoint of what is committed, and cuts the log behind it.
func (a *actor) checkpoint() {
	p, h := a.core.pos, a.held
	term, err := h.Term(p.Raft)
	if err != nil {
		a.stage.t.Fatal(err)
	}
	h.snap = NewSnapshot(term, Checkpoint{Version: CheckpointVersion, Position: p,
		Base: Base{Raft: p.Raft, Term: term, Index: p.Index}, State: StateOf})
	h.ents = slices.Clone(h.ents[p.Raft-h.base:])
	h.base, h.baseAt, h.recent = p.Raft, term, max(h.recent, p.Raft+1)
	a.stage.say("%s: has a checkpoint at record %d, and no log before it", a.cfg.Name, p.Index)
}

// show tells what a member believes.
func (a *actor) show() {
	s, c := a.stage, a.core
	if c == nil {
		s.say("%s: is no process", a.cfg.Name)
		return
	}
	last, _ := a.held.LastIndex()
	s.say("%s: %s in term %d, leader %s, epoch %d", a.cfg.Name, strings.TrimPrefix(c.state.String(), "State"), c.term, s.name(c.leader), c.pos.Epoch().Epoch)
	fmt.Fprintf(&s.out, "           holds entries %d to %d, committed up to %d, record %d\n", a.held.base+1, last, c.pos.Raft, c.pos.Index)
	if c.state == raft.StateLeader {
		fmt.Fprintf(&s.out, "           lease until %s, released up to %s, open batches %d\n", s.at(c.lease.until), s.at(time.Duration(c.lease.released)), len(c.fate.open))
	} else {
		fmt.Fprintf(&s.out, "           has promised to %s until %s, guard until %s, campaigns at %s\n", s.name(c.promises.leader), s.at(c.promises.until),
			s.at(c.promises.guard), s.at(c.voter.electAt))
	}
}
