package log

import (
	"fmt"
	"math"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// sound returns a committed entry as it was proposed: the one given, if nobody has written to it, or else the one
// on disk, which takes its place in the store. If that one is damaged, too, or not held any more, the error is a
// *[ChecksumError], and the member must stop. It may wait for the disk.
func (w *Store) sound(e *raftpb.Entry, when string) (*raftpb.Entry, error) {
	damage := core.Verify(e, when)
	if damage == nil {
		return e, nil
	}
	return w.repair(damage, e.GetTerm())
}

// repair reads an entry from disk of which the copy in memory is damaged.
func (w *Store) repair(damage *ChecksumError, term uint64) (*raftpb.Entry, error) {
	i := damage.Raft
	ents, err := w.disk.Entries(i, i+1, math.MaxUint64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; from disk: %w", damage, err)
	case len(ents) != 1 || ents[0].GetTerm() != term || core.Verify(ents[0], damage.When) != nil:
		return nil, fmt.Errorf("%w; on disk, too", damage)
	}
	w.mu.Lock()
	if i >= w.first && i-w.first < uint64(len(w.ents)) {
		w.ents = slices.Clone(w.ents) // readers may hold the old array
		w.ents[i-w.first] = ents[0]
	}
	w.mu.Unlock()
	if w.damaged != nil {
		w.damaged(damage)
	}
	return ents[0], nil
}

// repaired is [Store.Fetch] of an entry that is damaged in memory.
func (w *Store) repaired(f *core.Fetch) core.Fetched {
	term, err := w.Term(f.Lo)
	if err != nil {
		return core.Fetched{Fetch: f, Err: err} // it is not needed any more
	}
	e, err := w.repair(f.Damage, term)
	return core.Fetched{Fetch: f, Entries: []*raftpb.Entry{e}, Err: err}
}
