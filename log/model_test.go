package log

import (
	"io"
	"iter"

	"go.etcd.io/raft/v3/raftpb"
)

// modelDisk holds every entry in a map.
type modelDisk struct {
	Storage // the rest is not called
	base    uint64
	terms   map[uint64]uint64
	ents    map[uint64]*raftpb.Entry
}

func newModelDisk() *modelDisk {
	return &modelDisk{base: 1, terms: map[uint64]uint64{1: 1}, ents: map[uint64]*raftpb.Entry{}}
}

func (d *modelDisk) save(ents []*raftpb.Entry) {
	for _, e := range ents {
		for i := e.GetIndex(); d.ents[i] != nil; i++ {
			delete(d.ents, i)
			delete(d.terms, i)
		}
		d.ents[e.GetIndex()], d.terms[e.GetIndex()] = e, e.GetTerm()
	}
}

func (d *modelDisk) last() uint64 {
	last := d.base
	for d.ents[last+1] != nil {
		last++
	}
	return last
}

func (d *modelDisk) term(i uint64) uint64 { return d.terms[i] }

func (d *modelDisk) Recovered() (*raftpb.HardState, *raftpb.Snapshot, uint64, iter.Seq2[uint64, uint64]) {
	return &raftpb.HardState{}, Boot([]Member{{ID: 1, Name: "a"}}), d.base, func(func(uint64, uint64) bool) {}
}

func (d *modelDisk) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	var ents []*raftpb.Entry
	for i := lo; i < hi && len(ents) < 3; i++ {
		ents = append(ents, d.ents[i])
	}
	return ents, nil
}

func (d *modelDisk) First() uint64 { return d.base + 1 }

func (d *modelDisk) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	panic("not called")
}
