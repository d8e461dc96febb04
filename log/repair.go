package log

import (
	"fmt"
	"math"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// Sound implements [Source]. It returns a committed entry as it was proposed: the one given, if nobody has written to it, or else the one
// on disk, which takes its place in the store. If that one is damaged, too, or not held any more, the error is a
// *[ChecksumError], and the member must stop.
func (w *Store) Sound(e *raftpb.Entry, when string) (*raftpb.Entry, error) {
	damage := core.Verify(e, when)
	if damage == nil {
		return e, nil
	}
	ents, err := w.disk.Entries(e.GetIndex(), e.GetIndex()+1, math.MaxUint64)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w; from disk: %w", damage, err)
	case len(ents) != 1 || ents[0].GetTerm() != e.GetTerm() || core.Verify(ents[0], when) != nil:
		return nil, fmt.Errorf("%w; on disk, too", damage)
	}
	w.mu.Lock()
	if i := e.GetIndex(); i >= w.first && i-w.first < uint64(len(w.ents)) {
		w.ents = slices.Clone(w.ents) // readers may hold the old array
		w.ents[i-w.first] = ents[0]
	}
	w.mu.Unlock()
	if w.damaged != nil {
		w.damaged(damage)
	}
	return ents[0], nil
}
