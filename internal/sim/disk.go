package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// A Disk is a member's storage in memory, with the semantics of a log.Storage whose every call is
// synced when it returns, and as strict as the real one: one suite of tests holds both to the same
// contract. What the simulator begins to write and has not finished when the member crashes, it does
// not give to the disk, or only a part of it: that is how data is lost.
type Disk struct {
	hard       *raftpb.HardState
	snaps      []checkpoint          // kept, newest first
	distrusted *raftpb.Snapshot      // no fallback
	staged     map[uint64]checkpoint // not in force, by raft index; replaced, never changed
	first      uint64                // raft index of ents[0]
	ents       []*raftpb.Entry

	written uint64
	// Reading, if not nil, is called when entries are read.
	Reading func()
}

type checkpoint struct {
	snap *raftpb.Snapshot
	body []byte
}

func (c checkpoint) index() uint64 { return c.snap.GetMetadata().GetIndex() }
func (c checkpoint) term() uint64  { return c.snap.GetMetadata().GetTerm() }

// NewDisk returns the disk of a new member.
func NewDisk(boot *raftpb.Snapshot) *Disk {
	c := checkpoint{snap: boot}
	return &Disk{
		hard:  &raftpb.HardState{Term: new(c.term()), Vote: new(uint64(0)), Commit: new(c.index())},
		snaps: []checkpoint{c}, first: c.index() + 1,
	}
}

// end is the raft index behind the last entry.
func (d *Disk) end() uint64 { return d.first + uint64(len(d.ents)) }

// term returns the term of entry i, false if it is not held.
func (d *Disk) term(i uint64) (uint64, bool) {
	if i >= d.first && i < d.end() {
		return d.ents[i-d.first].GetTerm(), true
	}
	for _, c := range d.snaps {
		if c.index() == i {
			return c.term(), true
		}
	}
	return 0, false
}

// Recovered implements log.Storage. Entries whose hard state did not reach the disk raise the term.
func (d *Disk) Recovered() (*raftpb.HardState, *raftpb.Snapshot, uint64, iter.Seq2[uint64, uint64]) {
	if t, _ := d.term(d.end() - 1); t > d.hard.GetTerm() {
		d.hard = &raftpb.HardState{Term: &t, Vote: new(uint64(0)), Commit: d.hard.Commit}
	}
	after := slices.Clone(d.ents[d.snaps[0].index()+1-d.first:])
	return d.hard, d.snaps[0].snap, d.end() - 1, func(yield func(uint64, uint64) bool) {
		term := uint64(0)
		for _, e := range after {
			if e.GetTerm() != term && !yield(e.GetIndex(), e.GetTerm()) {
				return
			}
			term = e.GetTerm()
		}
	}
}

// Damage makes the newest snapshot unreadable, as the next start will find, if there is another one to
// fall back to. It reports whether there was.
func (d *Disk) Damage() bool {
	if len(d.snaps) < 2 {
		return false
	}
	d.snaps = d.snaps[1:]
	return true
}

// Save implements log.Storage.
func (d *Disk) Save(hard *raftpb.HardState, ents []*raftpb.Entry) error {
	last := d.end() - 1
	for n, e := range ents {
		i, before := e.GetIndex(), uint64(0)
		if n > 0 {
			if before = ents[n-1].GetTerm(); i != ents[n-1].GetIndex()+1 {
				return fmt.Errorf("sim: entry %d follows entry %d in one write", i, ents[n-1].GetIndex())
			}
		} else {
			before, _ = d.term(i - 1)
		}
		switch {
		case i <= d.hard.GetCommit():
			return fmt.Errorf("sim: entry %d is committed", i)
		case n == 0 && (i < d.first || i > d.end()):
			return fmt.Errorf("sim: entry %d does not follow [%d, %d)", i, d.first, d.end())
		case e.GetTerm() == 0 || e.GetTerm() < before:
			return fmt.Errorf("sim: entry %d has term %d after term %d", i, e.GetTerm(), before)
		}
		last = i
	}
	if err := d.checkHard(hard, last); err != nil {
		return err
	}
	if len(ents) > 0 {
		keep := ents[0].GetIndex() - d.first
		if keep < uint64(len(d.ents)) {
			d.ents = slices.Clone(d.ents[:keep])
		}
		d.ents = append(d.ents, ents...)
		d.written += uint64(len(ents))
	}
	if hard.GetTerm() != 0 {
		d.hard = hard
	}
	return nil
}

// checkHard refuses a hard state that forgets something.
func (d *Disk) checkHard(hard *raftpb.HardState, last uint64) error {
	old := d.hard
	switch {
	case hard.GetTerm() == 0:
		return nil
	case hard.GetTerm() < old.GetTerm():
		return fmt.Errorf("sim: term goes back from %d to %d", old.GetTerm(), hard.GetTerm())
	case hard.GetTerm() == old.GetTerm() && old.GetVote() != 0 && hard.GetVote() != old.GetVote():
		return fmt.Errorf("sim: vote of term %d changes from %x to %x", hard.GetTerm(), old.GetVote(), hard.GetVote())
	case hard.GetCommit() < old.GetCommit():
		return fmt.Errorf("sim: commit goes back from %d to %d", old.GetCommit(), hard.GetCommit())
	case hard.GetCommit() > last:
		return fmt.Errorf("sim: commit %d is beyond the last entry %d", hard.GetCommit(), last)
	}
	return nil
}

// Written implements log.Storage.
func (d *Disk) Written() uint64 { return d.written }

