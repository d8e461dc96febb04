package core

import (
	"encoding/binary"
	"time"

	"github.com/baton-ha/baton/internal/sum"
)

// A Batch is the unit that is proposed, written and applied: the records that gathered while the one
// before was under way. It is owned by whoever holds it: first the one who appends to it, then the
// core, which fills in the header, then the log, which never changes it.
type Batch struct {
	Epoch  uint64
	Count  int
	First  uint64 // index of its first record, given by the core when it proposes the batch
	Waiter Waiter // of no interest to the core

	data     []byte // header (room for it until proposed) and records; nil once proposed
	size     int    // of data
	requests bool   // some of the records belong to requests
	proposed time.Duration
}

// A Waiter is who waits for the fate of a batch.
type Waiter interface{ Settle(err error) }

// MakeBatch returns an empty batch of the epoch. Its data goes into room as far as that goes.
func MakeBatch(epoch uint64, room []byte) Batch {
	return Batch{Epoch: epoch, size: BatchHeader, data: append(room[:0], make([]byte, BatchHeader)...)}
}

// Free takes the records from the batch, once it was proposed, and returns the memory that they were in: raft has a
// copy of its own (TestRaftCopies).
func (b *Batch) Free() []byte {
	data := b.data
	b.data = nil
	return data
}

// Add appends a copy of one record.
func (b *Batch) Add(record []byte) { b.add(nil, record) }

// add appends a record, and before it the request that begins with it.
func (b *Batch) add(request, record []byte) {
	length := uint32(len(record))
	if request != nil {
		length |= requestFlag
	}
	b.data = append(binary.LittleEndian.AppendUint32(b.data, length), request...)
	for len(record) > copyAtOnce { // a copy cannot be preempted, and the loop may be waiting for the processor
		b.data, record = append(b.data, record[:copyAtOnce]...), record[copyAtOnce:]
	}
	b.data = append(b.data, record...)
	b.size = len(b.data)
	b.Count++
}

const copyAtOnce = 1 << 20

// Size is the batch's encoded size in bytes.
func (b *Batch) Size() int { return b.size }

// Seal gives the batch its place in the log and returns its encoded form.
func (b *Batch) Seal(first uint64) []byte {
	b.First = first
	binary.LittleEndian.PutUint64(b.data[5:], b.Epoch)
	binary.LittleEndian.PutUint64(b.data[13:], first)
	count := uint32(b.Count)
	if b.requests {
		count |= requestFlag
	}
	binary.LittleEndian.PutUint32(b.data[21:], count)
	sum.Seal(b.data)
	return b.data
}
