package sum

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func random(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// TestJoin compares with package crc32, of pieces whose lengths have all bits, and of none.
func TestJoin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := random(rnd, 1<<17)
	for i := range 300 {
		n := 1 + rnd.IntN(1<<(1+i%17))
		at := rnd.IntN(n + 1)
		first, second := b[:at], b[at:n]
		got := Join(crc32.Checksum(first, castagnoli), crc32.Checksum(second, castagnoli), len(second))
		if want := crc32.Checksum(b[:n], castagnoli); got != want {
			t.Fatalf("%d and %d bytes: %08x, want %08x", at, n-at, got, want)
		}
	}
	// What is too long to be summed: a piece of 2^40 bytes is two of 2^39.
	sum := crc32.Checksum(b[:100], castagnoli)
	if a, b := Join(sum, 0, 1<<40), Join(Join(sum, 0, 1<<39), 0, 1<<39); a != b {
		t.Errorf("2^40 bytes: %08x, and in two pieces %08x", a, b)
	}
}

func FuzzJoin(f *testing.F) {
	f.Add([]byte("baton"), 2)
	f.Add(bytes.Repeat([]byte{0}, 300), 256)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		at = max(0, min(at, len(b)))
		got := Join(crc32.Checksum(b[:at], castagnoli), crc32.Checksum(b[at:], castagnoli), len(b)-at)
		if want := crc32.Checksum(b, castagnoli); got != want {
			t.Errorf("%08x, want %08x", got, want)
		}
	})
}

// TestSealed: what is derived from the checksum that data carries is that of its bytes, and what is not sealed is summed.
func TestSealed(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, Head, Head + 1, 30, joining - 1, joining, 100_000} {
		for _, sealed := range []bool{false, true} {
			b := random(rnd, n)
			if n > 0 {
				b[0] = 1
			}
			if sealed = sealed && n > Head; sealed {
				Seal(b)
			}
			before := rnd.Uint32()
			want := crc32.Update(before, castagnoli, b)
			after, sound := Check(before, b)
			if got := After(before, b); got != want || after != want || !sound || !Sound(b) {
				t.Errorf("%d bytes, sealed %v: after %08x, checked %08x (%v, %v), want %08x", n, sealed, got, after, sound, Sound(b), want)
			}
		}
	}
}

// TestSealed_Damaged: of each flipped bit the checksum that is derived is not that of what is there, and who looks finds it.
func TestSealed_Damaged(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{30, joining + 17} {
		b := random(rnd, n)
		Seal(b)
		for range 200 {
			bit := 8*1 + rnd.IntN(8*(n-1))
			b[bit/8] ^= 1 << (bit % 8)
			want := crc32.Update(7, castagnoli, b)
			if after, sound := Check(7, b); sound || Sound(b) || after != want {
				t.Errorf("bit %d of %d bytes: sound %v, %v; %08x, want %08x", bit, n, sound, Sound(b), after, want)
			}
			if n >= joining && After(7, b) == want {
				t.Errorf("bit %d of %d bytes: the derived checksum is that of the damaged bytes", bit, n)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func BenchmarkJoin(b *testing.B) {
	for _, n := range []int{2 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			sum := uint32(1)
			for b.Loop() {
				sum = Join(sum, 12345, n)
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1 << 10, 2 << 10, 16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			data, sum := make([]byte, n), uint32(1)
			b.SetBytes(int64(n))
			for b.Loop() {
				sum = Update(sum, data)
			}
		})
	}
}
