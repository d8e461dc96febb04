package log

import (
	"errors"
	"time"
)

// This file is what the appends themselves show of a change of roles. It is counted once for a batch.

// Fates is what has become of this member's appends where that was not to be expected, since Open.
type Fates struct {
	// Last is when the last one was acknowledged, by the clock on the wall; zero: none was.
	Last time.Time
	// Refused are the records that were taken and then were not put into the log, Unknown those of which that is not known, and calls
	// whose ctx had ended.
	Refused, Unknown uint64
}

// Fates may be called by any goroutine at any time.
func (l *Log) Fates() Fates {
	g := &l.gather.counts
	f := Fates{Refused: g.refused.Load(), Unknown: g.unknown.Load() + l.counts.abandoned.Load()}
	if at := g.last.Load(); at != 0 {
		f.Last = time.Unix(0, at)
	}
	return f
}

// Acknowledged is what the [Observer] sees when the first append of an epoch has been acknowledged, by this member.
type Acknowledged struct {
	Epoch uint64
	At    time.Time
}

// Mail implements [Mail].
func (Acknowledged) Mail() {}

// settled counts the fate of a batch.
func (g *gathered) settled(b *pending, err error) {
	if !b.proposed.IsZero() {
		g.proposed.Add(-1)
	}
	switch {
	case err == nil:
		now := time.Now()
		g.appended.Add(uint64(b.Count))
		g.time.Observe(int64(now.Sub(b.began)))
		g.last.Store(now.UnixNano())
		if was := g.epoch.Load(); b.Epoch > was && g.epoch.CompareAndSwap(was, b.Epoch) && g.first != nil {
			g.first(Acknowledged{b.Epoch, now})
		}
	case errors.Is(err, ErrUnknown):
		g.unknown.Add(uint64(b.Count))
	default:
		g.refused.Add(uint64(b.Count))
	}
}

// underWay is how many records of proposed batches have no fate yet.
func (d *driver) underWay() (records uint64) {
	for b := range d.flying {
		if p, ok := b.Waiter.(*pending); !ok || !p.settled.Load() { // else the loop was not told yet
			records += uint64(b.Count)
		}
	}
	return records
}
