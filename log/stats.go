package log

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/stats"
)

// Stats is what a log has done since Open, and what it holds now. It is a plain value. Counters never go back; what is counted
// meanwhile may be in one number and not yet in another. Times are in nanoseconds.
type Stats struct {
	// Records by what became of them, and calls of Append by the error that they returned. A record whose call was
	// abandoned may be among both.
	Appended  uint64 // in the log, and applied here
	Fenced    uint64 // [ErrFenced] or [ErrNotActive]
	Busy      uint64 // [ErrBusy]
	NoRoom    uint64 // [ErrNoRoom]
	Failed    uint64 // any other error that is definite
	Unknown   uint64 // [ErrUnknown]
	Abandoned uint64 // of those, how many since their ctx had ended

	Batches      uint64             // that were proposed
	BatchRecords stats.Distribution // records in each
	BatchBytes   stats.Distribution // bytes of each
	AppendTime   stats.Distribution // from the first record of a batch to the answer, for each that is in the log
	CommitTime   stats.Distribution // from proposing a batch to learning that it is committed
	ApplyTime    stats.Distribution // that what was committed together took in the state machine; nothing without one

	Waiting     int64 // bytes of records whose fate is unknown
	Proposed    int   // batches whose fate is unknown and that were proposed
	InboxEvents int   // that wait for the loop
	InboxBytes  int   // of entries in those
	Writes      int   // that wait for the writer
	Applies     int   // that wait for the applier
	Fetches     int   // of old entries that wait for the fetcher

	First      uint64 // record that is held, 1 if nothing was given up; those before are in the checkpoint
	Checkpoint uint64 // last record in the newest checkpoint, 0 if there is none

	Sessions     int // of requests that take effect once, in the replicated table as far as it is applied here: 16,384 at most
	SessionBytes int // that they and the answers kept for them take, about: 4 MiB at most; what is beyond that expires, whoever was used least lately first

	Subscribers int
	Read        uint64 // records that were given to subscribers

	Checkpoints       uint64 // that were written
	CheckpointsFailed uint64
	CheckpointTime    stats.Distribution // of those that were written
	SnapshotsSent     uint64
	SnapshotsNotSent  uint64 // superseded ones are among them
	SnapshotsReceived uint64 // and staged
	SnapshotsRefused  uint64

	Elections     uint64 // terms in which a leader became known here
	Won           uint64 // of those, how many by this member
	Epochs        uint64 // that began
	LeaseRenewals uint64 // times that this member's lease became longer
}

// counts is what Stats counts. Whoever counts does so once for a batch, not for a record. Fields that are no atomics or
// histograms are owned by the loop.
type counts struct {
	fenced, busy, noRoom, failed, unknown, abandoned                              atomic.Uint64
	checkpoints, notWritten, snapsSent, snapsNotSent, snapsReceived, snapsRefused atomic.Uint64
	elections, won, epochs, renewals, read                                        atomic.Uint64
	subscribers                                                                   atomic.Int64
	commitTime, applyTime, checkpointTime                                         stats.Histogram
	term                                                                          uint64        // of the last leader that was known
	lease                                                                         time.Duration // its end
}

// gathered is what is counted of batches. The number of those that were proposed is that of all sizes.
type gathered struct {
	records, bytes, time stats.Histogram
	appended             atomic.Uint64
	proposed             atomic.Int64 // and not settled

	refused, unknown atomic.Uint64      // records
	last             atomic.Int64       // when one was acknowledged, in Unix nanoseconds
	epoch            atomic.Uint64      // of that
	first            func(Acknowledged) // told of the first of each; it waits for nothing
}

