package session

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"testing"
)

func TestFrameRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, ownBody, ownBody + 1, growStep - 1, growStep, growStep + 1, keepBuffer + 1, 5 << 20} {
		body := bytes.Repeat([]byte{0xA5}, size)
		two := AppendFrame(AppendFrame(nil, KindChunk, 9, body), KindEnd, 1<<63, nil)
		fr := NewFrameReader(bytes.NewReader(two))
		f, err := fr.Next(5 << 20)
		if err != nil || f.Kind != KindChunk || f.ID != 9 || !bytes.Equal(f.Body, body) {
			t.Fatalf("size %d: %v %v", size, f.Kind, err)
		}
		if f, err = fr.Next(0); err != nil || f.Kind != KindEnd || f.ID != 1<<63 || len(f.Body) != 0 {
			t.Fatalf("size %d: second frame: %v %v", size, f.Kind, err)
		}
		if _, err = fr.Next(0); err != io.EOF {
			t.Fatalf("size %d: end: %v", size, err)
		}
	}
}

// Any single flipped bit, and any cut, is an error.
func TestT17_FrameEveryBitAndCut(t *testing.T) {
	whole := AppendFrame(nil, KindMessage, 7, []byte("payload"))
	NumberFrame(whole, 77)
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		if _, err := NewFrameReader(bytes.NewReader(b)).Next(1 << 20); !errors.Is(err, ErrFrame) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
	for n := range len(whole) {
		_, err := NewFrameReader(bytes.NewReader(whole[:n])).Next(1 << 20)
		if n == 0 && err != io.EOF || n > 0 && err != io.ErrUnexpectedEOF {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

func TestT17_FrameLimits(t *testing.T) {
	b := AppendFrame(nil, KindMessage, 1, make([]byte, 101))
	if _, err := NewFrameReader(bytes.NewReader(b)).Next(100); !errors.Is(err, ErrFrame) {
		t.Fatalf("over the limit: %v", err)
	}
	b = AppendFrame(nil, KindChunk, 1, nil)
	b[3] = 1
	binary.BigEndian.PutUint32(b[20:], crc32.Checksum(b[:20], castagnoli))
	if _, err := NewFrameReader(bytes.NewReader(b)).Next(100); !errors.Is(err, ErrFrame) {
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
	for _, k := range []Kind{KindMessage, KindChunk} {
		h := AppendFrame(nil, k, 1, nil)
		binary.BigEndian.PutUint32(h[4:], 1<<30)
		binary.BigEndian.PutUint32(h[20:], crc32.Checksum(h[:20], castagnoli))
		h = append(h, make([]byte, 1000)...)
		n := allocated(func() {
			if _, err := NewFrameReader(bytes.NewReader(h)).Next(1 << 30); err != io.ErrUnexpectedEOF {
				t.Errorf("cut body: %v", err)
			}
		})
		if n > growStep+128<<10 {
			t.Errorf("type %d: a length of 1 GiB allocated %d bytes", k, n)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(AppendFrame(nil, KindMessage, 5, []byte("payload")))
	f.Add(AppendFrame(nil, KindRefuse, 0, AppendCoded(nil, 3, "no")))
	f.Add([]byte{frameMagic, 3, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr := NewFrameReader(bytes.NewReader(b))
		for {
			fm, err := fr.Next(1 << 20)
			if err != nil {
				break
			}
			_, _, _ = DecodeCoded(fm.Body)
		}
		// The checksums keep the fuzzer away from what is behind them, so that gets the bytes directly too.
		_, _, _ = DecodeCoded(b)
		_, _, _ = decodeReset(b)
		_, _ = readOpening(bufio.NewReader(bytes.NewReader(b)))
	})
}

func FuzzHello(f *testing.F) {
	b, err := EncodeHello(Hello{Version: 1, Cluster: "jobs", ClusterID: []byte{1, 2}, Name: "a", ID: 1, Members: []string{"a", "b"}, Purpose: PurposeBulk, To: "b"})
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
		if n := allocated(func() { h, err = DecodeHello(b) }); n > 4<<20 {
			t.Fatalf("%d bytes of hello allocated %d", len(b), n)
		}
		if err != nil {
			return
		}
		again, err := EncodeHello(h)
		if err != nil {
			return // longer than the limit: its bytes were more compact than ours
		}
		if _, err := DecodeHello(again); err != nil {
			t.Fatalf("own encoding of %+v: %v", h, err)
		}
	})
}
