package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"testing"

	"github.com/baton-ha/baton/internal/session"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func messageFrame(t testing.TB, m *raftpb.Message) []byte {
	t.Helper()
	b, err := appendMessage(nil, session.KindMessage, 7, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Any single flipped bit, and any cut, is an error.
func TestT17_FrameEveryBitAndCut(t *testing.T) {
	whole := messageFrame(t, app("a", "b", 5, []byte("payload")))
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if _, err := session.NewFrameReader(bytes.NewReader(b)).Next(1 << 20); !errors.Is(err, session.ErrFrame) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for n := range len(whole) {
		_, err := session.NewFrameReader(bytes.NewReader(whole[:n])).Next(1 << 20)
		if n == 0 && err != io.EOF || n > 0 && err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A length field alone allocates nothing of note, even if its checksum is right and the limit is high.
func TestT17_HugeLengthAllocatesLittle(t *testing.T) {
	h := session.AppendFrame(nil, session.KindMessage, 1, nil)
	binary.BigEndian.PutUint32(h[4:], 1<<30)
	binary.BigEndian.PutUint32(h[20:], crc32.Checksum(h[:20], castagnoli))
	h = append(h, make([]byte, 1000)...)
	n := allocated(func() {
		if _, err := session.NewFrameReader(bytes.NewReader(h)).Next(1 << 30); err != io.ErrUnexpectedEOF {
			t.Errorf("cut body: %v", err)
		}
	})
	if n > 2<<20 {
		t.Errorf("a length of 1 GiB allocated %d bytes", n)
	}
	bomb := bytes.Repeat([]byte{fieldEntries<<3 | 2, 0}, 8<<20)
	n = allocated(func() {
		if _, err := decodeMessage(session.Frame{Body: bomb}, PurposeBulk, 1, 2); !errors.Is(err, session.ErrFrame) {
			t.Errorf("8 million empty entries: %v", err)
		}
	})
	if n > 64<<10 {
		t.Errorf("8 million empty entries allocated %d bytes", n)
	}
}

func TestDecodeMessageChecks(t *testing.T) {
	ok := func(m *raftpb.Message, p Purpose) error {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = decodeMessage(session.Frame{Body: b}, p, 1, 2)
		return err
	}
	for typ := range raftpb.MessageType_name {
		typ := raftpb.MessageType(typ)
		lane, wire := laneOf(typ)
		for _, p := range []Purpose{PurposeControl, PurposeBulk, PurposeSnapshot} {
			if err := ok(msg(typ, "a", "b", 1), p); (err == nil) != (wire && p == lane) {
				t.Errorf("%v on a %v connection: %v", typ, p, err)
			}
		}
	}
	for _, local := range []raftpb.MessageType{raftpb.MsgHup, raftpb.MsgBeat, raftpb.MsgProp, raftpb.MsgUnreachable,
		raftpb.MsgSnapStatus, raftpb.MsgCheckQuorum, raftpb.MsgStorageAppend, raftpb.MsgStorageAppendResp,
		raftpb.MsgStorageApply, raftpb.MsgStorageApplyResp, raftpb.MsgForgetLeader, raftpb.MessageType(99)} {
		if _, wire := laneOf(local); wire {
			t.Errorf("%v is accepted", local)
		}
	}
	responses := msg(raftpb.MsgApp, "a", "b", 1)
	responses.Responses = []*raftpb.Message{msg(raftpb.MsgApp, "a", "b", 1)}
	snap := msg(raftpb.MsgApp, "a", "b", 1)
	snap.Snapshot = &raftpb.Snapshot{Data: make([]byte, 100)}
	for what, m := range map[string]*raftpb.Message{
		"wrong from": msg(raftpb.MsgApp, "c", "b", 1), "wrong to": msg(raftpb.MsgApp, "a", "c", 1),
		"responses": responses, "snapshot in MsgApp": snap,
	} {
		if err := ok(m, PurposeBulk); !errors.Is(err, session.ErrFrame) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What was decoded does not change when the reader reads on, whether the body was its own or the reader's.
func TestDecodedMessageOwnsItsBytes(t *testing.T) {
	for _, size := range []int{1, 460, 512, 2 << 20} {
		beat := msg(raftpb.MsgReadIndex, "a", "b", 1)
		beat.Context = bytes.Repeat([]byte{'c'}, size)
		stream := append(messageFrame(t, app("a", "b", 1, bytes.Repeat([]byte{'e'}, size))), messageFrame(t, beat)...)
		for range 2 {
			stream = append(stream, messageFrame(t, app("a", "b", 2, bytes.Repeat([]byte{'x'}, size)))...)
		}
		fr := session.NewFrameReader(bytes.NewReader(stream))
		var got [4]*raftpb.Message
		for i := range got {
			f, err := fr.Next(4 << 20)
			if err != nil {
				t.Fatal(err)
			}
			if got[i], err = decodeMessage(f, PurposeBulk, 1, 2); err != nil {
				t.Fatal(err)
			}
		}
		data := got[0].GetEntries()[0].GetData()
		if !bytes.Equal(data, bytes.Repeat([]byte{'e'}, size)) || !bytes.Equal(got[1].GetContext(), beat.Context) {
			t.Errorf("size %d: decoded bytes changed", size)
		}
		if cap(data) != len(data) {
			t.Errorf("size %d: appending to the data of an entry would overwrite what is behind it", size)
		}
	}
}

func FuzzMessageFrame(f *testing.F) {
	f.Add(messageFrame(f, app("a", "b", 5, []byte("payload"))))
	f.Add(messageFrame(f, msg(raftpb.MsgHeartbeat, "a", "b", 1)))
	f.Add(session.AppendFrame(nil, session.KindRefuse, 0, session.AppendCoded(nil, 3, "no")))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := session.NewFrameReader(bytes.NewReader(b))
		for {
			fm, err := fr.Next(1 << 20)
			if err != nil {
				break
			}
			if m, err := decodeMessage(fm, PurposeBulk, 1, 2); err == nil && (m.GetFrom() != 1 || m.GetTo() != 2) {
				t.Fatalf("wrong message accepted: %v", m)
			}
			_, _, _ = session.DecodeCoded(fm.Body)
		}
		// The checksums keep the fuzzer away from what is behind them, so that gets the bytes directly too.
		_, _ = decodeMessage(session.Frame{Body: b}, PurposeControl, 1, 2)
		_, _ = decodeMessage(session.Frame{Body: b}, PurposeSnapshot, 1, 2)
	})
}
