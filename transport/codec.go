package transport

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Field numbers of raftpb.Message, all below 16, so that a tag is one byte.
const (
	fieldType       = 1
	fieldTo         = 2
	fieldFrom       = 3
	fieldTerm       = 4
	fieldLogTerm    = 5
	fieldIndex      = 6
	fieldEntries    = 7
	fieldCommit     = 8
	fieldSnapshot   = 9
	fieldReject     = 10
	fieldRejectHint = 11
	fieldContext    = 12
	fieldVote       = 13
	fieldResponses  = 14
)

// Field numbers of raftpb.Entry.
const (
	fieldEntryType  = 1
	fieldEntryTerm  = 2
	fieldEntryIndex = 3
	fieldEntryData  = 4
)

// plain says whether the codec of this file knows all fields that m has. Package proto, which finds its way by reflection,
// is for the rest: both write the same bytes and read them alike.
func plain(m *raftpb.Message) bool { return m.Snapshot == nil && len(m.Responses) == 0 }

// messageSize returns the size of m's encoding.
func messageSize(m *raftpb.Message) int {
	if !plain(m) {
		return proto.Size(m)
	}
	n := sizeEnum(m.Type) + sizeUint(m.To) + sizeUint(m.From) + sizeUint(m.Term) + sizeUint(m.LogTerm) + sizeUint(m.Index) +
		sizeUint(m.Commit) + sizeUint(m.RejectHint) + sizeBytes(m.Context) + sizeUint(m.Vote)
	if m.Reject != nil {
		n += 2
	}
	for _, e := range m.Entries {
		n += 1 + protowire.SizeBytes(entrySize(e))
	}
	return n
}

func entrySize(e *raftpb.Entry) int {
	if e == nil {
		return 0
	}
	return sizeEnum(e.Type) + sizeUint(e.Term) + sizeUint(e.Index) + sizeBytes(e.Data)
}

func sizeUint(v *uint64) int {
	if v == nil {
		return 0
	}
	return 1 + protowire.SizeVarint(*v)
}

func sizeEnum[T ~int32](v *T) int {
	if v == nil {
		return 0
	}
	return 1 + protowire.SizeVarint(uint64(*v))
}

func sizeBytes(v []byte) int {
	if v == nil {
		return 0
	}
	return 1 + protowire.SizeBytes(len(v))
}

// encodeMessage appends the encoding of m. What m or an entry may have of unknown fields is left out, since who receives
// it discards them. The data of entries that the train leaves is missing; nil leaves none.
func encodeMessage(b []byte, m *raftpb.Message, t *train) ([]byte, error) {
	if !plain(m) {
		b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
		if err != nil {
			return nil, fmt.Errorf("encode %v: %w", m.GetType(), err)
		}
		return b, nil
	}
	b = appendEnum(b, fieldType, m.Type)
	b = appendUint(b, fieldTo, m.To)
	b = appendUint(b, fieldFrom, m.From)
	b = appendUint(b, fieldTerm, m.Term)
	b = appendUint(b, fieldLogTerm, m.LogTerm)
	b = appendUint(b, fieldIndex, m.Index)
	for _, e := range m.Entries {
		b = protowire.AppendTag(b, fieldEntries, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(entrySize(e)))
		if e != nil {
			b = appendEnum(b, fieldEntryType, e.Type)
			b = appendUint(b, fieldEntryTerm, e.Term)
			b = appendUint(b, fieldEntryIndex, e.Index)
			if e.Data != nil {
				b = protowire.AppendVarint(protowire.AppendTag(b, fieldEntryData, protowire.BytesType), uint64(len(e.Data)))
			}
			if !t.leave(b, e.Data) {
				b = append(b, e.Data...)
			}
		}
	}
	b = appendUint(b, fieldCommit, m.Commit)
	if m.Reject != nil {
		b = protowire.AppendTag(b, fieldReject, protowire.VarintType)
		b = protowire.AppendVarint(b, protowire.EncodeBool(*m.Reject))
	}
	b = appendUint(b, fieldRejectHint, m.RejectHint)
	b = appendBytes(b, fieldContext, m.Context)
	return appendUint(b, fieldVote, m.Vote), nil
}

func appendUint(b []byte, num protowire.Number, v *uint64) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), *v)
}

