package log

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A raft entry's data is empty (raft's own no-op), a batch of records, or an epoch start. The first
// byte tells which, and is the version of its format at the same time.
const (
	kindBatch      = 1
	kindEpochStart = 2
)

// A batch is laid out as
//
//	0   kind, 1 byte
//	1   epoch, 8 bytes, little endian, as all numbers here
//	9   index of the first record, 8 bytes
//	17  number of records, 4 bytes
//	21  per record: length, 4 bytes; payload
const (
	batchHeader  = 21
	recordHeader = 4
)

// A Batch is the unit that is proposed, written and applied: the records that gathered while the one
// before was under way. It is owned by whoever holds it: first the appender's gatherer, then the
// core, which fills in the header, then the log, which never changes it.
type Batch struct {
	Epoch uint64
	Count int
	First uint64 // index of its first record, given by the core when it proposes the batch

	data     []byte // header (room for it until proposed) and records; nil once proposed
	size     int    // of data
	proposed time.Duration

	done    chan struct{} // closed when the fate is known: one wake-up for all who appended to it
	err     error         // the fate, read after done is closed
	settled bool          // done is closed, or about to be; owned by the gatherer
}

// NewBatch returns an empty batch of the epoch with room for size bytes of records.
func NewBatch(epoch uint64, size int) *Batch {
	b := &Batch{Epoch: epoch, size: batchHeader, done: make(chan struct{})}
	if size += batchHeader; size >= smallestKept {
		if kept, _ := buffers.Get().(*[]byte); kept != nil && cap(*kept) >= size {
			b.data = (*kept)[:batchHeader]
			return b
		}
	}
	b.data = make([]byte, batchHeader, size)
	return b
}

// buffers are those of batches that were proposed. Smaller and larger ones are not kept.
var buffers sync.Pool

const (
	smallestKept = 32 << 10
	largestKept  = 2 << 20
)

// free gives the records up, once the batch was proposed: raft has a copy of its own (TestRaftCopies).
func (b *Batch) free() {
	if n := cap(b.data); n >= smallestKept && n <= largestKept {
		buffers.Put(new(b.data))
	}
	b.data = nil
}

// Add appends a copy of one record.
func (b *Batch) Add(record []byte) {
	b.data = binary.LittleEndian.AppendUint32(b.data, uint32(len(record)))
	b.data = append(b.data, record...)
	b.size = len(b.data)
	b.Count++
}

// Size is the batch's encoded size in bytes.
func (b *Batch) Size() int { return b.size }

// seal gives the batch its place in the log and returns its encoded form.
func (b *Batch) seal(first uint64) []byte {
	b.First = first
	b.data[0] = kindBatch
	binary.LittleEndian.PutUint64(b.data[1:], b.Epoch)
	binary.LittleEndian.PutUint64(b.data[9:], first)
	binary.LittleEndian.PutUint32(b.data[17:], uint32(b.Count))
	return b.data
}

// header is what stands before a batch's records.
type header struct {
	epoch, first uint64
	count        uint32
}

func parseHeader(data []byte) (header, error) {
	if len(data) < batchHeader || data[0] != kindBatch {
		return header{}, fmt.Errorf("%w: batch of %d bytes", ErrFormat, len(data))
	}
	h := header{
		epoch: binary.LittleEndian.Uint64(data[1:]),
		first: binary.LittleEndian.Uint64(data[9:]),
		count: binary.LittleEndian.Uint32(data[17:]),
	}
	if h.epoch == 0 || h.first == 0 || h.count == 0 || uint64(h.count) > uint64(len(data)-batchHeader)/recordHeader {
		return header{}, fmt.Errorf("%w: batch of %d bytes says epoch %d, first %d, count %d", ErrFormat, len(data), h.epoch, h.first, h.count)
	}
	return h, nil
}

// checkRecords checks what appendRecords relies on.
func checkRecords(h header, data []byte) error {
	rest := data[batchHeader:]
	for i := range uint64(h.count) {
		if len(rest) < recordHeader {
			return fmt.Errorf("%w: batch ends within record %d", ErrFormat, h.first+i)
		}
		n := uint64(binary.LittleEndian.Uint32(rest))
		if rest = rest[recordHeader:]; n > uint64(len(rest)) {
			return fmt.Errorf("%w: batch ends within record %d", ErrFormat, h.first+i)
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes after the last record of a batch", ErrFormat, len(rest))
	}
	return nil
}

// appendRecords appends the records of a batch that was checked to dst. The records share data's memory.
func appendRecords(dst []Entry, h header, data []byte) []Entry {
	rest := data[batchHeader:]
	dst = slices.Grow(dst, int(h.count))
	for i := range uint64(h.count) {
		n := recordHeader + uint64(binary.LittleEndian.Uint32(rest))
		dst = append(dst, Entry{Index: h.first + i, Epoch: h.epoch, Data: rest[recordHeader:n:n]})
		rest = rest[n:]
	}
	return dst
}

// epochStart is the content of the entry with which a leader opens a new epoch.
type epochStart struct {
	Holder    string `codec:"holder"`
	ClusterID []byte `codec:"cluster_id,omitempty"` // what the cluster's id shall be if it has none yet
}

var msgpack = &codec.MsgpackHandle{}

func encodeMsgpack(prefix []byte, v any) []byte {
	var b []byte
	if err := codec.NewEncoderBytes(&b, msgpack).Encode(v); err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err)) // our own plain structs always encode
	}
	return append(prefix, b...)
}

func decodeMsgpack(data []byte, v any) error {
	if err := codec.NewDecoderBytes(data, msgpack).Decode(v); err != nil {
		return fmt.Errorf("%w: %T: %w", ErrFormat, v, err)
	}
	return nil
}
