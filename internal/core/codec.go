package core

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/baton-ha/baton/internal/sum"
)

// A raft entry's data is empty (raft's own no-op), a batch of records, an epoch start, or a change of the members that raft need
// not know of. (One that it must know of is an entry of raft's own type, with the change in its context.) The first
// byte tells which, and is the version of its format at the same time.
const (
	kindOldBatch   = 1 // without a checksum; read, and no longer written
	kindEpochStart = 2
	kindMembers    = 8
	kindEpochLeap  = 16 // an epoch start that names its epoch
	kindCursors    = 32
	kindBatch      = sum.Kind // no flipped bit makes one of the others of it
)

// A batch is laid out as
//
//	0   kind, 1 byte
//	1   CRC32C of what follows, 4 bytes, little endian, as all numbers here
//	5   epoch, 8 bytes
//	13  index of the first record, 8 bytes
//	21  number of records, 4 bytes; 2³¹ is added where some belong to requests
//	25  per record: length, 4 bytes, to which 2³¹ is added where a request begins with it; then the request: epoch and number of
//	    its session, its number, below which number all answers are known, 8 bytes each, and of how many records it is, 4
//	    bytes; payload
//
// An old one is the same without the checksum. Who proposes a batch computes it, once and for all: whoever
// stores, applies, sends or reads the batch later can tell whether it still is what was appended.
const (
	BatchHeader  = 25           // bytes before the first record
	checksumSize = sum.Head - 1 // of those
	RecordHeader = 4            // bytes before each record's data

	requestFlag = 1 << 31
	requestSize = 4*8 + 4 // of what stands before the first record of a request
)

// RecordSize is how many bytes an [Entry] takes beside its data: of a small record, most of all.
const RecordSize = int(unsafe.Sizeof(Entry{}))

// isBatch reports whether a raft entry's data is a batch of records.
func isBatch(data []byte) bool {
	return len(data) > 0 && (data[0] == kindBatch || data[0] == kindOldBatch)
}

// A Header is what stands before a batch's records.
type Header struct {
	Epoch, First uint64
	Count        uint32
	Requests     bool // some of the records belong to requests
	size         int  // of the header
}

func ParseHeader(data []byte) (Header, error) {
	h := Header{size: BatchHeader}
	if isBatch(data) && data[0] == kindOldBatch {
		h.size -= checksumSize
	}
	if !isBatch(data) || len(data) < h.size {
		return Header{}, fmt.Errorf("%w: batch of %d bytes", ErrFormat, len(data))
	}
	numbers := data[h.size-20:]
	h.Epoch = binary.LittleEndian.Uint64(numbers)
	h.First = binary.LittleEndian.Uint64(numbers[8:])
	h.Count = binary.LittleEndian.Uint32(numbers[16:])
	h.Requests, h.Count = h.Count&requestFlag != 0, h.Count&^requestFlag
	if h.Epoch == 0 || h.First == 0 || h.Count == 0 || uint64(h.Count) > uint64(len(data)-h.size)/RecordHeader {
		return Header{}, fmt.Errorf("%w: batch of %d bytes says epoch %d, first %d, count %d", ErrFormat, len(data), h.Epoch, h.First, h.Count)
	}
	return h, nil
}

// CheckRecords checks what [AppendRecords] relies on.
func CheckRecords(h Header, data []byte) error {
	rest := data[h.size:]
	for i := range uint64(h.Count) {
		if len(rest) < RecordHeader {
			return fmt.Errorf("%w: batch ends within record %d", ErrFormat, h.First+i)
		}
		n := uint64(binary.LittleEndian.Uint32(rest))
		rest = rest[RecordHeader:]
		if h.Requests && n&requestFlag != 0 {
			n &^= requestFlag
			if len(rest) < requestSize || requestOf(rest).count == 0 || uint64(requestOf(rest).count) > uint64(h.Count)-i {
				return fmt.Errorf("%w: the request of record %d", ErrFormat, h.First+i)
			}
			rest = rest[requestSize:]
		}
		if n > uint64(len(rest)) {
			return fmt.Errorf("%w: batch ends within record %d", ErrFormat, h.First+i)
		}
		rest = rest[n:]
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes after the last record of a batch", ErrFormat, len(rest))
	}
	return nil
}

// AppendRecords appends the records of a batch that was checked to dst. The records share data's memory.
func AppendRecords(dst []Entry, h Header, data []byte) []Entry {
	rest := data[h.size:]
	dst = slices.Grow(dst, int(h.Count))
	for i := range uint64(h.Count) {
		n := RecordHeader + uint64(binary.LittleEndian.Uint32(rest))
		if h.Requests && n >= requestFlag {
			n -= requestFlag
			rest = rest[requestSize:]
		}
		dst = append(dst, Entry{Index: h.First + i, Epoch: h.Epoch, Data: rest[RecordHeader:n:n]})
		rest = rest[n:]
	}
	return dst
}

// epochStart is the content of the entry with which a leader opens a new epoch.
type epochStart struct {
	Holder    string `codec:"holder"`
	ClusterID []byte `codec:"cluster_id,omitempty"` // what the cluster's id shall be if it has none yet
	Epoch     uint64 `codec:"epoch,omitempty"`      // of a leap
}

// EncodeStart returns the data of the entry with which a member opens an epoch, which gives the cluster its id if that is
// not nil.
func EncodeStart(holder string, cluster []byte) []byte {
	return encodeMsgpack([]byte{kindEpochStart}, epochStart{Holder: holder, ClusterID: cluster})
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
