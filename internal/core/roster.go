package core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Who belongs to the cluster is replicated state like the epochs: it is part of the [Position], in every checkpoint, and
// changed only by committed entries, on every member alike. What raft has to know of it (who votes) follows from it: the
// roster is what is agreed on, raft's configuration is a function of it.
//
// A raft id stands for one directory: what a voter has promised, voted and acknowledged is in there. So an id that has left
// is never used again, and a member that comes back with another directory comes as another id.

// A Kind says what a member is there for.
type Kind uint8

const (
	KindVoter    Kind = iota // counts in every majority, and may lead
	KindObserver             // has all of the log, and no vote
	KindArbiter              // counts in every majority, and keeps what it does not understand: it hands a leadership on
)

// Votes reports whether such a member counts in majorities.
func (k Kind) Votes() bool { return k == KindVoter || k == KindArbiter }

func (k Kind) String() string {
	switch k {
	case KindVoter:
		return "voter"
	case KindObserver:
		return "observer"
	case KindArbiter:
		return "arbiter"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Kind) UnmarshalText(text []byte) error {
	for *k = KindVoter; *k <= KindArbiter; *k++ {
		if k.String() == string(text) {
			return nil
		}
	}
	return fmt.Errorf("baton: %q is no kind of a member", text)
}

// A Member is one member of the cluster, as all others know it.
type Member struct {
	ID          uint64 `codec:"i" json:"id"` // raft's
	Name        string `codec:"n" json:"name"`
	Addr        string `codec:"a,omitempty" json:"addr"`                // host:port of its transport; "": as configured
	Advertise   string `codec:"v,omitempty" json:"advertise,omitempty"` // where the program itself is reached
	Incarnation uint64 `codec:"c,omitempty" json:"incarnation"`         // of its directory; 0: one of the first list, whom the others know by what they have met
	Kind        Kind   `codec:"k,omitempty" json:"kind"`
	Joining     bool   `codec:"j,omitempty" json:"joining,omitempty"` // an observer that is to become what Becomes says once it has caught up
	Becomes     Kind   `codec:"w,omitempty" json:"becomes,omitempty"` // of one that is joining: a voter or an arbiter
	Priority    int    `codec:"p,omitempty" json:"priority"`
}

// A Former member's id is never used again.
type Former struct {
	ID          uint64 `codec:"i"`
	Name        string `codec:"n"`
	Incarnation uint64 `codec:"c,omitempty"`
}

// A Roster is the list of the members. It is a value whose slices are shared and do not change: a change makes another.
type Roster struct {
	Version  uint64   `codec:"v"`           // raft index of the last change, 1 at the birth of the cluster
	Members  []Member `codec:"m"`           // by id
	Outgoing []Member `codec:"o,omitempty"` // while a change is under way that needs both majorities: who voted before it, by id
	Removed  []Former `codec:"r,omitempty"` // the latest
}

// A MemberChange is a change of the roster that is asked for. Put adds members, and replaces those of the same id; Remove takes
// members out. All of it happens at once, or nothing.
type MemberChange struct {
	Base   uint64   `codec:"b"` // version of the roster it was made from
	Put    []Member `codec:"p,omitempty"`
	Remove []uint64 `codec:"r,omitempty"`
}

// Bounds of a roster. What is forgotten of those removed are the oldest.
const (
	MaxMembers = 64
	maxRemoved = 4096
	maxText    = 255 // bytes of a name or address
)

// Why a change is refused.
var (
	// ErrOutdated: the roster has changed since the change was made.
	ErrOutdated = errors.New("baton: the list of members has changed meanwhile")
	// ErrChanging: another change of the voters is under way.
	ErrChanging = errors.New("baton: another change of the members is under way")
	// ErrBadChange is matched by what says that a change makes no sense for the roster it was made from.
	ErrBadChange = errors.New("baton: not a change of the members that can be made")
)

// Find returns the member with an id.
func (r *Roster) Find(id uint64) (Member, bool) {
	if i, ok := slices.BinarySearchFunc(r.Members, id, byID); ok {
		return r.Members[i], true
	}
	return Member{}, false
}

// Known returns the member with an id, or the one who was and still votes until a change has ended.
func (r *Roster) Known(id uint64) (Member, bool) {
	if m, ok := r.Find(id); ok {
		return m, true
	}
	if i, ok := slices.BinarySearchFunc(r.Outgoing, id, byID); ok {
		return r.Outgoing[i], true
	}
	return Member{}, false
}

// Named returns the member of a name. While one is being replaced there are two, and this is the new one.
func (r *Roster) Named(name string) (Member, bool) {
	var found Member
	ok := false
	for _, m := range r.Members {
		if m.Name == name && (!ok || !m.Kind.Votes()) {
			found, ok = m, true
		}
	}
	return found, ok
}

// Gone reports whether an id has left the cluster, as far as that is still known.
func (r *Roster) Gone(id uint64) bool {
	return slices.ContainsFunc(r.Removed, func(f Former) bool { return f.ID == id })
}

// Left reports whether an id has left for good: it is gone, and nobody waits for its vote any more. Until then it must stay.
func (r *Roster) Left(id uint64) bool {
	return r.Gone(id) && !slices.Contains(r.outgoing(), id)
}

// Voters returns the ids of those who vote, once no change is under way any more.
func (r *Roster) Voters() []uint64 {
	var ids []uint64
	for _, m := range r.Members {
		if m.Kind.Votes() {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// outgoing returns the ids of those who voted before a change that is under way.
func (r *Roster) outgoing() []uint64 {
	var ids []uint64
	for _, m := range r.Outgoing {
		ids = append(ids, m.ID)
	}
	return ids
}

// Joint reports whether a change of the voters is under way.
func (r *Roster) Joint() bool { return len(r.Outgoing) > 0 }

// ConfState is the roster as raft knows it.
func (r *Roster) ConfState() *raftpb.ConfState {
	cs := &raftpb.ConfState{Voters: r.Voters(), VotersOutgoing: r.outgoing()}
	for _, m := range r.Members {
		switch {
		case m.Kind.Votes():
		case slices.Contains(cs.VotersOutgoing, m.ID):
			cs.LearnersNext = append(cs.LearnersNext, m.ID)
		default:
			cs.Learners = append(cs.Learners, m.ID)
		}
	}
	if r.Joint() {
		cs.AutoLeave = new(true)
	}
	return cs
}

// Apply returns the roster after a change that is committed at a raft index. It refuses a change that does not fit, with
// an error that matches [ErrOutdated], [ErrChanging] or [ErrBadChange].
func (r *Roster) Apply(at uint64, c MemberChange) (Roster, error) {
	switch {
	case c.Base != r.Version:
		return *r, fmt.Errorf("%w: it was made from version %d, and this is version %d", ErrOutdated, c.Base, r.Version)
	case r.Joint():
		return *r, ErrChanging
	case len(c.Put) == 0 && len(c.Remove) == 0:
		return *r, fmt.Errorf("%w: nothing is to change", ErrBadChange)
	}
	next := Roster{Version: at, Members: slices.Clone(r.Members), Removed: slices.Clone(r.Removed)}
	for _, id := range c.Remove {
		i, ok := slices.BinarySearchFunc(next.Members, id, byID)
		if !ok {
			return *r, fmt.Errorf("%w: no member has id %x", ErrBadChange, id)
		}
		m := next.Members[i]
		next.Members = slices.Delete(next.Members, i, i+1)
		next.Removed = append(next.Removed, Former{ID: m.ID, Name: m.Name, Incarnation: m.Incarnation})
	}
	for _, m := range c.Put {
		if err := next.put(m); err != nil {
			return *r, err
		}
	}
	next.Removed = next.Removed[max(0, len(next.Removed)-maxRemoved):]
	if err := next.check(); err != nil {
		return *r, err
	}
	if cc := r.confChange(&next); cc.GetTransition() == raftpb.ConfChangeTransitionJointImplicit {
		next.Outgoing = slices.DeleteFunc(slices.Clone(r.Members), func(m Member) bool { return !m.Kind.Votes() })
	}
	return next, nil
}

// put adds a member or replaces the one with its id.
func (r *Roster) put(m Member) error {
	i, ok := slices.BinarySearchFunc(r.Members, m.ID, byID)
	if !ok {
		if r.Gone(m.ID) {
			return fmt.Errorf("%w: id %x was another member's, and is not used again", ErrBadChange, m.ID)
		}
		r.Members = slices.Insert(r.Members, i, m)
		return nil
	}
	old := r.Members[i]
	if old.Name != m.Name {
		return fmt.Errorf("%w: id %x is %q, and cannot become %q", ErrBadChange, m.ID, old.Name, m.Name)
	}
	if old.Incarnation != 0 && old.Incarnation != m.Incarnation {
		return fmt.Errorf("%w: %q has another directory than the one that is named", ErrBadChange, m.Name)
	}
	r.Members[i] = m
	return nil
}

// check reports what is wrong with a roster that was put together.
func (r *Roster) check() error {
	able := 0 // to lead for good
	voting, watching := make(map[string]bool), make(map[string]bool)
	for _, m := range r.Members {
		named := watching
		switch {
		case m.ID == 0 || m.Name == "" || m.Kind > KindArbiter || m.Joining && m.Kind != KindObserver || !m.Becomes.Votes() || !m.Joining && m.Becomes != 0:
			return fmt.Errorf("%w: member %x %q of %v is not well formed", ErrBadChange, m.ID, m.Name, m.Kind)
		case len(m.Name) > maxText || len(m.Addr) > maxText || len(m.Advertise) > maxText:
			return fmt.Errorf("%w: a name or an address of %.40q is longer than %d bytes", ErrBadChange, m.Name, maxText)
		case m.Kind.Votes():
			named = voting
			if m.Kind == KindVoter {
				able++
			}
		}
		if named[m.Name] {
			return fmt.Errorf("%w: two members would be named %q", ErrBadChange, m.Name)
		}
		named[m.Name] = true
	}
	for _, m := range r.Members {
		if m.Kind == KindObserver && voting[m.Name] && !m.Joining {
			return fmt.Errorf("%w: an observer would have the name of the voter %q without taking its place", ErrBadChange, m.Name)
		}
	}
	switch {
	case able == 0:
		return fmt.Errorf("%w: nobody would be left to vote, but for arbiters", ErrBadChange)
	case len(r.Members) > MaxMembers:
		return fmt.Errorf("%w: %d members, at most %d", ErrBadChange, len(r.Members), MaxMembers)
	}
	return nil
}

// leave returns the roster once both halves of a change of the voters have agreed to it.
func (r *Roster) leave() Roster {
	next := *r
	next.Outgoing = nil
	return next
}

// confChange is what raft has to be told for the roster to become next, nil if nothing. What changes the voters is decided by
// both majorities, those of before and those of after (joint consensus: section 4.3 of Ongaro's dissertation), and so is
// whatever changes more than one member, since raft can do it in no other way.
func (r *Roster) confChange(next *Roster) *raftpb.ConfChangeV2 {
	var single []*raftpb.ConfChangeSingle
	add := func(t raftpb.ConfChangeType, id uint64) {
		single = append(single, &raftpb.ConfChangeSingle{Type: &t, NodeId: new(id)})
	}
	for _, m := range r.Members {
		if _, ok := next.Find(m.ID); !ok {
			add(raftpb.ConfChangeRemoveNode, m.ID)
		}
	}
	for _, m := range next.Members {
		switch old, ok := r.Find(m.ID); {
		case ok && old.Kind.Votes() == m.Kind.Votes():
		case m.Kind.Votes():
			add(raftpb.ConfChangeAddNode, m.ID)
		default:
			add(raftpb.ConfChangeAddLearnerNode, m.ID)
		}
	}
	if len(single) == 0 {
		return nil
	}
	cc := &raftpb.ConfChangeV2{Changes: single}
	if len(single) > 1 || !slices.Equal(r.Voters(), next.Voters()) {
		cc.Transition = raftpb.ConfChangeTransitionJointImplicit.Enum()
	}
	return cc
}

func byID(m Member, id uint64) int { return cmp.Compare(m.ID, id) }

// firstRoster is that of a new cluster.
func firstRoster(members []Member) Roster {
	members = slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return Roster{Version: 1, Members: members}
}
