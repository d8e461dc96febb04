// Package sum has the checksums of what raft carries, so that its bytes need not be read once for each of them. It is pure.
//
// All checksums of ours are CRC32C. That of two pieces, one behind the other, follows from those of the pieces and the length of the
// second ([Join]). So whoever has to sum what holds a batch goes on from the checksum that the batch carries within it.
package sum

import (
	"encoding/binary"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Update returns the checksum of what has one and then b.
func Update(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// Sealed data is the kind of it, the checksum of what follows, 4 bytes, little-endian, and what follows, which is not empty.
const (
	// Kind is the first byte of sealed data, and of nothing else that an entry of raft has as its data.
	Kind = 4
	// Head is how many bytes are before what is summed.
	Head = 5
)

// Seal makes b, of more than [Head] bytes, sealed data.
func Seal(b []byte) {
	b[0] = Kind
	binary.LittleEndian.PutUint32(b[1:], Update(0, b[Head:]))
}

// Of returns the checksum that the data of an entry carries, false if it carries none.
func Of(data []byte) (sum uint32, ok bool) {
	if len(data) <= Head || data[0] != Kind {
		return 0, false
	}
	return binary.LittleEndian.Uint32(data[1:]), true
}

// Sound reports whether data is what was sealed. It is true of what was not.
func Sound(data []byte) bool {
	sum, ok := Of(data)
	return !ok || Update(0, data[Head:]) == sum
}

// After returns the checksum of what has one and then data, which is believed to be what was sealed: if it is not, it does not have the checksum that
// is returned, and whoever reads it finds that.
func After(sum uint32, data []byte) uint32 {
	carried, ok := Of(data)
	if !ok || len(data) < joining {
		return Update(sum, data)
	}
	return Join(Update(sum, data[:Head]), carried, len(data)-Head)
}

// Check is After and Sound in one, of data of which nothing is believed: it reads it once.
func Check(sum uint32, data []byte) (after uint32, sound bool) {
	carried, ok := Of(data)
	if !ok {
		return Update(sum, data), true
	}
	is := Update(0, data[Head:])
	after = Update(sum, data[:Head])
	if len(data) < joining {
		return Update(after, data[Head:]), is == carried
	}
	return Join(after, is, len(data)-Head), is == carried
}
