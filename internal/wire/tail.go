package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// Messages of a tail; numbers are big-endian.
//
//	request    1, uint64 the first record that is wanted, flags: 1 it may come in parts, uint8 how many read along, 0 as 1; by the client, once
//	records    2, uint64 epoch, uint64 index of the first, uint32 count, and for each: uint32 length, bytes. All of one epoch,
//	           and one after the other
//	compacted  3, uint64 the record that is not held any more, uint64 the first that is; the last message
//	part       4, uint64 epoch, uint64 index of the first, uint32 count, uint32 and uint32 the checksum of the batch before and after what follows:
//	           as they are in the log, for each: uint32 length, little-endian, bytes. It is sealed: all but its head is covered by that checksum only
const (
	tailRequest   = 1
	tailRecords   = 2
	tailCompacted = 3
	tailPart      = 4

	requestSize   = 1 + 8
	compactedSize = 1 + 16

	// RecordsHead is how many bytes stand before the first record of a message, and RecordHead before each.
	RecordsHead = 1 + 8 + 8 + 4
	RecordHead  = 4

	partHead = RecordsHead + 4 + 4

	// TailPiece is how many bytes of records a message has at most, unless the first of them alone has more: what a stream's
	// reader allocates at once.
	TailPiece = 65<<10 - RecordsHead
	// TailPart is the same of a part.
	TailPart = 65<<10 - partHead
	// MaxTailMessage bounds a message, in bytes: no record is larger than 64 MiB.
	MaxTailMessage = 64<<20 + RecordsHead + RecordHead
)

// TailRequest returns the request for records from one on, which may come in parts if parts says so, and that so many read along at the client.
func TailRequest(from uint64, parts bool, readers int) []byte {
	flags := byte(0)
	if parts {
		flags = 1
	}
	return append(binary.BigEndian.AppendUint64([]byte{tailRequest}, from), flags, byte(min(max(readers, 1), 255)))
}

// ErrUnsound is wrapped, beside [ErrMalformed], by the error of a part that is not what was appended. The member has verified it, before something wrote
// to it, and does so again when it is asked for records.
var ErrUnsound = fmt.Errorf("%w: records are not what was appended: their checksum differs", ErrMalformed)

// ParseTailRequest reads a request, and whether the client takes parts, and how many read along, which those of earlier versions do not say. What follows is a later
// version's, and is let be.
func ParseTailRequest(b []byte) (from uint64, parts bool, readers int, err error) {
	if len(b) < requestSize || b[0] != tailRequest {
		return 0, false, 0, fmt.Errorf("%w: %d bytes are no request for records", ErrMalformed, len(b))
	}
	from, readers = binary.BigEndian.Uint64(b[1:]), 1
	if b = b[requestSize:]; len(b) > 0 {
		parts = b[0]&1 != 0
	}
	if len(b) > 1 {
		readers = max(1, int(b[1]))
	}
	return from, parts, readers, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// MaxTailRequest bounds the message of a request, in bytes.
const MaxTailRequest = 1 << 10

// Compacted returns the message that says that a record is not held any more.
func Compacted(index, first uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{tailCompacted}, index), first)
}

// BeginRecords appends the head of a message of records to b, without their number.
func BeginRecords(b []byte, epoch, first uint64) []byte {
	b = append(b, tailRecords)
	b = binary.BigEndian.AppendUint64(b, epoch)
	b = binary.BigEndian.AppendUint64(b, first)
	return append(b, 0, 0, 0, 0)
}

// AppendRecord appends one record to a message.
func AppendRecord(b, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// EndRecords puts the number of records into a message that begins b.
func EndRecords(b []byte, count int) { binary.BigEndian.PutUint32(b[RecordsHead-4:], uint32(count)) }

// A Part is what stands before the records of a part.
type Part struct {
	Epoch, First  uint64
	Count         uint32
	Before, After uint32
}

// AppendPart appends the head of a part to b.
func AppendPart(b []byte, p Part) []byte {
	b = BeginRecords(b, p.Epoch, p.First)
	b[len(b)-RecordsHead] = tailPart
	binary.BigEndian.PutUint32(b[len(b)-4:], p.Count)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, p.Before), p.After)
}

// Tail is a message of a tail as a client reads it. Its records share the memory of the message.
type Tail struct {
	Epoch, First uint64
	Records      [][]byte

	Compacted bool   // there are none, and no more come: record Index is gone, and Held the first that is held
	Index     uint64 // of a Compacted
	Held      uint64
}

// ParseTail reads a message of a tail, and puts its records into the memory of records.
func ParseTail(b []byte, records [][]byte) (Tail, error) {
	if len(b) == compactedSize && b[0] == tailCompacted {
		return Tail{Compacted: true, Index: binary.BigEndian.Uint64(b[1:]), Held: binary.BigEndian.Uint64(b[9:])}, nil
	}
	head, order := RecordsHead, binary.ByteOrder(binary.BigEndian)
	switch {
	case len(b) >= partHead && b[0] == tailPart:
		head, order = partHead, binary.LittleEndian
		before, after := binary.BigEndian.Uint32(b[head-8:]), binary.BigEndian.Uint32(b[head-4:])
		if crc32.Update(before, castagnoli, b[head:]) != after {
			return Tail{}, ErrUnsound
		}
	case len(b) < RecordsHead || b[0] != tailRecords:
		return Tail{}, fmt.Errorf("%w: %d bytes are no records", ErrMalformed, len(b))
	}
	t := Tail{Epoch: binary.BigEndian.Uint64(b[1:]), First: binary.BigEndian.Uint64(b[9:])}
	count := uint64(binary.BigEndian.Uint32(b[17:]))
	if b = b[head:]; count == 0 || count > uint64(len(b))/RecordHead {
		return Tail{}, fmt.Errorf("%w: %d records in %d bytes", ErrMalformed, count, len(b))
	}
	t.Records = slices.Grow(records[:0], int(count))
	for ; count > 0; count-- {
		if len(b) < RecordHead {
			return Tail{}, fmt.Errorf("%w: it ends within a record", ErrMalformed)
		}
		n := uint64(order.Uint32(b))
		if b = b[RecordHead:]; n > uint64(len(b)) {
			return Tail{}, fmt.Errorf("%w: it ends within a record", ErrMalformed)
		}
		t.Records = append(t.Records, b[:n:n])
		b = b[n:]
	}
	if len(b) > 0 {
		return Tail{}, fmt.Errorf("%w: %d bytes behind the last record", ErrMalformed, len(b))
	}
	return t, nil
}
