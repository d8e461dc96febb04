package ha

import (
	"fmt"
	"math"
	"runtime/debug"
)

// bounds are the bounds of everything that a member holds in memory, in bytes. Together, with what the garbage
// collector needs to let as much be garbage again, they make about Config.MemoryBytes; the state machine is
// not in it.
type bounds struct {
	cache     int    // recent entries
	pending   int64  // appends whose fate is unknown
	inbox     int    // received, not yet stepped
	inflight  uint64 // sent to one follower, unanswered
	message   uint64 // entries in one message
	applying  uint64 // handed out to be applied
	queue     int64  // to be sent to one member
	subscribe int    // read at a time by one subscriber
	streams   int64  // waiting to be read in the streams of members, and as much in those of clients
}

// The memory for which nothing is smaller than it need be, and the least there is something to be done with.
const (
	ampleMemory  = 512 << 20
	leastMemory  = 32 << 20
	recordCopies = 16 // of the largest record, that there must be room for: in queues, buffers and frames
)

// boundsFor derives the bounds of a member with so many peers from its memory and from the largest record.
func boundsFor(memory int64, peers, maxRecord int) bounds {
	m := min(memory, ampleMemory)
	b := bounds{
		cache: int(memory / 8), pending: memory / 8, inbox: int(m / 16), applying: uint64(m / 32),
		inflight: uint64(m / 8 / int64(max(peers, 2))), subscribe: int(max(m/512, 64<<10)), streams: m / 64,
	}
	b.message = b.inflight / 32
	// What raft sends must find room, however large its last message is.
	b.queue = 2*int64(b.inflight) + int64(b.message) + int64(maxRecord)
	return b
}

// leastFor is how much memory the settings of c need, and why.
func (c Config) leastFor() (least int64, why string) {
	least, why = leastMemory, "which any member needs"
	if need := recordCopies * int64(c.MaxRecord); need > least {
		least, why = need, fmt.Sprintf("which is %d times MaxRecord (%d)", recordCopies, c.MaxRecord)
	}
	if need := 2 * (addUp(c.MaxPending, int64(c.CacheBytes))); need > least {
		least, why = need, fmt.Sprintf("which is twice MaxPending (%d) and CacheBytes (%d) together", c.MaxPending, c.CacheBytes)
	}
	return least, why
}

// addUp adds two sizes, negative ones as 0, without overflow of twice the sum.
func addUp(a, b int64) int64 {
	const most = math.MaxInt64 / 8
	return min(max(a, 0), most) + min(max(b, 0), most)
}

// withBounds fills in what follows from the memory. There is no less than the settings need: only a
// MemoryBytes that was set, and with which they cannot work, is refused, by Validate.
func (c Config) withBounds(limit int64) Config {
	least, _ := c.leastFor()
	if c.MemoryBytes == 0 {
		c.MemoryBytes = max(shareOf(limit), least)
	}
	b := boundsFor(c.MemoryBytes, len(c.Members)-1, c.MaxRecord)
	setDefault(&c.MaxPending, b.pending)
	setDefault(&c.CacheBytes, b.cache)
	return c
}

// shareOf is how much of the memory that a process may have is a member's, if nobody says otherwise: a quarter, and
// no more than it has a use for. Where the limit is not known, 0, that much.
func shareOf(limit int64) int64 {
	if limit <= 0 {
		return ampleMemory
	}
	return min(limit/4, ampleMemory)
}

// memoryLimit is how much memory this process may have: the least of GOMEMLIMIT, its control groups and the
// machine; 0 if none of them is known.
func memoryLimit() int64 {
	least := int64(math.MaxInt64)
	for _, limit := range append(systemLimits(), debug.SetMemoryLimit(-1)) {
		if limit > 0 {
			least = min(least, limit)
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}
