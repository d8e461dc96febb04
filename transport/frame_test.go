package transport

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func messageFrame(t testing.TB, m *raftpb.Message) []byte {
	t.Helper()
	b, err := appendMessage(nil, kindMessage, 7, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFrameRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, ownBody, ownBody + 1, growStep - 1, growStep, growStep + 1, keepBuffer + 1, 5 << 20} {
		body := bytes.Repeat([]byte{0xA5}, size)
		two := appendFrame(appendFrame(nil, kindChunk, 9, body), kindEnd, 1<<63, nil)
		fr := newFrameReader(bytes.NewReader(two))
		f, err := fr.next(5 << 20)
		if err != nil || f.kind != kindChunk || f.group != 9 || !bytes.Equal(f.body, body) {
			t.Fatalf("size %d: %v %v", size, f.kind, err)
		}
		if f, err = fr.next(0); err != nil || f.kind != kindEnd || f.group != 1<<63 || len(f.body) != 0 {
			t.Fatalf("size %d: second frame: %v %v", size, f.kind, err)
		}
		if _, err = fr.next(0); err != io.EOF {
			t.Fatalf("size %d: end: %v", size, err)
		}
	}
}

// Any single flipped bit, and any cut, is an error.
func TestT17_FrameEveryBitAndCut(t *testing.T) {
	whole := messageFrame(t, app("a", "b", 5, []byte("payload")))
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if _, err := newFrameReader(bytes.NewReader(b)).next(1 << 20); !errors.Is(err, errFrame) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for n := range len(whole) {
		_, err := newFrameReader(bytes.NewReader(whole[:n])).next(1 << 20)
		if n == 0 && err != io.EOF || n > 0 && err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestT17_FrameLimits(t *testing.T) {
	b := appendFrame(nil, kindMessage, 1, make([]byte, 101))
	if _, err := newFrameReader(bytes.NewReader(b)).next(100); !errors.Is(err, errFrame) {
		t.Fatalf("over the limit: %v", err)
	}
	b = appendFrame(nil, kindChunk, 1, nil)
	b[3] = 1
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
	if _, err := newFrameReader(bytes.NewReader(b)).next(100); !errors.Is(err, errFrame) {
		t.Fatalf("unknown flag: %v", err)
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
	h := appendFrame(nil, kindMessage, 1, nil)
	binary.BigEndian.PutUint32(h[4:], 1<<30)
	binary.BigEndian.PutUint32(h[20:], crc32.Checksum(h[:20], castagnoli))
	h = append(h, make([]byte, 1000)...)
	n := allocated(func() {
		if _, err := newFrameReader(bytes.NewReader(h)).next(1 << 30); err != io.ErrUnexpectedEOF {
			t.Errorf("cut body: %v", err)
		}
	})
	if n > growStep+128<<10 {
		t.Errorf("a length of 1 GiB allocated %d bytes", n)
	}
	bomb := bytes.Repeat([]byte{fieldEntries<<3 | 2, 0}, 8<<20)
	n = allocated(func() {
		if _, err := decodeMessage(frame{body: bomb}, PurposeBulk, 1, 2); !errors.Is(err, errFrame) {
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
		_, err = decodeMessage(frame{body: b}, p, 1, 2)
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
		if err := ok(m, PurposeBulk); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What was decoded does not change when the reader reads on, whether the body was its own or the reader's.
func TestDecodedMessageOwnsItsBytes(t *testing.T) {
	for _, size := range []int{1, ownBody - 50, ownBody, growStep + 1} {
		beat := msg(raftpb.MsgReadIndex, "a", "b", 1)
		beat.Context = bytes.Repeat([]byte{'c'}, size)
		stream := append(messageFrame(t, app("a", "b", 1, bytes.Repeat([]byte{'e'}, size))), messageFrame(t, beat)...)
		for range 2 {
			stream = append(stream, messageFrame(t, app("a", "b", 2, bytes.Repeat([]byte{'x'}, size)))...)
		}
		fr := newFrameReader(bytes.NewReader(stream))
		var got [4]*raftpb.Message
		for i := range got {
			f, err := fr.next(2 << 20)
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

func FuzzFrame(f *testing.F) {
	f.Add(messageFrame(f, app("a", "b", 5, []byte("payload"))))
	f.Add(messageFrame(f, msg(raftpb.MsgHeartbeat, "a", "b", 1)))
	f.Add(appendFrame(nil, kindRefuse, 0, appendCoded(nil, 3, "no")))
	f.Add([]byte{frameMagic, 3, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := newFrameReader(bytes.NewReader(b))
		for {
			fm, err := fr.next(1 << 20)
			if err != nil {
				break
			}
			if m, err := decodeMessage(fm, PurposeBulk, 1, 2); err == nil && (m.GetFrom() != 1 || m.GetTo() != 2) {
				t.Fatalf("wrong message accepted: %v", m)
			}
			_, _, _ = decodeCoded(fm.body)
		}
		// The checksums keep the fuzzer away from what is behind them, so that gets the bytes directly too.
		_, _ = decodeMessage(frame{body: b}, PurposeControl, 1, 2)
		_, _ = decodeMessage(frame{body: b}, PurposeSnapshot, 1, 2)
		_, _ = readOpening(bufio.NewReader(bytes.NewReader(b)))
	})
}

func FuzzHello(f *testing.F) {
	b, err := encodeHello(Hello{Version: 1, Cluster: "jobs", ClusterID: []byte{1, 2}, Name: "a", ID: 1, Members: []string{"a", "b"}, Purpose: PurposeBulk, To: "b"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xDF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add([]byte{0x81, 0xA1, 'm', 0xDD, 0x7F, 0xFF, 0xFF, 0xFF})
	f.Add([]byte{0x81, 0xA2, 'c', 'i', 0xC6, 0x7F, 0xFF, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Hello
		var err error
		if n := allocated(func() { h, err = decodeHello(b) }); n > 4<<20 {
			t.Fatalf("%d bytes of hello allocated %d", len(b), n)
		}
		if err != nil {
			return
		}
		again, err := encodeHello(h)
		if err != nil {
			return // longer than the limit: its bytes were more compact than ours
		}
		if _, err := decodeHello(again); err != nil {
			t.Fatalf("own encoding of %+v: %v", h, err)
		}
	})
}
