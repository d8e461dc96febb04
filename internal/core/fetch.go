package core

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Old entries are on disk only, and whoever owns the core must not wait for a disk. So where raft asks for
// one, it is told that there is none at the moment, which raft takes for a reason to do nothing; the entry is
// fetched by a goroutine beside the core, and put on a shelf; and raft is made to ask again.
//
// Raft asks for old entries in order to send them to a member that lags, and to apply them where this
// member itself lags. Who reads on from a place on the shelf has what follows fetched meanwhile.

// A Fetch is to be read beside the core, one after the other, and answered with [Fetched].
type Fetch struct {
	Lo, Hi   uint64 // entries [Lo, Hi), or as much of it as is read at a time
	MaxBytes uint64 // that are read at a time, if one entry is not larger

	// Damage, if it is not nil, is what was found of the entry Lo in memory: it is to be read from disk, and to take the place
	// of that one. If that cannot be, the error ends the member.
	Damage *ChecksumError

	from  uint64 // the fetch is of use to whoever reads on from here
	epoch int    // of the shelf
}

// Fetched answers a [Fetch]. The entries belong to the core, and whoever has read them has verified them ([Verify]). Err is [ErrNotHeld] or [ErrNotYet], as it is, where there are none any more, or not yet.
type Fetched struct {
	Fetch   *Fetch
	Entries []*raftpb.Entry
	Err     error
}

// A shelf is the log as raft sees it: what is in memory, and what was fetched. It belongs to its core.
type shelf struct {
	Source
	fetchBytes uint64 // that are read at a time: a piece (flow.go). Each member that lags costs twice that, beside what is sent to it

	runs   []run
	wanted []*Fetch // under way
	asked  int      // of those: handed out
	epoch  int      // grows when entries that may have been read are overwritten
	// writing are the first entries of the writes that are under way. From there on the disk may still hold, and does until
	// they are done, what they replace: so nothing is fetched from there.
	writing []uint64
	// scanning makes raft see entries without content. It looks through all those that it has not applied
	// for a change of the members before it campaigns: whoever has one before it that is committed and not yet in force
	// would count votes by a configuration that may be over. What of the log may be one is known without reading it.
	scanning bool
	found    bool     // it has seen one
	inForce  uint64   // raft index up to which changes are in force
	unread   uint64   // up to here entries after inForce were recovered, and any of them may be a change
	changes  []uint64 // raft indexes of the changes after that, ascending

	releaseAt time.Duration // when the next run is to be put where raft sees it
}

// newShelf returns one from which so many bytes are fetched at a time at most. Changes of the members are in force up to a raft index, and
// what follows it, up to the last entry, was recovered.
func newShelf(source Source, fetchBytes, inForce, last uint64) shelf {
	return shelf{Source: source, fetchBytes: fetchBytes, releaseAt: never, inForce: inForce, unread: last}
}

// A run is a part of the log on the shelf.
type run struct {
	from, lo uint64
	ents     []*raftpb.Entry
	bytes    int  // of those
	held     bool // raft does not see it yet (flow.go)
	shared   bool // it may have been applied
}

func (r run) hi() uint64 { return r.lo + uint64(len(r.ents)) }

// Entries implements [raft.Storage]. It never reads from the disk.
func (s *shelf) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	ents, old, err := s.Recent(lo, hi, maxBytes)
	switch {
	case err != nil || old == 0:
		return ents, err
	case s.scanning:
		return s.scan(lo, min(hi, old)), nil
	}
	for _, r := range s.runs {
		if r.lo <= lo && lo < r.hi() {
			if r.held {
				return nil, nil
			}
			s.want(r.lo, r.hi(), old)
			return Within(r.ents[lo-r.lo:][:min(r.hi(), hi)-lo], maxBytes), nil
		}
	}
	s.want(lo, lo, old)
	return nil, nil
}

// scan returns entries [lo, hi), or the first of them, with no more than their type.
func (s *shelf) scan(lo, hi uint64) []*raftpb.Entry {
	ents := make([]*raftpb.Entry, min(hi-lo, 1024))
	for i := range ents {
		ents[i] = plainEntry
		index := lo + uint64(i)
		if _, known := slices.BinarySearch(s.changes, index); index > s.inForce && (index <= s.unread || known) {
			ents[i], s.found = changeEntry, true
		}
	}
	return ents
}

var (
	plainEntry  = &raftpb.Entry{}
	changeEntry = &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum()}
)

