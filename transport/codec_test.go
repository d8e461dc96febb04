package transport

import (
	"bytes"
	"errors"
	"fmt"
	"github.com/baton-ha/baton/internal/session"
	"github.com/baton-ha/baton/internal/testseed"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// randomMessage returns a message in which any field may be unset, zero, or anything.
func randomMessage(r *rand.Rand) *raftpb.Message {
	num := func() *uint64 {
		switch r.IntN(4) {
		case 0:
			return nil
		case 1:
			return proto.Uint64(0)
		}
		return proto.Uint64(r.Uint64() >> r.IntN(64))
	}
	data := func() []byte {
		switch r.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		b := make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	m := &raftpb.Message{To: num(), From: num(), Term: num(), LogTerm: num(), Index: num(), Commit: num(), Vote: num(),
		RejectHint: num(), Context: data()}
	if r.IntN(8) > 0 {
		m.Type = raftpb.MessageType(r.IntN(24)).Enum()
	}
	if r.IntN(50) == 0 {
		m.Type = raftpb.MessageType(int32(r.Uint32())).Enum() // an enum of 10 bytes if negative
	}
	if r.IntN(2) == 0 {
		m.Reject = proto.Bool(r.IntN(2) == 0)
	}
	if r.IntN(20) == 0 {
		m.Snapshot = &raftpb.Snapshot{Data: data(), Metadata: &raftpb.SnapshotMetadata{Index: num()}}
	}
	for range r.IntN(5) {
		e := &raftpb.Entry{Term: num(), Index: num(), Data: data()}
		if r.IntN(2) == 0 {
			e.Type = raftpb.EntryType(r.IntN(5) - 1).Enum()
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

// What we write, proto reads; what proto writes, we read; both as the message that it was.
func TestCodecIsProto(t *testing.T) {
	r := testseed.Rand(t)
	for i := range 20_000 {
		m := randomMessage(r)
		ours, err := encodeMessage(nil, m, nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		got := new(raftpb.Message)
		if err := proto.Unmarshal(ours, got); err != nil || !proto.Equal(got, m) {
			t.Fatalf("message %d: proto reads (%v)\n%v as\n%v", i, err, m, got)
		}
		if n := messageSize(m); n != len(ours) || n != len(theirs) {
			t.Fatalf("message %d: size %d, our encoding has %d, proto's %d: %v", i, n, len(ours), len(theirs), m)
		}
		if m.Snapshot != nil {
			continue
		}
		got, err = decodePlain(theirs, len(m.Entries))
		if err != nil || !proto.Equal(got, m) {
			t.Fatalf("message %d: we read (%v)\n%v as\n%v", i, err, m, got)
		}
	}
	ours, err := encodeMessage(nil, &raftpb.Message{Entries: []*raftpb.Entry{nil}}, nil)
	if err != nil || !bytes.Equal(ours, []byte{fieldEntries<<3 | 2, 0}) {
		t.Errorf("nil entry: % x, %v", ours, err)
	}
}

// referenceDecode is decodeMessage with nothing but proto behind the limits.
func referenceDecode(body []byte, purpose Purpose) (*raftpb.Message, error) {
	if _, err := inspect(body, purpose); err != nil {
		return nil, err
	}
	m := new(raftpb.Message)
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, m); err != nil {
		return nil, err
	}
	if lane, ok := laneOf(m.GetType()); !ok || lane != purpose || m.GetFrom() != 1 || m.GetTo() != 2 {
		return nil, session.ErrFrame
	}
	return m, nil
}

// sameAsProto fails unless both decoders refuse the body, or both read the same message.
func sameAsProto(t *testing.T, body []byte) (ok bool) {
	t.Helper()
	for _, p := range []Purpose{PurposeControl, PurposeBulk} {
		want, werr := referenceDecode(body, p)
		kept := bytes.Clone(body)
		got, err := decodeMessage(session.Frame{Body: body}, p, 1, 2)
		if (err == nil) != (werr == nil) || err == nil && !proto.Equal(got, want) {
			t.Fatalf("%v connection, % x: we read\n%v, %v; proto\n%v, %v", p, body, got, err, want, werr)
		}
		if err != nil && !errors.Is(err, session.ErrFrame) {
			t.Fatalf("error is not session.ErrFrame: %v", err)
		}
		if !bytes.Equal(kept, body) {
			t.Fatal("decoding changed the body")
		}
		ok = ok || err == nil
	}
	return ok
}

// oddFields are encodings that no encoder of ours makes, appended to good messages.
func oddFields() map[string][]byte {
	tag := func(n protowire.Number, typ protowire.Type) []byte { return protowire.AppendTag(nil, n, typ) }
	odd := map[string][]byte{
		"unknown varint": append(tag(99, protowire.VarintType), 5),
		"unknown bytes":  protowire.AppendBytes(tag(15, protowire.BytesType), []byte("new")),
		"unknown group":  append(append(tag(20, protowire.StartGroupType), 8, 1), tag(20, protowire.EndGroupType)...),
		"term twice":     append(protowire.AppendVarint(tag(fieldTerm, protowire.VarintType), 8), protowire.AppendVarint(tag(fieldTerm, protowire.VarintType), 9)...),
		"term as bytes":  protowire.AppendBytes(tag(fieldTerm, protowire.BytesType), []byte{1, 2}),
		"term as fixed":  protowire.AppendFixed64(tag(fieldTerm, protowire.Fixed64Type), 7),
		"entry as int":   append(tag(fieldEntries, protowire.VarintType), 5),
		"context twice": protowire.AppendBytes(protowire.AppendTag(protowire.AppendBytes(tag(fieldContext, protowire.BytesType), []byte("a")),
			fieldContext, protowire.BytesType), []byte("b")),
		"long varint":        append(tag(fieldCommit, protowire.VarintType), 0x81, 0x80, 0x80, 0),
		"large bool":         append(tag(fieldReject, protowire.VarintType), 7),
		"large enum":         protowire.AppendVarint(tag(fieldType, protowire.VarintType), 1<<32|3),
		"empty snapshot":     append(tag(fieldSnapshot, protowire.BytesType), 0),
		"odd entry":          protowire.AppendBytes(tag(fieldEntries, protowire.BytesType), []byte{8, 1, 8, 2, 16, 7, 0x22, 1, 'x', 0x22, 0, 0x78, 1, 0x12, 0}),
		"entry that is cut":  protowire.AppendBytes(tag(fieldEntries, protowire.BytesType), []byte{0x22, 5, 'x'}),
		"entry, bad number":  protowire.AppendBytes(tag(fieldEntries, protowire.BytesType), []byte{0, 1}),
		"number 0":           {0, 1},
		"number over 2^29":   protowire.AppendVarint(protowire.AppendVarint(nil, 1<<29<<3), 1),
		"end without group":  tag(3, protowire.EndGroupType),
		"reserved type":      {fieldTerm<<3 | 6, 1},
		"endless varint":     bytes.Repeat([]byte{0xFF}, 20),
		"length of 2^63":     protowire.AppendVarint(tag(fieldContext, protowire.BytesType), 1<<63),
		"responses":          append(tag(fieldResponses, protowire.BytesType), 0),
		"responses, integer": append(tag(fieldResponses, protowire.VarintType), 0),
	}
	return odd
}

func TestDecodeOddBytesAsProto(t *testing.T) {
	good, err := proto.Marshal(app("a", "b", 5, []byte("payload")))
	if err != nil {
		t.Fatal(err)
	}
	if !sameAsProto(t, good) {
		t.Fatal("a good message is refused")
	}
	for what, odd := range oddFields() {
		t.Run(what, func(t *testing.T) {
			sameAsProto(t, append(bytes.Clone(good), odd...))
			sameAsProto(t, append(bytes.Clone(odd), good...))
		})
	}
	for n := range good {
		sameAsProto(t, good[:n])
		for bit := range 8 {
			b := bytes.Clone(good)
			b[n] ^= 1 << bit
			sameAsProto(t, b)
		}
	}
}

func FuzzMessage(f *testing.F) {
	good, err := proto.Marshal(app("a", "b", 5, []byte("payload")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, odd := range oddFields() {
		f.Add(append(bytes.Clone(good), odd...))
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameAsProto(t, b) })
}

// hotMessages are what a replicating leader and its followers exchange.
func hotMessages() []*raftpb.Message {
	big := app("a", "b", 1000, make([]byte, 64<<10))
	big.Term, big.LogTerm, big.Commit = proto.Uint64(5), proto.Uint64(5), proto.Uint64(999)
	resp := msg(raftpb.MsgAppResp, "a", "b", 5)
	resp.Index = proto.Uint64(1000)
	return []*raftpb.Message{big, resp}
}

func TestCodecAllocatesLittle(t *testing.T) {
	for _, m := range hotMessages() {
		buf := make([]byte, 0, 128<<10)
		if n := testing.AllocsPerRun(100, func() { _, _ = appendMessage(buf, session.KindMessage, 7, nil, m) }); n > 0 {
			t.Errorf("%v: encoding makes %v allocations", m.GetType(), n)
		}
		f := session.Frame{Owned: true, Body: messageFrame(t, m)[session.HeaderSize:]}
		most := 1.0
		if len(m.GetEntries()) > 0 {
			most = 3
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = decodeMessage(f, PurposeBulk, 1, 2) }); n > most {
			t.Errorf("%v: decoding makes %v allocations, should be %v", m.GetType(), n, most)
		}
	}
}

// BenchmarkCodec decodes from a stream, so that the allocation of a body counts.
func BenchmarkCodec(b *testing.B) {
	for _, m := range hotMessages() {
		whole := messageFrame(b, m)
		b.Run(fmt.Sprintf("encode/%v", m.GetType()), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(whole)))
			var buf []byte
			for b.Loop() {
				_ = messageSize(m)
				buf, _ = appendMessage(buf[:0], session.KindMessage, 7, nil, m)
			}
		})
		b.Run(fmt.Sprintf("decode/%v", m.GetType()), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(whole)))
			r := bytes.NewReader(whole)
			fr := session.NewFrameReader(r)
			for b.Loop() {
				r.Reset(whole)
				f, err := fr.Next(1 << 20)
				if err == nil {
					_, err = decodeMessage(f, PurposeBulk, 1, 2)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