func appendEnum[T ~int32](b []byte, num protowire.Number, v *T) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(*v))
}

func appendBytes(b []byte, num protowire.Number, v []byte) []byte {
	if v == nil {
		return b
	}
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// message is a raftpb.Message together with what its pointers point to: one allocation instead of ten.
type message struct {
	m      raftpb.Message
	typ    raftpb.MessageType
	reject bool

	to, from, term, logTerm, index, commit, rejectHint, vote uint64
}

// entry is a raftpb.Entry together with what its pointers point to.
type entry struct {
	e           raftpb.Entry
	typ         raftpb.EntryType
	term, index uint64
}

// decodePlain decodes a message without snapshot and responses, which has so many entries. As proto.Unmarshal does, it
// takes the last of a field that comes twice, and skips what has an unknown number, or not its number's type.
func decodePlain(body []byte, entries int) (*raftpb.Message, error) {
	d := new(message)
	var block []entry
	if entries > 0 {
		block = make([]entry, entries)
		d.m.Entries = make([]*raftpb.Entry, 0, entries)
	}
	for len(body) > 0 {
		f, rest, err := nextField(body)
		if err != nil {
			return nil, err
		}
		body = rest
		switch {
		case f.typ == protowire.VarintType:
			d.set(f.num, f.v)
		case f.typ == protowire.BytesType && f.num == fieldContext:
			d.m.Context = f.data
		case f.typ == protowire.BytesType && f.num == fieldEntries:
			e := &block[len(d.m.Entries)]
			if err := e.decode(f.data); err != nil {
				return nil, err
			}
			d.m.Entries = append(d.m.Entries, &e.e)
		}
	}
	return &d.m, nil
}

func (d *message) set(num protowire.Number, v uint64) {
	switch num {
	case fieldType:
		d.typ, d.m.Type = raftpb.MessageType(v), &d.typ
	case fieldTo:
		d.to, d.m.To = v, &d.to
	case fieldFrom:
		d.from, d.m.From = v, &d.from
	case fieldTerm:
		d.term, d.m.Term = v, &d.term
	case fieldLogTerm:
		d.logTerm, d.m.LogTerm = v, &d.logTerm
	case fieldIndex:
		d.index, d.m.Index = v, &d.index
	case fieldCommit:
		d.commit, d.m.Commit = v, &d.commit
	case fieldReject:
		d.reject, d.m.Reject = protowire.DecodeBool(v), &d.reject
	case fieldRejectHint:
		d.rejectHint, d.m.RejectHint = v, &d.rejectHint
	case fieldVote:
		d.vote, d.m.Vote = v, &d.vote
	}
}

func (d *entry) decode(body []byte) error {
	for len(body) > 0 {
		f, rest, err := nextField(body)
		if err != nil {
			return err
		}
		body = rest
		switch {
		case f.typ == protowire.VarintType && f.num == fieldEntryType:
			d.typ, d.e.Type = raftpb.EntryType(f.v), &d.typ
		case f.typ == protowire.VarintType && f.num == fieldEntryTerm:
			d.term, d.e.Term = f.v, &d.term
		case f.typ == protowire.VarintType && f.num == fieldEntryIndex:
			d.index, d.e.Index = f.v, &d.index
		case f.typ == protowire.BytesType && f.num == fieldEntryData:
			d.e.Data = f.data
		}
	}
	return nil
}

// field is one field of an encoded message.
type field struct {
	num  protowire.Number
	typ  protowire.Type
	v    uint64 // of a varint
	data []byte // of a bytes field; not nil, and without room to append
}

// nextField returns the first field of b, and what is behind it.
func nextField(b []byte) (f field, rest []byte, err error) {
	var n, size int
	if f.num, f.typ, n = protowire.ConsumeTag(b); n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	if !f.num.IsValid() {
		return f, nil, fmt.Errorf("field number %d", f.num)
	}
	switch f.typ {
	case protowire.VarintType:
		f.v, size = protowire.ConsumeVarint(b[n:])
	case protowire.BytesType:
		f.data, size = protowire.ConsumeBytes(b[n:])
		f.data = slices.Clip(f.data)
	default:
		size = protowire.ConsumeFieldValue(f.num, f.typ, b[n:])
	}
	if size < 0 {
		return f, nil, protowire.ParseError(size)
	}
	return f, b[n+size:], nil
}
