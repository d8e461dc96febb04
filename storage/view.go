package storage

import (
	"fmt"
	"slices"
	"sort"

	"go.etcd.io/raft/v3/raftpb"
)

type hardState struct{ term, vote, commit uint64 }

func (h hardState) proto() *raftpb.HardState {
	p := struct { // one piece of memory
		raftpb.HardState
		is hardState
	}{is: h}
	p.Term, p.Vote, p.Commit = &p.is.term, &p.is.vote, &p.is.commit
	return &p.HardState
}

// follows reports whether a member that has promised old may have gone on to promise h.
func (h hardState) follows(old hardState) bool {
	return h.term > old.term || h.term == old.term && (h.vote == old.vote || old.vote == 0)
}

type termRun struct{ first, term uint64 }

// view is what the records of the WAL, read in order, amount to. Recovery and Save feed the same view, so that whatever
// Save accepts is accepted at the next start, and the other way round.
//
// Invariant: entries base+1 … last are contiguous, their terms never decrease, hs.commit <= last.
type view struct {
	hs              hardState
	known           bool // base is known: false only when reading starts in the middle of the log
	exact           bool // base is a snapshot, not merely the entry before the first one read
	base, baseTerm  uint64
	last            uint64
	terms           []termRun
	snap, snapTerm  uint64 // newest snapshot record
	floor           uint64 // newest snapshot that replaced the log: no entry up to it can be read
	lastEntry       uint64 // where the last record of an entry or a snapshot has left the log: segments are named after it
	snapshotRecords map[[2]uint64]bool
}

// term returns the term of entry i, or of the base.
func (v *view) term(i uint64) (uint64, bool) {
	if !v.known || i < v.base || i > v.last {
		return 0, false
	}
	if i == v.base {
		return v.baseTerm, v.exact
	}
	k := sort.Search(len(v.terms), func(k int) bool { return v.terms[k].first > i })
	return v.terms[k-1].term, true
}

// termsAfter returns the terms of the entries behind i.
func (v *view) termsAfter(i uint64) []termRun {
	if i >= v.last {
		return nil
	}
	k := sort.Search(len(v.terms), func(k int) bool { return v.terms[k].first > i+1 })
	out := slices.Clone(v.terms[max(k-1, 0):])
	if len(out) > 0 {
		out[0].first = max(out[0].first, i+1)
	}
	return out
}

func (v *view) lastTerm() uint64 {
	if len(v.terms) == 0 {
		return v.baseTerm
	}
	return v.terms[len(v.terms)-1].term
}

// entry appends entry (index, term). A lower index than the last one cuts off what follows it.
func (v *view) entry(index, term uint64) error {
	if err := v.checkEntry(index, term); err != nil {
		return err
	}
	if !v.known || index <= v.base {
		v.known, v.exact, v.base, v.baseTerm, v.terms = true, false, index-1, 0, nil
	}
	for len(v.terms) > 0 && v.terms[len(v.terms)-1].first >= index {
		v.terms = v.terms[:len(v.terms)-1]
	}
	if len(v.terms) == 0 || v.terms[len(v.terms)-1].term != term {
		v.terms = append(v.terms, termRun{index, term})
	}
	v.last, v.lastEntry = index, index
	return nil
}

func (v *view) checkEntry(index, term uint64) error {
	switch {
	case index == 0 || term == 0:
		return fmt.Errorf("entry %d of term %d", index, term)
	case index <= v.hs.commit:
		return fmt.Errorf("entry %d overwrites a committed one: commit is %d", index, v.hs.commit)
	case !v.known:
		return nil
	case index > v.last+1:
		return fmt.Errorf("entry %d follows entry %d", index, v.last)
	case v.exact && index <= v.base:
		return fmt.Errorf("entry %d is covered by snapshot %d", index, v.base)
	}
	if prev, ok := v.term(index - 1); ok && term < prev {
		return fmt.Errorf("entry %d has term %d after term %d", index, term, prev)
	}
	return nil
}

// state sets the hard state.
func (v *view) state(h hardState) error {
	if err := v.checkState(h, v.last); err != nil {
		return err
	}
	v.hs = h
	return nil
}

func (v *view) checkState(h hardState, last uint64) error {
	switch old := v.hs; {
	case h.term < old.term:
		return fmt.Errorf("term goes back from %d to %d", old.term, h.term)
	case h.term == old.term && old.vote != 0 && h.vote != old.vote:
		return fmt.Errorf("vote of term %d changes from %x to %x", h.term, old.vote, h.vote)
	case h.commit < old.commit:
		return fmt.Errorf("commit goes back from %d to %d", old.commit, h.commit)
	case v.known && h.commit > last:
		return fmt.Errorf("commit %d is beyond the last entry %d", h.commit, last)
	}
	return nil
}

// check tells whether entries and then the state would be accepted. ents must not be in the view yet.
func (v *view) check(h hardState, hasState bool, ents []*raftpb.Entry) error {
	last := v.last
	for i, e := range ents {
		if i == 0 {
			if err := v.checkEntry(e.GetIndex(), e.GetTerm()); err != nil {
				return err
			}
		} else if p := ents[i-1]; e.GetIndex() != p.GetIndex()+1 || e.GetTerm() < p.GetTerm() {
			return fmt.Errorf("entry %d of term %d follows entry %d of term %d", e.GetIndex(), e.GetTerm(), p.GetIndex(), p.GetTerm())
		}
		last = e.GetIndex()
	}
	if !hasState {
		return nil
	}
	return v.checkState(h, last)
}

// snapshot takes a snapshot record. One that matches the log is a checkpoint and leaves the entries alone; any other one
// came from the leader and replaces the log. Raft itself decides by the same rule (raft paper, section 7, step 6).
func (v *view) snapshot(index, term, segmentIndex uint64) error {
	if v.known && index > v.base && index <= v.hs.commit && !v.matches(index, term) {
		return fmt.Errorf("snapshot %d of term %d contradicts the committed log", index, term)
	}
	if v.snapshotRecords == nil {
		v.snapshotRecords = map[[2]uint64]bool{}
	}
	v.snapshotRecords[[2]uint64{index, term}] = true
	v.snap, v.snapTerm, v.lastEntry = index, term, max(v.lastEntry, index)
	switch {
	case !v.known && index < segmentIndex:
		return nil // the entry is in a segment before the first one read
	case v.known && (index < v.base || index == v.base && !v.exact):
		return nil // likewise
	case v.matches(index, term):
		return nil
	}
	v.known, v.exact, v.base, v.baseTerm, v.last, v.terms = true, true, index, term, index, nil
	v.floor = index
	return nil
}

func (v *view) matches(index, term uint64) bool {
	t, ok := v.term(index)
	return ok && t == term
}