// Entries implements log.Storage.
func (d *Disk) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if d.Reading != nil {
		d.Reading()
	}
	hi = min(hi, d.end())
	if lo < d.first || lo >= hi {
		return nil, fmt.Errorf("sim: entries [%d, %d) of [%d, %d)", lo, hi, d.first, d.end())
	}
	ents, size := d.ents[lo-d.first:hi-d.first], uint64(0)
	for i, e := range ents {
		if size += uint64(len(e.GetData())); size > maxBytes && i > 0 {
			return ents[:i:i], nil
		}
	}
	return ents[:len(ents):len(ents)], nil
}

// First implements log.Storage.
func (d *Disk) First() uint64 { return d.first }

// Has reports whether one of the last entries holds a piece of data.
func (d *Disk) Has(data []byte) bool {
	for i := len(d.ents) - 1; i >= 0 && i >= len(d.ents)-256; i-- {
		if bytes.Contains(d.ents[i].GetData(), data) {
			return true
		}
	}
	return false
}

// SaveSnapshot implements log.Storage.
func (d *Disk) SaveSnapshot(snap *raftpb.Snapshot, body io.WriterTo) error {
	var b bytes.Buffer
	if body != nil {
		if _, err := body.WriteTo(&b); err != nil {
			return err
		}
	}
	c := checkpoint{snap: snap, body: b.Bytes()}
	if c.index() < d.snaps[0].index() {
		return nil // overtaken while it was written
	}
	if t, ok := d.term(c.index()); !ok || t != c.term() {
		return fmt.Errorf("sim: entry %d of term %d is not in the log", c.index(), c.term())
	}
	d.bringIntoForce(c, d.snaps)
	return nil
}

// bringIntoForce makes c the newest snapshot. Of those before it one is kept, as a fallback.
func (d *Disk) bringIntoForce(c checkpoint, before []checkpoint) {
	before = slices.DeleteFunc(slices.Clone(before), func(old checkpoint) bool { return old.index() == c.index() || old.snap == d.distrusted })
	d.snaps = append([]checkpoint{c}, before[:min(1, len(before))]...)
	d.staged = maps.Clone(d.staged)
	maps.DeleteFunc(d.staged, func(i uint64, _ checkpoint) bool { return i <= c.index() })
}

// StageSnapshot implements log.Storage.
func (d *Disk) StageSnapshot(snap *raftpb.Snapshot, body io.Reader) error {
	c := checkpoint{snap: snap}
	if body != nil {
		var err error
		if c.body, err = io.ReadAll(body); err != nil {
			return err
		}
	}
	if c.index() <= d.snaps[0].index() {
		return nil
	}
	staged := map[uint64]checkpoint{c.index(): c}
	for i, old := range d.staged {
		if i != c.index() {
			staged[i] = old
		}
	}
	d.staged = staged
	return nil
}

// InstallSnapshot implements log.Storage.
func (d *Disk) InstallSnapshot(snap *raftpb.Snapshot, hard *raftpb.HardState) error {
	i := snap.GetMetadata().GetIndex()
	c, ok := d.staged[i]
	if !ok || c.term() != snap.GetMetadata().GetTerm() {
		return fmt.Errorf("sim: snapshot %d is not staged", i)
	}
	if hard.GetTerm() == 0 {
		hard = d.hard
	}
	if hard.GetCommit() < i {
		hard = &raftpb.HardState{Term: hard.Term, Vote: hard.Vote, Commit: &i}
	}
	tail := []*raftpb.Entry{}
	if t, ok := d.term(i); ok && t == c.term() {
		tail = slices.Clone(d.ents[i+1-d.first:])
	}
	if hard.GetTerm() < c.term() {
		return fmt.Errorf("sim: term %d with a snapshot of term %d", hard.GetTerm(), c.term())
	}
	if err := d.checkHard(hard, i+uint64(len(tail))); err != nil {
		return err
	}
	d.bringIntoForce(c, nil) // those before it have lost their log
	d.hard, d.first, d.ents = hard, i+1, tail
	return nil
}

// AdoptSnapshot implements log.Storage.
func (d *Disk) AdoptSnapshot(snap *raftpb.Snapshot) error {
	c, own := d.staged[snap.GetMetadata().GetIndex()], checkpoint{snap: snap}
	switch t, ok := d.term(own.index()); {
	case own.index() < d.snaps[0].index():
		return nil // overtaken
	case c.snap == nil || c.term() != own.term():
		return fmt.Errorf("sim: snapshot %d is not staged", own.index())
	case !ok || t != own.term():
		return fmt.Errorf("sim: entry %d of term %d is not in the log", own.index(), own.term())
	}
	own.body = c.body
	d.bringIntoForce(own, nil)
	return nil
}

// OpenSnapshot implements log.Storage.
func (d *Disk) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	c := d.snaps[0]
	return c.snap, io.NopCloser(bytes.NewReader(c.body)), int64(len(c.body)), nil
}

// OpenFallback implements log.Storage.
func (d *Disk) OpenFallback() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	if len(d.snaps) < 2 {
		return nil, nil, 0, errors.New("sim: no older snapshot")
	}
	d.distrusted = d.snaps[0].snap
	c := d.snaps[1]
	return c.snap, io.NopCloser(bytes.NewReader(c.body)), int64(len(c.body)), nil
}

// Compact implements log.Storage.
func (d *Disk) Compact(index uint64) error {
	index = min(index, d.snaps[len(d.snaps)-1].index())
	if index >= d.first {
		d.ents = slices.Clone(d.ents[index+1-d.first:])
		d.first = index + 1
	}
	return nil
}

// Close implements log.Storage.
func (d *Disk) Close() error { return nil }
