package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/iotest"
)

func message(size int) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(size))
	return append(b, bytes.Repeat([]byte{byte(size)}, size)...)
}

// TestMessages: whatever pieces they come in, messages arrive as they were sent, those that come together are known to wait, and what is
// cut or too large is none.
func TestMessages(t *testing.T) {
	sizes := []int{0, 1, 100, messagesBuffer - lengthSize, messagesBuffer, 3 * messagesBuffer, 7}
	var all []byte
	for _, n := range sizes {
		all = append(all, message(n)...)
	}
	for what, r := range map[string]io.Reader{"whole": bytes.NewReader(all), "bytes": iotest.OneByteReader(bytes.NewReader(all))} {
		m := NewMessages(r, 1<<20)
		for i, n := range sizes {
			if waits := m.Waits(); waits != (what == "whole" && (i == 1 || i == 2)) {
				t.Errorf("%s: message %d waits: %v", what, i, waits)
			}
			if b, err := m.Next(); err != nil || !bytes.Equal(b, message(n)[lengthSize:]) {
				t.Fatalf("%s: message of %d bytes came as %d, %v", what, n, len(b), err)
			}
		}
		if _, err := m.Next(); err != io.EOF {
			t.Errorf("%s: behind the last: %v", what, err)
		}
	}
	together := NewMessages(bytes.NewReader(joined(message(3), message(5), message(7))), 1<<20)
	var got [][]byte
	for len(got) == 0 || together.Waits() {
		b, err := together.Next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	if len(got) != 3 || string(bytes.Join(got, nil)) != "\x03\x03\x03\x05\x05\x05\x05\x05\x07\x07\x07\x07\x07\x07\x07" {
		t.Errorf("%q", got)
	}
	first, second := message(3), message(8)
	part := NewMessages(io.MultiReader(bytes.NewReader(joined(first, second[:len(second)-1])), bytes.NewReader(second[len(second)-1:])), 1<<20)
	if _, err := part.Next(); err != nil || part.Waits() {
		t.Errorf("a message of which a byte is missing waits, or %v", err)
	}
	for _, size := range []int{10, 2 * messagesBuffer} {
		b := message(size)
		for _, cut := range []int{1, lengthSize, lengthSize + 1, len(b) - 1} {
			if _, err := NewMessages(bytes.NewReader(b[:cut]), 1<<20).Next(); err != io.ErrUnexpectedEOF {
				t.Errorf("%d bytes of %d: %v", cut, len(b), err)
			}
		}
		if _, err := NewMessages(bytes.NewReader(b), size-1).Next(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes where %d are the limit: %v", size, size-1, err)
		}
		m := NewMessages(bytes.NewReader(joined(b, message(2))), 1<<20)
		if head, err := m.Head(5); err != nil || !bytes.Equal(head, b[lengthSize:][:5]) {
			t.Errorf("%x, %v", head, err)
		}
		if err := m.Skip(); err != nil {
			t.Error(err)
		}
		if b, err := m.Next(); err != nil || len(b) != 2 {
			t.Errorf("behind what was skipped: %x, %v", b, err)
		}
	}
}

// TestMessagesAllocateLittle: what says that it is large takes no memory before it comes.
func TestMessagesAllocateLittle(t *testing.T) {
	b := binary.BigEndian.AppendUint32(nil, 32<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _ = NewMessages(bytes.NewReader(b), 64<<20).Next()
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%d bytes", after.TotalAlloc-before.TotalAlloc)
	}
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
