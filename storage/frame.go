package storage

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"

	"go.etcd.io/raft/v3/raftpb"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Types of records: etcd's.
const (
	typeMetadata int64 = 1 + iota
	typeEntry
	typeState
	typeCRC
	typeSnapshot
)

// record is one record of a segment. before and after are the running checksum around it.
type record struct {
	typ           int64
	before, after uint32
	off, end      int64
	data          []byte // valid until the next call of next
}

// frameReader decodes the records of one segment. It accepts exactly what etcd's encoder writes and nothing else: the
// checksum of etcd's records does not cover their type, their frame or their padding.
type frameReader struct {
	path      string
	r         io.ReaderAt
	off, size int64 // of the next record, and where the records end
	crc       uint32
	chained   bool   // crc is the checksum of what came before; false at the start of the first segment read
	ahead     []byte // what was read from off on, a part of buf
	buf       []byte // aligned
	chunk     int    // bytes that are read at a time, if a record is not larger

	soon func(off, size int64) // told what will be read; nil: nobody is
	told int64                 // up to here
}

const (
	// readAhead is the chunk of who reads on and on.
	readAhead = 256 << 10
	// readSoon is how far ahead of him the system is told to read. What is there already costs no wait, in which a thread, and one of
	// Go's processors with it, would do nothing else.
	readSoon = 1 << 20
)

// newFrameReader reads the bytes from off to size of a segment.
func newFrameReader(path string, r io.ReaderAt, off, size int64) *frameReader {
	return &frameReader{path: path, r: r, off: off, size: size, chunk: int(min(size-off, readAhead))}
}

// seek goes on at another place of the file, before which the running checksum is crc.
func (f *frameReader) seek(off int64, crc uint32) {
	f.off, f.crc, f.chained, f.ahead, f.told = off, crc, true, nil, 0
}

// peek returns the next n bytes, which stay valid until the next call. There must be as many before size. Whole blocks are read, and lie in
// memory as they do in the file: so a file that was opened with Direct needs no other buffer.
func (f *frameReader) peek(n int) ([]byte, error) {
	if len(f.ahead) >= n {
		return f.ahead[:n], nil
	}
	at := roundDown(f.off)
	skip := int(f.off - at)
	want := roundUp(max(skip+n, f.chunk))
	buf := f.buf[:cap(f.buf)]
	if len(buf) < want {
		buf = aligned(want)[:want]
	}
	have := skip + copy(buf[skip:], f.ahead)
	f.buf = buf[:min(int64(len(buf)), f.size-at)]
	for have < skip+n {
		from := roundDown(have)
		m, err := f.r.ReadAt(buf[from:roundUp(len(f.buf))], at+int64(from))
		have = max(have, min(from+m, len(f.buf)))
		if have < skip+n && err != nil {
			f.ahead = nil
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, f.readError(err)
		}
	}
	f.ahead = f.buf[skip:have]
	f.tell()
	return f.ahead[:n], nil
}

// tell says what will be read soon.
func (f *frameReader) tell() {
	at := f.off + int64(len(f.ahead))
	if f.soon == nil || f.chunk < readAhead || at+readSoon/2 < f.told {
		return
	}
	from, to := max(at, f.told), min(at+readSoon, f.size)
	if from < to {
		f.soon(from, to-from)
		f.told = to
	}
}

// length returns the length word of the next record: the bytes of the record and of its padding. It returns io.EOF at
// the end of the file or of its written part.
func (f *frameReader) length() (n, pad int64, err error) {
	rest := f.size - f.off
	if rest == 0 {
		return 0, 0, io.EOF
	}
	if rest < frameHead {
		return 0, 0, corrupt(f.path, f.off, "frame of %d bytes", rest)
	}
	head, err := f.peek(frameHead)
	if err != nil {
		return 0, 0, err
	}
	if zero(head) {
		return 0, 0, io.EOF
	}
	n, pad, ok := frameSize(head)
	if !ok || n > rest-frameHead-pad {
		return 0, 0, corrupt(f.path, f.off, "bad frame length %x, %d bytes left", head, rest)
	}
	return n, pad, nil
}