// Stats may be called at any time, by any goroutine. It takes a few microseconds, and waits for nothing but short locks.
func (l *Log) Stats() Stats {
	c, g := &l.counts, &l.gather.counts
	s := Stats{
		Appended: g.appended.Load(), Fenced: c.fenced.Load(), Busy: c.busy.Load(), NoRoom: c.noRoom.Load(), Failed: c.failed.Load(),
		Unknown: c.unknown.Load(), Abandoned: c.abandoned.Load(),
		BatchRecords: g.records.Snapshot(), BatchBytes: g.bytes.Snapshot(), AppendTime: g.time.Snapshot(),
		CommitTime: c.commitTime.Snapshot(), ApplyTime: c.applyTime.Snapshot(),
		Waiting: l.gather.waiting.Load(), Proposed: int(g.proposed.Load()),
		Writes: l.writes.size(), Applies: l.applies.size(), Fetches: l.fetches.size(),
		Subscribers: int(c.subscribers.Load()), Read: c.read.Load(),
		Checkpoints: c.checkpoints.Load(), CheckpointsFailed: c.notWritten.Load(), CheckpointTime: c.checkpointTime.Snapshot(),
		SnapshotsSent: c.snapsSent.Load(), SnapshotsNotSent: c.snapsNotSent.Load(),
		SnapshotsReceived: c.snapsReceived.Load(), SnapshotsRefused: c.snapsRefused.Load(),
		Elections: c.elections.Load(), Won: c.won.Load(), Epochs: c.epochs.Load(), LeaseRenewals: c.renewals.Load(),
	}
	s.Batches = s.BatchRecords.Count
	s.First, s.Checkpoint = l.store.extent()
	s.InboxEvents, s.InboxBytes = l.inbox.size()
	s.Sessions, s.SessionBytes = l.desk.size()
	return s
}

// outcome counts the error of an append.
func (c *counts) outcome(err error) {
	switch {
	case errors.Is(err, ErrUnknown): // first: it may wrap others
		c.unknown.Add(1)
	case errors.Is(err, ErrFenced), errors.Is(err, ErrNotActive):
		c.fenced.Add(1)
	case errors.Is(err, ErrNoRoom): // it is ErrBusy, too
		c.noRoom.Add(1)
	case errors.Is(err, ErrBusy):
		c.busy.Add(1)
	default:
		c.failed.Add(1)
	}
}

// took counts a batch that is proposed now.
func (g *gathered) took(b *pending) {
	b.proposed = time.Now()
	g.proposed.Add(1)
	g.records.Observe(int64(b.Count))
	g.bytes.Observe(int64(b.Size()))
}

// stepped counts what a step has brought.
func (c *counts) stepped(eff core.Effects) {
	for _, ch := range eff.Changes {
		switch ch := ch.(type) {
		case core.Leadership:
			if ch.Leader != 0 && ch.Term != c.term {
				c.term = ch.Term
				c.elections.Add(1)
				if ch.Leading {
					c.won.Add(1)
				}
			}
		case core.Lease:
			if ch.Until > c.lease {
				c.renewals.Add(1)
			}
			c.lease = ch.Until
		case core.EpochStarted:
			c.epochs.Add(1)
		}
	}
	var now time.Time
	for _, a := range eff.Applies {
		for _, b := range a.Batches {
			if p, ok := b.Waiter.(*pending); ok {
				if now.IsZero() {
					now = time.Now()
				}
				c.commitTime.Observe(int64(now.Sub(p.proposed)))
			}
		}
	}
}

// snapshotSent and snapshotReceived count one.
func (c *counts) snapshotSent(err error)     { one(err, &c.snapsSent, &c.snapsNotSent) }
func (c *counts) snapshotReceived(err error) { one(err, &c.snapsReceived, &c.snapsRefused) }

// saved counts a checkpoint.
func (c *counts) saved(began time.Time, err error) {
	one(err, &c.checkpoints, &c.notWritten)
	if err == nil {
		c.checkpointTime.Observe(int64(time.Since(began)))
	}
}

func one(err error, well, badly *atomic.Uint64) {
	if err != nil {
		well = badly
	}
	well.Add(1)
}

func (b *inbox) size() (events, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.events), b.bytes
}

func (q *queue[T]) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
