package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// This file follows a change of the members through the core: asked for, proposed, committed, in force.
//
// A change is in force on a member from the moment on at which the member moves over its committed entry. So a leader has it in
// force before any other member can know that it is committed.
//
// Whoever could be elected beside a leader counts votes by the configuration that the leader has in force, or by the one
// before it. One before that cannot win: its candidate lacks an entry that a majority of its own voters has. One that the
// leader does not have in force yet is not committed, unless by a later leader. Where voters change, raft goes through a
// configuration in which both majorities are needed, so of the two configurations one contains the other's majority; and the
// lease is counted in the configuration in force, in both halves where it has two. So a majority of whoever could elect
// somebody has promised not to.

// A Reconfiguration asks the leader for a change of the roster. Its fate comes as a [Decided], exactly once.
type Reconfiguration struct {
	Change MemberChange

	index, term uint64 // of its entry
}

// Decided is the fate of a [Reconfiguration]: with a nil Err the change is in force here, in Version of the roster.
type Decided struct {
	Reconfiguration *Reconfiguration
	Version         uint64
	Err             error
}

// Reconfigure asks for a [Reconfiguration].
type Reconfigure struct{ Reconfiguration *Reconfiguration }

func (Reconfigure) event() {}

// Mail implements [Mail].
func (Reconfigure) Mail() {}

// RosterChanged says that the roster has changed, or raft's way to it has.
type RosterChanged struct{ Roster Roster }

func (RosterChanged) change() {}

// Mail implements [Mail].
func (RosterChanged) Mail() {}

var (
	// ErrNotLeader is the fate of a change that was asked of a member that does not lead.
	ErrNotLeader = errors.New("baton: this member does not lead")
	// ErrNotYetSettled is the fate of a change that comes before the leader has applied what earlier leaders have left.
	ErrNotYetSettled = errors.New("baton: the leader has not yet settled what is before the change")
)

// changing is what a leader knows of the change that it has proposed.
type changing struct {
	asked *Reconfiguration // its fate is open; nil: there is none
	now   bool             // the next entry that raft hands out is its
}

// written takes note of the entries that raft hands out to be written.
func (c *changing) written(ents []*raftpb.Entry) {
	if c.now {
		last := ents[len(ents)-1]
		c.asked.index, c.asked.term, c.now = last.GetIndex(), last.GetTerm(), false
	}
}

// reconfigure proposes a change.
func (c *Core) reconfigure(now time.Duration, r *Reconfiguration) error {
	entry, err := c.reconfiguration(r.Change)
	if err == nil {
		if err := c.drain(now); err != nil { // so that what comes next is the change
			return err
		}
		err = c.node.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: &c.cfg.ID, Entries: []*raftpb.Entry{entry}})
	}
	if err != nil {
		c.eff.Decided = append(c.eff.Decided, Decided{Reconfiguration: r, Err: err})
		return nil
	}
	c.changing = changing{asked: r, now: true}
	return c.drain(now)
}

// reconfiguration makes the entry of a change, if it can be made now. What is checked here is checked again when the entry is
// committed, and only that counts.
func (c *Core) reconfiguration(change MemberChange) (*raftpb.Entry, error) {
	switch {
	case c.state != raft.StateLeader:
		return nil, ErrNotLeader
	case c.changing.asked != nil:
		return nil, ErrChanging
	}
	roster := &c.pos.Roster
	next, err := roster.Apply(c.pos.Raft+1, change)
	if err != nil {
		return nil, err
	}
	if m, ok := next.Find(c.cfg.ID); !ok || !m.Kind.Votes() {
		return nil, fmt.Errorf("%w: the leader itself would no longer vote; hand over first", ErrBadChange)
	}
	cc := roster.confChange(&next)
	if cc == nil {
		return &raftpb.Entry{Data: encodeMsgpack([]byte{kindMembers}, change)}, nil
	}
	cc.Context = encodeMsgpack(nil, change)
	data, err := proto.Marshal(cc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadChange, err)
	}
	return &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}, nil
}

// reconfigure moves over an entry that changes raft's configuration.
func (p *Position) reconfigure(e *raftpb.Entry) (Moved, error) {
	var cc raftpb.ConfChangeV2
	if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
		return Moved{}, fmt.Errorf("%w: raft entry %d: %w", ErrFormat, p.Raft, err)
	}
	if len(cc.GetContext()) == 0 && len(cc.GetChanges()) == 0 { // raft's own: both halves have agreed
		if !p.Roster.Joint() {
			return Moved{Refused: ErrBadChange}, nil
		}
		p.Roster = p.Roster.leave()
		return Moved{Reconfigured: true, raft: &raftpb.ConfChangeV2{}}, nil
	}
	return p.change(cc.GetContext(), &cc)
}

