package storage

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/baton-ha/baton/internal/sum"
)

// encoder appends records in etcd's format to a buffer: the counterpart of frameReader. Of an entry it copies the payload
// once; etcd's own encoder copies it three times, and allocates each time.
type encoder struct {
	b   []byte
	crc uint32 // running checksum, over the data of all records so far
}

// entry appends an entry, all four fields of it, as decodeEntry wants them. Of a batch the checksum is believed that it carries: a
// batch that is not what was appended is a damaged record, and found when it is read.
func (e *encoder) entry(p *raftpb.Entry) {
	var head [1 + 1 + 11 + 11 + 1 + binary.MaxVarintLen64]byte
	h := append(head[:0], 0x08, byte(p.GetType()))
	h = binary.AppendUvarint(append(h, 0x10), p.GetTerm())
	h = binary.AppendUvarint(append(h, 0x18), p.GetIndex())
	h = binary.AppendUvarint(append(h, 0x22), uint64(len(p.GetData())))
	e.crc = sum.After(sum.Update(e.crc, h), p.GetData())
	e.frame(typeEntry, h, p.GetData())
}

func (e *encoder) state(h hardState) {
	var data [33]byte
	b := binary.AppendUvarint(append(data[:0], 0x08), h.term)
	b = binary.AppendUvarint(append(b, 0x10), h.vote)
	b = binary.AppendUvarint(append(b, 0x18), h.commit)
	e.record(typeState, b)
}

func (e *encoder) metadata(id Identity) { e.record(typeMetadata, id.metadata()) }

// snapshot appends the record of a snapshot; the empty one, without members, begins the first segment.
func (e *encoder) snapshot(id snapID, members *raftpb.ConfState) error {
	b := binary.AppendUvarint([]byte{0x08}, id.index)
	b = binary.AppendUvarint(append(b, 0x10), id.term)
	if members != nil {
		list, err := proto.MarshalOptions{Deterministic: true}.Marshal(members)
		if err != nil {
			return fmt.Errorf("storage: encode snapshot record: %w", err)
		}
		b = append(binary.AppendUvarint(append(b, 0x1a), uint64(len(list))), list...)
	}
	e.record(typeSnapshot, b)
	return nil
}

// chain appends the record with which a segment continues the checksum of the one before it.
func (e *encoder) chain() {
	e.frame(typeCRC, nil, nil)
}

// record appends a record of any other type, whose data must not be empty.
func (e *encoder) record(typ int64, data []byte) {
	e.crc = sum.Update(e.crc, data)
	e.frame(typ, data, nil)
}

func (e *encoder) frame(typ int64, head, body []byte) {
	at := len(e.b)
	b := append(e.b, 0, 0, 0, 0, 0, 0, 0, 0)
	b = append(b, 0x08, byte(typ))
	b = binary.AppendUvarint(append(b, 0x10), uint64(e.crc))
	if n := len(head) + len(body); n > 0 {
		b = binary.AppendUvarint(append(b, 0x1a), uint64(n))
		b = append(append(b, head...), body...)
	}
	size := uint64(len(b) - at - 8)
	if pad := -size & 7; pad > 0 {
		b = append(b, make([]byte, pad)...)
		size |= (0x80 | pad) << 56
	}
	binary.LittleEndian.PutUint64(b[at:], size)
	e.b = b
}
