package log

import (
	"encoding/binary"
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// Who reads in parts is given small batches put together. Tails that have everything stand at the same record, and so want the same next: it is put together
// once, by the first of them who comes, and kept for the others, a few parts back so that they need not come at the same moment. A part that was kept is found by
// its first record, and given as it is even if more is committed by then: so those who have found together stay together. Nothing that is kept can be
// outdated, since what is committed never changes. Who is behind reads for himself: nobody else is likely to stand where he does.

// common is what was put together for several readers. Its zero value is ready.
type common struct {
	mu      sync.Mutex // guards what follows; held by who puts together what others wait for, which is in memory
	readers int        // in parts
	kept    [keptParts]keptPart
	next    int // that is replaced next
}

// keptParts bounds what is kept: as many parts, nothing while there are no readers.
const keptParts = 8

// A keptPart is a part with its epoch and where to read on behind it.
type keptPart struct {
	Part
	epoch, raft uint64
}

func (c *common) enter() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers++
}

func (c *common) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers--; c.readers == 0 {
		c.kept = [keptParts]keptPart{}
	}
}

// findLocked returns the part that begins with a record, nil if none is kept.
func (c *common) findLocked(record uint64) *keptPart {
	for i := range c.kept {
		if p := &c.kept[i]; p.Count > 0 && p.First == record {
			return p
		}
	}
	return nil
}

func (c *common) keepLocked(p keptPart) {
	c.kept[c.next] = p
	c.next = (c.next + 1) % keptParts
}

// An opened part is one that is being put together.
type opened struct {
	b      []byte // parts that were ended, and this one
	from   int    // where it begins
	first  uint64
	count  int
	common bool // it is for others, too
	most   int  // bytes that will be in all of them, about
}

// readParts takes entries in parts. Who is so far that nothing is committed behind them is given what others are given; Store.common is locked meanwhile.
func (r *reader) readParts(ents []*raftpb.Entry, pos core.Position) error {
	size := 0
	for _, e := range ents {
		size += len(e.GetData())
	}
	r.open = opened{most: size}
	c := &r.store.common
	if live := len(ents) > 0 && ents[len(ents)-1].GetIndex() == pos.Raft && !r.behind; live && int64(r.part) == r.store.partSize.Load() {
		c.mu.Lock()
		defer c.mu.Unlock()
		r.open.common = c.readers > 1
		if r.takeKept(size) {
			return nil
		}
	}
	for _, e := range ents {
		if e.GetIndex() < r.raft {
			continue
		}
		if taken, err := r.take(e, pos.Epochs, r.takeInParts); err != nil || !taken {
			r.endPart(r.raft)
			return err
		}
	}
	r.endPart(r.raft)
	return nil
}

// takeKept takes what is kept from the reader's place on, if anything is. Nothing is put together behind it: that would be a small part of its own for each who comes a
// little later than the one before, and is one for all when they come again.
func (r *reader) takeKept(room int) (taken bool) {
	for {
		p := r.store.common.findLocked(r.next)
		if p == nil {
			return taken
		}
		if room -= len(p.Data); taken && (room < 0 || r.piece.Epoch != p.epoch) {
			r.piece.Cut = true
			return true
		}
		r.piece.Epoch, r.piece.Parts = p.epoch, append(r.piece.Parts, p.Part)
		r.next, r.raft, taken = p.First+uint64(p.Count), p.raft, true
	}
}

// takeInParts takes the records of a batch from the reader's place on: the parts of a large one from where they are, and others put together.
func (r *reader) takeInParts(e *raftpb.Entry, h core.Header) (taken bool, err error) {
	if (len(r.piece.Parts) > 0 || r.open.count > 0) && r.piece.Epoch != h.Epoch {
		return false, nil
	}
	r.piece.Epoch = h.Epoch
	if len(e.GetData()) >= partedSize {
		r.endPart(e.GetIndex())
		if r.takeParts(e, h) {
			return true, nil
		}
	}
	if r.lent != nil {
		*r.lent = (*r.lent)[:0] // what was verified there was put together
	}
	own, err := r.verified(e, h)
	if err != nil {
		return false, err
	}
	r.records = core.AppendRecords(r.records[:0], h, own)
	for _, record := range r.records[r.next-h.First:] {
		if o := &r.open; o.count > 0 && len(o.b)-o.from+core.RecordHeader+len(record.Data) > r.part {
			r.endPart(e.GetIndex())
		}
		r.addRecord(record)
	}
	clear(r.records)
	return true, nil
}

// addRecord adds a record to the part that is put together.
func (r *reader) addRecord(record Entry) {
	o := &r.open
	if o.b == nil {
		if o.common {
			o.b = make([]byte, 0, min(o.most, r.part))
		} else {
			r.lentPart = lending.Get().(*[]byte)
			o.b = (*r.lentPart)[:0]
		}
	}
	if o.count == 0 {
		o.from, o.first = len(o.b), record.Index
	}
	o.count++
	o.b = append(binary.LittleEndian.AppendUint32(o.b, uint32(len(record.Data))), record.Data...)
	o.most -= core.RecordHeader + len(record.Data)
}

// endPart ends the part that is put together, behind which is read on at a raft index.
func (r *reader) endPart(raft uint64) {
	o := &r.open
	if o.count == 0 {
		return
	}
	data := o.b[o.from:len(o.b):len(o.b)]
	p := core.MakePart(o.first, o.count, data)
	r.piece.Parts = append(r.piece.Parts, p)
	o.count = 0
	if o.common {
		r.store.common.keepLocked(keptPart{p, r.piece.Epoch, raft})
		o.b = nil
	} else {
		*r.lentPart = o.b
	}
}
