package core

import (
	"encoding/binary"

	"github.com/baton-ha/baton/internal/sum"
)

// A Part is some records of a batch, as they are in it.
type Part struct {
	First uint64 // record
	Count int
	Data  []byte // of the batch: of each record its length, 4 bytes, little-endian, and its bytes
	// The checksum of the batch before and after these bytes: who goes on with the first over Data comes to the second, if Data
	// is what was appended.
	Before, After uint32
}

// MakePart returns records that are put together as a part, which goes on from nothing.
func MakePart(first uint64, count int, data []byte) Part {
	return Part{First: first, Count: count, Data: data, After: sum.Update(0, data)}
}

// AppendParts appends the records of a batch from one on to dst, cut into parts of at most most bytes or one record. The batch is verified by the
// way, in one pass. It reports false where it cannot be given in parts: it is damaged, has no checksum, or some records belong to requests, which are
// nobody's business but the log's.
func AppendParts(dst []Part, h Header, data []byte, from uint64, most int) (parts []Part, ok bool) {
	if h.size != BatchHeader || h.Requests {
		return dst, false
	}
	parts = dst
	running, summed := uint32(0), sum.Head // the checksum of the bytes before summed
	at := h.size
	first := at // of the part
	end := func(next uint64, count int) {
		before := sum.Update(running, data[summed:first])
		running, summed = sum.Update(before, data[first:at]), at
		if count > 0 {
			parts = append(parts, Part{First: next - uint64(count), Count: count, Data: data[first:at:at], Before: before, After: running})
		}
		first = at
	}
	count := 0
	next := h.First
	for range h.Count {
		if len(data)-at < RecordHeader {
			return dst, false
		}
		n := uint64(binary.LittleEndian.Uint32(data[at:]))
		if n > uint64(len(data)-at-RecordHeader) {
			return dst, false
		}
		size := RecordHeader + int(n)
		if count > 0 && at+size-first > most || next == from {
			end(next, count)
			count = 0
		}
		at += size
		if next++; next > from {
			count++
		}
	}
	end(next, count)
	if at != len(data) || running != binary.LittleEndian.Uint32(data[1:]) {
		return dst, false
	}
	return parts, true
}
