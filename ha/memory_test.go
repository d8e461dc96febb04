package ha

import (
	"testing"
)

func TestBoundsFor(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		memory    int64
		peers     int
		maxRecord int
		want      bounds
	}{
		{512 * mib, 2, 4 * mib, bounds{cache: 64 * mib, pending: 64 * mib, inbox: 32 * mib, inflight: 32 * mib, message: mib, applying: 16 * mib, queue: 69 * mib, subscribe: mib, streams: 8 * mib}},
		{128 * mib, 2, 4 * mib, bounds{cache: 16 * mib, pending: 16 * mib, inbox: 8 * mib, inflight: 8 * mib, message: mib / 4, applying: 4 * mib, queue: 20*mib + mib/4, subscribe: mib / 4, streams: 2 * mib}},
		{32 * mib, 2, mib, bounds{cache: 4 * mib, pending: 4 * mib, inbox: 2 * mib, inflight: 2 * mib, message: mib / 16, applying: mib, queue: 5*mib + mib/16, subscribe: mib / 16, streams: mib / 2}},
		{512 * mib, 6, 4 * mib, bounds{cache: 64 * mib, pending: 64 * mib, inbox: 32 * mib, inflight: 512 * mib / 48, message: mib / 3, applying: 16 * mib, queue: 2*(512*mib/48) + mib/3 + 4*mib, subscribe: mib, streams: 8 * mib}},
		{4096 * mib, 0, 4 * mib, bounds{cache: 512 * mib, pending: 512 * mib, inbox: 32 * mib, inflight: 32 * mib, message: mib, applying: 16 * mib, queue: 69 * mib, subscribe: mib, streams: 8 * mib}},
	} {
		got := boundsFor(test.memory, test.peers, test.maxRecord)
		if got != test.want {
			t.Errorf("%d MiB, %d peers: %+v", test.memory/mib, test.peers, got)
		}
		// All that can be there at a time is a half: the other half is garbage that is not collected yet.
		all := int64(got.cache) + got.pending + int64(got.inbox) + int64(got.inflight)*int64(test.peers) + int64(got.applying) + 2*got.streams
		if all > test.memory/2 {
			t.Errorf("%d MiB, %d peers: the bounds add up to %d MiB", test.memory/mib, test.peers, all/mib)
		}
	}
}

func TestWithBounds(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name           string
		c              Config
		limit          int64
		memory         int64
		cache, pending int64
	}{
		{"a large machine", Config{MaxRecord: 4 * mib}, 64 << 30, 512 * mib, 64 * mib, 64 * mib},
		{"nothing is known", Config{MaxRecord: 4 * mib}, 0, 512 * mib, 64 * mib, 64 * mib},
		{"a small group", Config{MaxRecord: 4 * mib}, 256 * mib, 64 * mib, 8 * mib, 8 * mib},
		{"a tiny group", Config{MaxRecord: mib}, 64 * mib, 32 * mib, 4 * mib, 4 * mib},
		{"large records", Config{MaxRecord: 32 * mib}, 256 * mib, 512 * mib, 64 * mib, 64 * mib},
		{"many appends", Config{MaxRecord: 4 * mib, MaxPending: 512 * mib}, 8 << 30, 1024 * mib, 128 * mib, 512 * mib},
		{"said so", Config{MaxRecord: 4 * mib, MemoryBytes: 64 * mib}, 8 << 30, 64 * mib, 8 * mib, 8 * mib},
		{"smaller ones", Config{MaxRecord: 4 * mib, CacheBytes: mib, MaxPending: 2 * mib}, 8 << 30, 512 * mib, mib, 2 * mib},
	} {
		got := test.c.withBounds(test.limit)
		if got.MemoryBytes != test.memory || int64(got.CacheBytes) != test.cache || got.MaxPending != test.pending {
			t.Errorf("%s: memory %d, cache %d, pending %d", test.name, got.MemoryBytes/mib, got.CacheBytes/mib, got.MaxPending/mib)
		}
	}
}