// ours reports whether an entry was fetched, and verified then, and nobody else has had it.
func (s *shelf) ours(e *raftpb.Entry) bool {
	i := e.GetIndex()
	return slices.ContainsFunc(s.runs, func(r run) bool { return !r.shared && r.lo <= i && i < r.hi() && r.ents[i-r.lo] == e })
}

// want has entries from lo on fetched for who reads on from a place before it, unless that is under way, on the shelf, or
// in memory, where old ones end.
func (s *shelf) want(from, lo, old uint64) {
	for _, first := range s.writing {
		old = min(old, first)
	}
	if lo >= old || slices.ContainsFunc(s.runs, func(r run) bool { return r.lo <= lo && lo < r.hi() }) ||
		slices.ContainsFunc(s.wanted, func(f *Fetch) bool { return f.Lo == lo && f.Damage == nil }) {
		return
	}
	s.wanted = append(s.wanted, &Fetch{Lo: lo, Hi: old, MaxBytes: s.fetchBytes, from: from, epoch: s.epoch})
}

// repair has an entry read from disk that is in memory, and is damaged there.
func (s *shelf) repair(damage *ChecksumError) {
	at := damage.Raft
	s.runs = slices.DeleteFunc(s.runs, func(r run) bool { return r.lo <= at && at < r.hi() })
	if !slices.ContainsFunc(s.wanted, func(f *Fetch) bool { return f.Damage != nil && f.Lo == at }) {
		s.wanted = append(s.wanted, &Fetch{Lo: at, Hi: at + 1, MaxBytes: s.fetchBytes, from: at, epoch: s.epoch, Damage: damage})
	}
}

// overwrite takes note that entries are about to be written, in place of those that are there from the first on.
func (s *shelf) overwrite(ents []*raftpb.Entry) {
	index := ents[0].GetIndex()
	s.writing = append(s.writing, index)
	s.unread = min(s.unread, index-1)
	s.changes = slices.DeleteFunc(s.changes, func(i uint64) bool { return i >= index || i <= s.inForce })
	for _, e := range ents {
		if e.GetType() != raftpb.EntryNormal {
			s.changes = append(s.changes, e.GetIndex())
		}
	}
	read := func(lo, hi uint64) bool { return index < hi }
	if slices.ContainsFunc(s.wanted, func(f *Fetch) bool { return read(f.Lo, f.Hi) }) {
		s.epoch++
	}
	s.runs = slices.DeleteFunc(s.runs, func(r run) bool { return read(r.lo, r.hi()) })
}

// wrote takes note that the oldest of the writes under way is done.
func (s *shelf) wrote() { s.writing = slices.Delete(s.writing, 0, 1) }

// fetched takes what was fetched.
func (c *Core) fetched(f Fetched) error {
	s := &c.shelf
	i := slices.Index(s.wanted, f.Fetch)
	if i < 0 || i >= s.asked {
		return errors.New("baton: a fetch was answered twice") // a driver's bug
	}
	s.wanted, s.asked = slices.Delete(s.wanted, i, i+1), s.asked-1
	switch {
	case errors.Is(f.Err, ErrNotHeld), errors.Is(f.Err, ErrNotYet), f.Fetch.epoch != s.epoch:
		return nil // raft will see what is there now, when it asks again
	case f.Err != nil:
		return fmt.Errorf("read raft entries [%d, %d): %w", f.Fetch.Lo, f.Fetch.Hi, f.Err)
	}
	if f.Fetch.Damage == nil { // else it is in memory, and is sent after the next heartbeat
		bytes := 0
		for _, e := range f.Entries {
			bytes += EntrySize(e)
		}
		s.runs = append(s.runs, run{from: f.Fetch.from, lo: f.Fetch.Lo, ents: f.Entries, bytes: bytes, held: true})
	}
	return nil
}

// tidy hands out what raft has asked for in a step, and takes from the shelf what nobody reads on from.
func (c *Core) tidy() {
	s := &c.shelf
	c.eff.Fetches = append(c.eff.Fetches, s.wanted[s.asked:]...)
	s.asked = len(s.wanted)
	if len(s.runs) == 0 {
		return
	}
	places := []uint64{c.pos.Raft + 1}
	if c.state == raft.StateLeader {
		c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
			if id != c.cfg.ID {
				places = append(places, p.Next)
			}
		})
	}
	s.runs = slices.DeleteFunc(s.runs, func(r run) bool {
		return !slices.ContainsFunc(places, func(p uint64) bool { return r.from <= p && p < r.hi() })
	})
}
