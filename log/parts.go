package log

import (
	"cmp"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// Whoever verifies a large batch in memory walks all of it, and so knows how it is cut into parts, and the checksums there. These are kept beside the
// batch, once somebody reads in parts: then each batch is walked once, after Apply, where it is verified anyhow, however many readers are given it. What is
// written to it later is found by who verifies the parts; he must then ask for records, before which it is verified again.

// partedSize is how large a batch is, in bytes, whose parts are where it is: copying a small one costs less.
const partedSize = 16 << 10

// A parted batch is an entry in memory with its parts.
type parted struct {
	e     *raftpb.Entry
	parts []Part
}

// partsOf returns the parts of an entry in memory from its first record on; nil: they are not known, or of another size.
func (w *Store) partsOf(e *raftpb.Entry, size int) []Part {
	if int64(size) != w.partSize.Load() {
		return nil
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	if i, ok := w.partedAt(e.GetIndex()); ok && w.parted[i].e == e {
		return w.parted[i].parts
	}
	return nil
}

// keepParts keeps the parts of a verified entry as long as that is in memory.
func (w *Store) keepParts(e *raftpb.Entry, parts []Part, size int) {
	if int64(size) != w.partSize.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at := e.GetIndex()
	if at < w.first || at-w.first >= uint64(len(w.ents)) || w.ents[at-w.first] != e {
		return
	}
	i, ok := w.partedAt(at)
	if !ok {
		w.parted = slices.Insert(w.parted, i, parted{})
	}
	w.parted[i] = parted{e, parts}
}

// dropParts forgets the parts of what is not in memory any more. w.mu is held.
func (w *Store) dropParts() {
	n, _ := w.partedAt(w.first)
	clear(w.parted[:n])
	w.parted = w.parted[n:]
}

// partedAt is where the parts of the entry at a raft index are, or would be. w.mu is held.
func (w *Store) partedAt(raft uint64) (i int, ok bool) {
	return slices.BinarySearchFunc(w.parted, raft, func(p parted, raft uint64) int { return cmp.Compare(p.e.GetIndex(), raft) })
}

// soundParts is sound, which keeps the parts of a large batch where somebody reads in parts.
func (w *Store) soundParts(e *raftpb.Entry, when string) error {
	if size := int(w.partSize.Load()); size > 0 && len(e.GetData()) >= partedSize {
		if h, err := core.ParseHeader(e.GetData()); err == nil {
			if parts, ok := core.AppendParts(nil, h, e.GetData(), h.First, size); ok {
				w.keepParts(e, parts, size)
				return nil
			}
		}
	}
	_, err := w.sound(e, when)
	return err
}

// takeParts appends the parts of a batch from the reader's place on, unless it can only be given in records.
func (r *reader) takeParts(e *raftpb.Entry, h core.Header) (taken bool) {
	whole := r.next <= h.First
	if whole {
		if kept := r.store.partsOf(e, r.part); kept != nil {
			r.piece.Parts = append(r.piece.Parts, kept...)
			return true
		}
	}
	n := len(r.piece.Parts)
	if r.piece.Parts, taken = core.AppendParts(r.piece.Parts, h, e.GetData(), r.next, r.part); taken && whole {
		r.store.keepParts(e, slices.Clone(r.piece.Parts[n:]), r.part)
	}
	return taken
}
