package log

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A raft entry's data is empty (raft's own no-op), a batch of records, or an epoch start. The first
// byte tells which, and is the version of its format at the same time.
const (
	kindOldBatch   = 1 // without a checksum; read, and no longer written
	kindEpochStart = 2
	kindBatch      = 4 // no flipped bit makes one of the others of it
)

// A batch is laid out as
//
//	0   kind, 1 byte
//	1   CRC32C of what follows, 4 bytes, little endian, as all numbers here
//	5   epoch, 8 bytes
//	13  index of the first record, 8 bytes
//	21  number of records, 4 bytes
//	25  per record: length, 4 bytes; payload
//
// An old one is the same without the checksum. Who proposes a batch computes it, once and for all: whoever
// stores, applies, sends or reads the batch later can tell whether it still is what was appended.
const (
	batchHeader  = 25
	checksumSize = 4
	recordHeader = 4
)

// recordSize is how many bytes an [Entry] takes beside its data: of a small record, most of all.
const recordSize = int(unsafe.Sizeof(Entry{}))

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
	settled atomic.Bool   // done is closed, or about to be
	next    *Batch        // in gatherer.alone
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

// seal gives the batch its place in the log and returns its encoded form.
func (b *Batch) seal(first uint64) []byte {
	b.First = first
	b.data[0] = kindBatch
	binary.LittleEndian.PutUint64(b.data[5:], b.Epoch)
	binary.LittleEndian.PutUint64(b.data[13:], first)
	binary.LittleEndian.PutUint32(b.data[21:], uint32(b.Count))
	binary.LittleEndian.PutUint32(b.data[1:], checksum(b.data))
	return b.data
}

// isBatch reports whether a raft entry's data is a batch of records.
func isBatch(data []byte) bool {
	return len(data) > 0 && (data[0] == kindBatch || data[0] == kindOldBatch)
}

// header is what stands before a batch's records.
type header struct {
	epoch, first uint64
	count        uint32
	size         int // of the header
}

func parseHeader(data []byte) (header, error) {
	h := header{size: batchHeader}
	if isBatch(data) && data[0] == kindOldBatch {
		h.size -= checksumSize
	}
	if !isBatch(data) || len(data) < h.size {
		return header{}, fmt.Errorf("%w: batch of %d bytes", ErrFormat, len(data))
	}
	numbers := data[h.size-20:]
	h.epoch = binary.LittleEndian.Uint64(numbers)
	h.first = binary.LittleEndian.Uint64(numbers[8:])
	h.count = binary.LittleEndian.Uint32(numbers[16:])
	if h.epoch == 0 || h.first == 0 || h.count == 0 || uint64(h.count) > uint64(len(data)-h.size)/recordHeader {
		return header{}, fmt.Errorf("%w: batch of %d bytes says epoch %d, first %d, count %d", ErrFormat, len(data), h.epoch, h.first, h.count)
	}
	return h, nil
}

// checkRecords checks what appendRecords relies on.
func checkRecords(h header, data []byte) error {
	rest := data[h.size:]
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
	rest := data[h.size:]
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
