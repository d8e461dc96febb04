package ha

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/log"
)

// These are readers on all members, who must see what was acknowledged anywhere before they asked.

// simReads are the readers of one process.
type simReads struct {
	rounds  rounds
	waiting []simRead
}

// simRead is a reader that waits.
type simRead struct {
	round *round
	floor uint64 // the last record that was acknowledged, or had been read behind a barrier, when it asked
}

// reader lets somebody read on some member now and then.
func (c *simCluster) reader() {
	c.w.After(time.Duration(c.w.Rand.ExpFloat64()*float64(c.cfg.reads))+1, func() {
		if m := c.members[c.w.Rand.IntN(len(c.members))]; m.process.Up() && !m.process.Paused() {
			m.readBarrier()
		}
		if !c.healed {
			c.reader()
		}
	})
}

// readBarrier does what Node.ReadBarrier does.
func (m *simMember) readBarrier() {
	floor := m.c.check.highest
	if t := m.tenure; t != nil && m.holds(t) {
		if index, ok := m.loop.Committed(); ok {
			now := &round{done: make(chan struct{})}
			now.end(index, nil)
			m.reads.waiting = append(m.reads.waiting, simRead{now, floor})
			m.readOn()
			return
		}
	}
	mine, first := m.reads.rounds.join()
	m.reads.waiting = append(m.reads.waiting, simRead{mine, floor})
	if first {
		m.after(m.c.w.Between(0, 100*time.Microsecond), m.askRounds)
	}
}

// askRounds asks whoever seems to lead.
func (m *simMember) askRounds() {
	r := m.reads.rounds.begin()
	if r == nil {
		return
	}
	ended := false
	end := func(index uint64, err error) {
		if ended {
			return
		}
		ended = true
		r.end(index, err)
		m.readOn()
		m.askRounds()
	}
	to := m.c.byID[m.role.lead.leader]
	if to == nil {
		m.after(0, func() { end(0, ErrNoQuorum) })
		return
	}
	m.after(m.timing.election, func() { end(0, ErrNoQuorum) })
	m.carryRead(m, to, func() {
		to.post(log.Read{Reader: simAsked(func(index uint64, err error) {
			m.carryRead(to, m, func() { end(index, err) })
		})})
	})
}

// simAsked is told what the leader answers.
type simAsked func(index uint64, err error)

// Read implements core.Reader.
func (f simAsked) Read(index uint64, err error) { f(index, err) }

// carryRead takes a question or an answer from one member to another, on a connection that may break.
func (m *simMember) carryRead(from, to *simMember, arrives func()) {
	if from == to {
		to.after(m.c.w.Between(0, 100*time.Microsecond), arrives)
		return
	}
	d := m.c.w.Between(50*time.Microsecond, m.c.cfg.delay)
	if !m.c.healed && m.c.w.Chance(m.c.cfg.late) {
		d = m.c.w.Between(0, 2*time.Second)
	}
	life := to.process.Life()
	m.c.w.After(d, func() {
		if !m.c.cut[from.i][to.i] && to.process.Up() && to.process.Life() == life {
			to.process.Do(arrives)
		}
	})
}

// readOn lets those read for whom enough is applied.
func (m *simMember) readOn() {
	left := m.reads.waiting[:0]
	for _, w := range m.reads.waiting {
		select {
		case <-w.round.done:
		default:
			left = append(left, w)
			continue
		}
		switch {
		case w.round.err != nil:
			m.c.check.unread++
		case m.sm.last < w.round.index:
			left = append(left, w)
		default:
			m.c.check.read(m, w.floor)
		}
	}
	m.reads.waiting = left
}

// read sees a reader that may read, and that had to see everything up to a record.
func (k *checker) read(m *simMember, floor uint64) {
	k.reads++
	if m.sm.last < floor {
		k.fail("%s reads after record %d, and record %d was acknowledged, or had been read, when its reader asked (G11)", m.name, m.sm.last, floor)
	}
	k.highest = max(k.highest, m.sm.last)
}

// readers is T2 with readers on all members.
func readers(seed uint64) *simCluster {
	cfg := t2(seed)
	cfg.reads, cfg.fault = 5*time.Millisecond, min(cfg.fault, 500*time.Millisecond)
	cfg.slowApply *= 4
	cfg.applying = 300 << (seed % 3) // so that more is committed than is handed out
	c := newSim(cfg)
	c.w.Run(10*time.Second, func() bool { return len(c.check.faults) > 0 })
	c.finish()
	return c
}

// TestG11_Readers: whoever reads behind a barrier, on whichever member, sees what was acknowledged before.
func TestG11_Readers(t *testing.T) {
	var reads, unread atomic.Int64
	seeds(t, func(seed uint64) *simCluster {
		c := readers(seed)
		reads.Add(int64(c.check.reads))
		unread.Add(int64(c.check.unread))
		return c
	})
	t.Logf("%d reads, and %d for which nobody answered", reads.Load(), unread.Load())
	if reads.Load() < 100 {
		t.Error("hardly anybody read")
	}
}

// TestRounds: whoever comes while the leader is asked waits for the next question, together with all others who do.
func TestRounds(t *testing.T) {
	var r rounds
	a, first := r.join()
	if b, again := r.join(); !first || again || a != b {
		t.Fatal("two who wait for the first question do not share it")
	}
	if r.begin() != a {
		t.Fatal("another round begins than was joined")
	}
	c, first := r.join()
	if c == a || first {
		t.Fatal("who comes while the leader is asked gets an answer to an older question, or asks beside it")
	}
	a.end(7, nil)
	if r.begin() != c || a.index != 7 {
		t.Fatal("the next round does not follow")
	}
	c.end(0, errors.New("no"))
	if r.begin() != nil {
		t.Fatal("a round begins that nobody waits for")
	}
	if _, first := r.join(); !first {
		t.Fatal("after a rest nobody asks")
	}
}