// next returns io.EOF at the end of the file or of its written part, and a *CorruptError at anything it cannot decode.
func (f *frameReader) next() (record, error) {
	n, pad, err := f.length()
	if err != nil {
		return record{}, err
	}
	b, err := f.peek(int(frameHead + n + pad))
	if err != nil {
		return record{}, err
	}
	b = b[frameHead:]
	if !zero(b[n:]) {
		return record{}, corrupt(f.path, f.off, "padding is not zero")
	}
	typ, sum, at, ok := recordHead(b[:n])
	if !ok {
		return record{}, corrupt(f.path, f.off, "bad record header")
	}
	rec := record{typ: typ, before: f.crc, after: sum, off: f.off, end: f.off + frameHead + n + pad}
	if int64(at) < n {
		c := cursor{b: b[at:n]}
		if size := c.tagged(0x1a); !c.bad && size == uint64(len(c.b)) {
			rec.data = c.b
		} else {
			return record{}, corrupt(f.path, f.off, "bad record data")
		}
	}
	if typ == typeCRC {
		if _, _, ok := isBoundary(rec.data, rec.off, sum); rec.data != nil && !ok {
			return record{}, corrupt(f.path, f.off, "bad boundary")
		}
		if f.chained && sum != f.crc {
			return record{}, corrupt(f.path, f.off, "checksum chain is broken: %08x follows %08x", sum, f.crc)
		}
	} else if want := crc32.Update(f.crc, castagnoli, rec.data); want != sum {
		return record{}, corrupt(f.path, f.off, "%w is %08x, record says %08x", errChecksum, want, sum)
	}
	f.crc, f.chained, f.off, f.ahead = sum, true, rec.end, f.ahead[len(b)+frameHead:]
	return rec, nil
}

// restIsZero reads to the end of the file after next returned io.EOF.
func (f *frameReader) restIsZero() error {
	for at := f.off; at < f.size; {
		b := f.ahead
		if len(b) == 0 {
			b = make([]byte, min(readAhead, f.size-at))
			n, err := f.r.ReadAt(b, at)
			if n == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			if n == 0 && err != nil {
				return f.readError(err)
			}
			b = b[:n]
		}
		if !zero(b) {
			return corrupt(f.path, f.off, "bytes follow the end of the segment")
		}
		at, f.ahead = at+int64(len(b)), nil
	}
	return nil
}

func (f *frameReader) readError(err error) error {
	return fileError(f.path, f.off, err)
}

// frameSize decodes the length word: 56 bits of size, then 0x80|padding when there is padding to 8 bytes.
func frameSize(b []byte) (n, pad int64, ok bool) {
	l := binary.LittleEndian.Uint64(b)
	n, top := int64(l&(1<<56-1)), byte(l>>56)
	pad = (8 - n%8) % 8
	want := byte(0)
	if pad != 0 {
		want = 0x80 | byte(pad)
	}
	return n, pad, top == want && n >= 4
}

// recordHead decodes type and checksum of a walpb.Record and returns where its data field starts.
func recordHead(b []byte) (typ int64, sum uint32, at int, ok bool) {
	c := cursor{b: b}
	t, s := c.tagged(0x08), c.tagged(0x10)
	if c.bad || t < uint64(typeMetadata) || t > uint64(typeSnapshot) || s > math.MaxUint32 {
		return 0, 0, 0, false
	}
	return int64(t), uint32(s), len(b) - len(c.b), true
}

// cursor reads protobuf fields in the one order in which they were written.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) tagged(tag byte) uint64 {
	if c.bad || len(c.b) < 2 || c.b[0] != tag {
		c.bad = true
		return 0
	}
	v, n := binary.Uvarint(c.b[1:])
	if n <= 0 {
		c.bad = true
		return 0
	}
	c.b = c.b[1+n:]
	return v
}

// errChecksum begins what is said of a record that is whole, but whose data are not those of its checksum and the one before it.
var errChecksum = errors.New("checksum")

var errRecord = errors.New("record does not hold what its type says")

// decodeEntry reads an entry as the encoder wrote it: all four fields present. A hard state never has the fourth one, so
// that a damaged record type cannot turn one into the other.
func decodeEntry(b []byte) (typ raftpb.EntryType, term, index uint64, data []byte, err error) {
	c := cursor{b: b}
	t := c.tagged(0x08)
	term, index = c.tagged(0x10), c.tagged(0x18)
	if n := c.tagged(0x22); c.bad || t > uint64(raftpb.EntryConfChangeV2) || n != uint64(len(c.b)) {
		return 0, 0, 0, nil, errRecord
	}
	return raftpb.EntryType(t), term, index, c.b, nil
}

func decodeState(b []byte) (hardState, error) {
	c := cursor{b: b}
	h := hardState{term: c.tagged(0x08), vote: c.tagged(0x10), commit: c.tagged(0x18)}
	if c.bad || len(c.b) != 0 {
		return hardState{}, errRecord
	}
	return h, nil
}

// decodeSnapshot reads index and term of a walpb.Snapshot. The ConfState is kept in the snapshot file.
func decodeSnapshot(b []byte) (index, term uint64, err error) {
	c := cursor{b: b}
	index, term = c.tagged(0x08), c.tagged(0x10)
	if c.bad || index == 0 && len(c.b) != 0 {
		return 0, 0, errRecord
	}
	if index != 0 {
		if n := c.tagged(0x1a); c.bad || n != uint64(len(c.b)) {
			return 0, 0, errRecord
		}
	}
	return index, term, nil
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