// amend moves over an entry that changes what raft need not know.
func (p *Position) amend(data []byte) (Moved, error) { return p.change(data[1:], nil) }

// change moves over a change. cc is what its proposer has asked of raft.
func (p *Position) change(data []byte, cc *raftpb.ConfChangeV2) (Moved, error) {
	var change MemberChange
	if err := decodeMsgpack(data, &change); err != nil {
		return Moved{}, fmt.Errorf("raft entry %d: %w", p.Raft, err)
	}
	next, err := p.Roster.Apply(p.Raft, change)
	if err != nil {
		return Moved{Refused: err}, nil
	}
	own := p.Roster.confChange(&next)
	if !sameChange(own, cc) {
		return Moved{Refused: fmt.Errorf("%w: it says one thing to raft and another to the members", ErrBadChange)}, nil
	}
	p.Roster = next
	return Moved{Reconfigured: true, raft: own}, nil
}

// sameChange reports whether raft was asked for what follows from the roster.
func sameChange(own, asked *raftpb.ConfChangeV2) bool {
	if own == nil || asked == nil {
		return own == nil && asked == nil
	}
	without := &raftpb.ConfChangeV2{Transition: asked.Transition, Changes: asked.GetChanges()}
	return proto.Equal(own, without)
}

// reconfigured puts in force what an entry has changed, and answers who has asked for it.
func (c *Core) reconfigured(e *raftpb.Entry, m Moved) error {
	if m.raft != nil {
		state, want := c.node.ApplyConfChange(m.raft), c.pos.Roster.ConfState()
		if state.Equivalent(want) != nil && state.Equivalent(c.withThisMember(want)) != nil {
			return fmt.Errorf("baton: raft entry %d: raft has the configuration %v, the roster stands for %v", e.GetIndex(), state, want)
		}
	}
	if m.Reconfigured {
		c.enroll()
	}
	if r := c.changing.asked; r != nil && r.index <= e.GetIndex() {
		c.changing = changing{}
		d := Decided{Reconfiguration: r, Version: c.pos.Roster.Version, Err: m.Refused}
		switch {
		case e.GetTerm() != r.term:
			d.Err = ErrNotLeader // another leader's entry is in its place
		case !m.Reconfigured && m.Refused == nil:
			d.Err = ErrNotYetSettled // raft has put nothing in its place
		}
		c.eff.Decided = append(c.eff.Decided, d)
	}
	return nil
}

// forThisMember returns a leader's checkpoint as raft takes it. Raft would not have one in whose configuration this member is not;
// but one may be from before this member was added, and the log goes on from there to that.
func (c *Core) forThisMember(m *raftpb.Message) *raftpb.Message {
	state := m.GetSnapshot().GetMetadata().GetConfState()
	own := c.withThisMember(state)
	if own == state {
		return m
	}
	m = proto.Clone(m).(*raftpb.Message)
	m.Snapshot.Metadata.ConfState = own
	return m
}

// withThisMember returns a configuration with this member as a learner, if it is not in it.
func (c *Core) withThisMember(state *raftpb.ConfState) *raftpb.ConfState {
	for _, ids := range [][]uint64{state.GetVoters(), state.GetVotersOutgoing(), state.GetLearners(), state.GetLearnersNext()} {
		if slices.Contains(ids, c.cfg.ID) {
			return state
		}
	}
	state = proto.Clone(state).(*raftpb.ConfState)
	state.Learners = append(state.Learners, c.cfg.ID)
	return state
}

// enroll takes the roster of the position over.
func (c *Core) enroll() {
	c.members = membersOf(c.pos.Roster)
	c.voter.arbiter = c.members.arbiter(c.cfg.ID)
	c.change(RosterChanged{c.pos.Roster})
}

// forgetChange answers a change whose entry a leader's checkpoint has swallowed.
func (c *Core) forgetChange() {
	if r := c.changing.asked; r != nil {
		c.eff.Decided = append(c.eff.Decided, Decided{Reconfiguration: r, Err: ErrUnknown})
	}
	c.changing = changing{}
}
