package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/baton-ha/baton/internal/vfs"
)

// Each synced write begins with a boundary: a record that can be recognised without what is before it. It is written only
// after everything before it was synced. So where decoding stops before a boundary, something durable is damaged, and it
// does not take the mark to tell that from a torn write.
//
// In etcd's format it is a checksum record, with which that format allows the chain to be continued anywhere. Its data is
// ours, and etcd's decoder does not look at it. Incarnation, segment and offset tell it from those in an old copy, in what
// a file held before it became this segment, and in a payload.
const (
	boundaryMagic = "BATONEND" // the first byte begins no protobuf that we write, nor our metadata
	boundarySize  = 8 + 8 + 8 + 8 + 4
	boundaryHead  = frameHead + 2 + 1 + binary.MaxVarintLen32 + 2 // at most so many bytes before its data
	boundaryFrame = boundaryHead + boundarySize + 7               // at most so many bytes, with the padding
)

// boundary appends a boundary, which begins at off of segment seq.
func (e *encoder) boundary(incarnation, seq uint64, off int64) {
	var data [boundarySize]byte
	b := append(data[:0], boundaryMagic...)
	b = binary.LittleEndian.AppendUint64(b, incarnation)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(off))
	e.frame(typeCRC, binary.LittleEndian.AppendUint32(b, boundarySum(b, e.crc)), nil)
}

// boundarySum covers the running checksum, too.
func boundarySum(b []byte, running uint32) uint32 {
	return crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, binary.LittleEndian.AppendUint32(nil, running))
}

// isBoundary tells whether data is that of a boundary at off, and of which incarnation and segment.
func isBoundary(data []byte, off int64, running uint32) (incarnation, seq uint64, ok bool) {
	if len(data) != boundarySize || string(data[:8]) != boundaryMagic ||
		binary.LittleEndian.Uint32(data[32:]) != boundarySum(data[:32], running) || binary.LittleEndian.Uint64(data[24:]) != uint64(off) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:]), true
}

// findBoundary returns where a boundary of segment seq begins that is behind off in a file of that size, or -1.
func findBoundary(f io.ReaderAt, off, size int64, incarnation, seq uint64) (int64, error) {
	buf := make([]byte, min(256<<10, max(0, size-off)+boundaryFrame))
	for _, r := range writtenRanges(f, off, size) {
		for at := r.from; at < r.to; {
			n, err := f.ReadAt(buf[:min(int64(len(buf)), r.to-at)], at)
			if err != nil && !errors.Is(err, io.EOF) {
				return -1, err
			}
			b := buf[:n]
			for from := 0; ; {
				i := bytes.Index(b[from:], []byte(boundaryMagic))
				if i < 0 {
					break
				}
				from += i + len(boundaryMagic)
				if start := boundaryAround(b, from-len(boundaryMagic), at, incarnation, seq); start > off {
					return start, nil
				}
			}
			if err != nil || at+int64(n) == r.to {
				break
			}
			at += int64(n - boundaryFrame) // one that is cut by the end of the buffer is seen whole the next time
		}
	}
	return -1, nil
}

// extent is a part of a file.
type extent struct{ from, to int64 }

// writtenRanges returns the parts of a file behind off in which something was written, as far as that is known: what was merely
// reserved need not be read. It looks for all of them before any is read, as what was read counts as written on ext4.
func writtenRanges(f io.ReaderAt, off, size int64) (out []extent) {
	file, ok := f.(vfs.File)
	if !ok {
		return []extent{{off, size}}
	}
	for off < size {
		from, to := file.Data(off)
		if from < 0 || from >= size || to <= from {
			break
		}
		out = append(out, extent{from, min(to, size)})
		off = to
	}
	return out
}

// boundaryAround returns where the boundary begins whose data is at i of b, or -1. b is at position at of the file.
func boundaryAround(b []byte, i int, at int64, incarnation, seq uint64) int64 {
	for start := max(0, i-boundaryHead); start <= i-frameHead; start++ {
		n, pad, ok := frameSize(b[start:])
		if !ok || n < boundarySize || n > boundaryFrame || start+frameHead+int(n+pad) > len(b) {
			continue
		}
		frame := b[start+frameHead:][:n]
		typ, sum, k, ok := recordHead(frame)
		c := cursor{b: frame[k:]}
		if !ok || typ != typeCRC || c.tagged(0x1a) != boundarySize {
			continue
		}
		if inc, s, ok := isBoundary(c.b, at+int64(start), sum); ok && inc == incarnation && s == seq {
			return at + int64(start)
		}
	}
	return -1
}
