package log

import "time"

// Appenders that wait for their answers and then append again are a crowd, and best served when all of it is in one batch: in two that
// take turns everybody waits for both, and twice as many batches are written for as many records. Appenders in this process find
// together when the loop yields to them. Those in other processes do not: when one half is answered the other has gathered, and
// leaves before the first can be back. So the next batch waits for a moment until nearly as much has come as was there lately, under way
// and gathered. Where that does not come, because those who append do not wait for answers, have gone away, or take longer to come back than
// a commit takes, the next batches do not wait, first two and then more and more.

// A crowd is who appends. It is owned by who turns the loop.
type crowd struct {
	size    int  // bytes of its records, the most of late
	misses  int  // times in a row that it was waited for and did not come
	skip    int  // batches that will not wait
	awaited bool // the next batch does
}

const (
	crowdStray = 8 // one part in so many is not waited for
	maxMisses  = 8 // doublings of the batches that do not wait
)

// anySize has room for every batch.
func anySize(int) bool { return true }

// saw takes note of how much was under way and gathered when something of it was committed.
func (c *crowd) saw(bytes int) { c.size = min(max(c.size-c.size/crowdStray, bytes), FullBatch) }

// target is the size of a batch in which nearly all of it is.
func (c *crowd) target() int { return c.size - c.size/crowdStray }

// patience is how long a batch waits for it: about as long as a commit takes, which it would wait for otherwise.
func (c *crowd) patience(growing time.Duration) time.Duration { return 2 * growing }

// await reports whether a batch that could leave is to wait for the others.
func (c *crowd) await(size int) bool {
	c.awaited = size < c.target() && (c.awaited || c.skip == 0)
	return c.awaited
}

// taken takes note of the size of a batch that leaves.
func (c *crowd) taken(size int) {
	switch {
	case !c.awaited:
		c.skip = max(c.skip-1, 0)
	case size < c.target():
		c.misses = min(c.misses+1, maxMisses)
		c.skip = 1 << c.misses
	default:
		c.misses = 0
	}
	c.awaited = false
}
