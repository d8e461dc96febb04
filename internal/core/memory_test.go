package core

import (
	"slices"
	"sort"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// memory is a [Source] for tests. All but its last entries count as on disk only, and are not to be read by a core.
type memory struct {
	t        testing.TB
	hard     *raftpb.HardState
	snap     *raftpb.Snapshot
	ents     []*raftpb.Entry // those behind the base
	base     uint64
	baseAt   uint64 // its term
	recent   uint64 // raft index of the first entry that is not on disk only
	keep     int    // entries that are not
	stepping bool
	err      error // of the next fetch
}

// newMemory returns what a member holds that has a checkpoint and entries after it, keeping so many of those that are written in
// memory.
func newMemory(t testing.TB, snap *raftpb.Snapshot, keep int, hard *raftpb.HardState, ents ...*raftpb.Entry) *memory {
	meta := snap.GetMetadata()
	if hard == nil {
		hard = &raftpb.HardState{Term: meta.Term, Vote: new(uint64(0)), Commit: meta.Index}
	}
	return &memory{t: t, hard: hard, snap: snap, ents: ents, base: meta.GetIndex(), baseAt: meta.GetTerm(),
		recent: meta.GetIndex() + uint64(len(ents)) + 1, keep: keep}
}

func (m *memory) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return m.hard, m.snap.GetMetadata().GetConfState(), nil
}

func (m *memory) Snapshot() (*raftpb.Snapshot, error) { return m.snap, nil }
func (m *memory) FirstIndex() (uint64, error)         { return m.base + 1, nil }
func (m *memory) LastIndex() (uint64, error)          { return m.base + uint64(len(m.ents)), nil }

func (m *memory) Term(i uint64) (uint64, error) {
	switch last, _ := m.LastIndex(); {
	case i < m.base:
		return 0, ErrNotHeld
	case i == m.base:
		return m.baseAt, nil
	case i > last:
		return 0, ErrNotYet
	}
	return m.ents[i-m.base-1].GetTerm(), nil
}

func (m *memory) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	if m.stepping {
		m.t.Error("the core waits for the disk")
	}
	last, _ := m.LastIndex()
	switch {
	case m.err != nil:
		return nil, m.err
	case lo <= m.base:
		return nil, ErrNotHeld
	case hi > last+1 || lo >= hi:
		return nil, ErrNotYet
	}
	return Within(m.ents[lo-m.base-1:hi-m.base-1], maxBytes), nil
}

func (m *memory) Recent(lo, hi, maxBytes uint64) ([]*raftpb.Entry, uint64, error) {
	last, _ := m.LastIndex()
	switch {
	case lo <= m.base:
		return nil, 0, ErrNotHeld
	case hi > last+1 || lo >= hi:
		return nil, 0, ErrNotYet
	case lo < m.recent:
		return nil, m.recent, nil
	}
	return Within(m.ents[lo-m.base-1:hi-m.base-1], maxBytes), 0, nil
}

// write does what a [Write] asks for.
func (m *memory) write(w *Write) {
	if w.Hard != nil {
		m.hard = w.Hard
	}
	if s := w.Snapshot; s != nil {
		m.snap, m.ents, m.base, m.baseAt = s, nil, s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm()
		m.recent = m.base + 1
	}
	if len(w.Entries) > 0 {
		first := w.Entries[0].GetIndex()
		keep := sort.Search(len(m.ents), func(i int) bool { return m.ents[i].GetIndex() >= first })
		m.ents = append(slices.Clone(m.ents[:keep]), w.Entries...)
		last, _ := m.LastIndex()
		m.recent = min(first, m.recent)
		if n := uint64(m.keep); last+1-m.recent > n {
			m.recent = last + 1 - n
		}
	}
}

// fetch reads what is to be fetched.
func (m *memory) fetch(f *Fetch) Fetched {
	if f.Damage != nil && m.err == nil { // the disk has it as it was
		e := proto.Clone(m.ents[f.Lo-m.base-1]).(*raftpb.Entry)
		e.Data[len(e.Data)-1] ^= 1
		m.ents[f.Lo-m.base-1] = e
	}
	ents, err := m.Entries(f.Lo, f.Hi, f.MaxBytes)
	return Fetched{Fetch: f, Entries: ents, Err: err}
}
