package ha

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// This is what surrounds the members of a simulation: the network between them, and misfortune.

// carry takes a message through the network.
func (c *simCluster) carry(from *simMember, msg *raftpb.Message) {
	to := c.byID[msg.GetTo()]
	if to == nil || !from.knows(to) {
		return // no longer a peer
	}
	c.record(from, to, msg)
	n := c.sent[from.i][to.i]
	c.sent[from.i][to.i]++
	lost := c.cut[from.i][to.i] || !to.process.Up()
	if c.lose != nil && c.lose(from, to, msg, n) || lost || !c.healed && c.w.Chance(c.cfg.drop) {
		if lost && c.w.Chance(0.1) {
			from.after(c.w.Between(0, 10*time.Millisecond), func() { from.post(core.Unreachable{ID: to.id}) })
		}
		if msg.GetType() == raftpb.MsgSnap {
			from.after(c.w.Between(0, 100*time.Millisecond), func() { from.post(core.SnapshotSent{Message: msg}) })
		}
		return
	}
	if msg.GetType() == raftpb.MsgSnap {
		c.transfer(from, to, msg)
		return
	}
	times := 1
	if !c.healed && c.w.Chance(c.cfg.dup) {
		times = 2
	}
	for range times {
		d := c.w.Between(50*time.Microsecond, c.cfg.delay) + from.far + to.far
		if !c.healed && c.w.Chance(c.cfg.late) {
			d = c.w.Between(0, 2*time.Second)
		}
		c.w.After(d, c.delivery(from, to, msg))
	}
}

// A simDelivery is a message on its way. Those that have arrived are used again.
type simDelivery struct {
	from, to *simMember
	msg      *raftpb.Message
	arrive   func()
}

// delivery returns what lets a message arrive, once.
func (c *simCluster) delivery(from, to *simMember, msg *raftpb.Message) func() {
	if len(c.idle) == 0 {
		d := new(simDelivery)
		d.arrive = func() {
			from, to, msg := d.from, d.to, d.msg
			d.msg = nil
			c.idle = append(c.idle, d)
			c.deliver(from, to, msg)
		}
		c.idle = append(c.idle, d)
	}
	d := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	d.from, d.to, d.msg = from, to, msg
	return d.arrive
}

func (c *simCluster) deliver(from, to *simMember, msg *raftpb.Message) {
	if c.cut[from.i][to.i] || !to.process.Up() || c.cfg.births && !to.meets(from) || !to.hears(from) {
		return
	}
	switch {
	case to.starved > 0:
		to.after(c.w.Between(0, to.starved), func() { to.receive(msg) })
	case to.process.Paused():
		to.process.Do(func() { to.receive(msg) })
	default:
		to.receive(msg)
	}
}

func (m *simMember) receive(msg *raftpb.Message) {
	m.post(core.Receive{Message: msg, At: m.local()})
}

// transfer carries a snapshot. That takes time, and a newer one to the same member ends it; the sender is told so of the
// old one, a little later.
func (c *simCluster) transfer(from, to *simMember, msg *raftpb.Message) {
	if old := from.sending[to.i]; old != nil {
		from.after(c.w.Between(0, 10*time.Millisecond), func() { from.post(core.SnapshotSent{Message: old}) })
	}
	from.sending[to.i] = msg
	index := msg.GetSnapshot().GetMetadata().GetIndex()
	have, body, _, _ := from.disk.OpenSnapshot()
	b, _ := io.ReadAll(body)
	d := c.cfg.delay + c.w.Between(c.cfg.transfer/2, c.cfg.transfer)
	from.after(d, func() {
		if from.sending[to.i] != msg {
			return
		}
		delete(from.sending, to.i)
		ok := have.GetMetadata().GetIndex() == index && !c.cut[from.i][to.i] && to.process.Up() && !(c.cfg.births && !to.meets(from))
		ok = ok && to.store.StageSnapshot(msg.GetSnapshot(), bytes.NewReader(b)) == nil
		if ok && to.arbiter {
			to.adopt(msg.GetSnapshot(), int64(len(b)))
		}
		from.post(core.SnapshotSent{Message: msg, OK: ok})
		if ok {
			to.after(c.w.Between(0, to.starved), func() { to.post(core.Receive{Message: msg, At: to.local()}) })
		}
	})
}

// recorded is how many messages of each kind are recorded for each link. Three seconds of heartbeats, which is longer than a
// hand-over takes to be given up.
const recorded = 64

// record keeps a message to be repeated later. Snapshots have connections of their own, which repeat nothing.
func (c *simCluster) record(from, to *simMember, msg *raftpb.Message) {
	if msg.GetType() == raftpb.MsgSnap {
		return
	}
	l := c.past[from.i][to.i][msg.GetType()]
	if l == nil {
		l = &line{from: from, to: to}
		c.past[from.i][to.i][msg.GetType()], c.lines = l, append(c.lines, l)
	}
	l.past = append(l.past, msg)
	if n := len(l.past); n > 2*recorded {
		l.past = append(l.past[:0], l.past[n-recorded:]...)
	}
}

// line is what went from one member to another, of one kind.
type line struct {
	from, to *simMember
	past     []*raftpb.Message // what may be repeated
}

// kinds is how many kinds of messages there are.
const kinds = int(raftpb.MsgForgetLeader) + 1

// repeat delivers old messages again within a short time, any number of times, of every kind and in any order: each comes
// after its successors. The network may be cut meanwhile.
func (c *simCluster) repeat(rounds int) {
	for range rounds {
		for _, i := range c.w.Rand.Perm(len(c.lines)) {
			l := c.lines[i]
			msg := l.past[c.w.Rand.IntN(len(l.past))]
			c.w.After(c.w.Between(0, time.Duration(rounds)*time.Millisecond), c.delivery(l.from, l.to, msg))
		}
	}
}

// misfortune does one bad thing, and sees to it that another follows.
func (c *simCluster) misfortune() {
	if c.healed {
		return
	}
	c.misfortune1()
	c.w.After(time.Duration(c.w.Rand.ExpFloat64()*float64(c.cfg.fault)), c.misfortune)
}

// misfortune1 does one bad thing.
func (c *simCluster) misfortune1() {
	w := c.w
	m := c.members[w.Rand.IntN(len(c.members))]
	for _, a := range c.members { // the active is the most interesting victim
		if a.tenure != nil && w.Chance(0.5) {
			m = a
		}
	}
	o := c.members[w.Rand.IntN(len(c.members))]
	lasts := time.Duration(w.Rand.ExpFloat64() * float64(c.cfg.election))
	if c.cfg.health && w.Chance(0.2) {
		if m.fallSick(4 * lasts); o.process.Up() && !o.process.Paused() && w.Chance(0.5) {
			o.stayAway(4 * lasts)
		}
		return
	}
	switch w.Rand.IntN(11) {
	case 0, 1:
		m.crash()
		w.After(lasts, func() { m.start(false) })
	case 2: // cut off from all
		c.cutOff(lasts, m)
	case 3: // a partial partition
		c.partition(m, o, true, true, lasts)
	case 4: // one way, from or to all
		out := w.Chance(0.5)
		for _, p := range c.members {
			c.partition(m, p, out, !out, lasts)
		}
	case 5:
		m.process.Pause(lasts)
	case 6:
		m.stalledTo = w.Now() + lasts
	case 7:
		if m.process.Up() && !m.process.Paused() {
			m.post(asked(w.Chance(0.5)))
		}
	case 9: // cut off, with a disk that comes back later than the network
		c.cutOff(lasts, m)
		m.stalledTo = w.Now() + lasts + lasts/2
	case 10:
		c.repeat(1 + w.Rand.IntN(20))
	case 8: // two at once
		m.crash()
		w.After(lasts, func() { m.start(false) })
		if o != m {
			o.crash()
			w.After(lasts/2, func() { o.start(false) })
		}
	}
}

// partition cuts links for a while.
func (c *simCluster) partition(a, b *simMember, out, in bool, lasts time.Duration) {
	if a == b {
		return
	}
	if out {
		c.cut[a.i][b.i] = true
	}
	if in {
		c.cut[b.i][a.i] = true
	}
	c.w.After(lasts, func() { c.cut[a.i][b.i], c.cut[b.i][a.i] = false, false })
}

// cutOff cuts members off from all others for a while, but not from each other.
func (c *simCluster) cutOff(lasts time.Duration, some ...*simMember) {
	for _, m := range some {
		for _, o := range c.members {
			if !slices.Contains(some, o) {
				c.partition(m, o, true, true, lasts)
			}
		}
	}
}

// heal ends all faults and starts everyone.
func (c *simCluster) heal() {
	c.healed = true
	for i, m := range c.members {
		clear(c.cut[i])
		m.stalledTo = 0
		m.turn(false)
		if m.process.Paused() {
			m.process.Resume()
		}
		m.start(false)
	}
}

// finish heals the cluster, waits until it works again, and checks the end.
func (c *simCluster) finish() {
	c.heal()
	mark := c.value
	done := func() bool {
		if len(c.check.faults) > 0 {
			return true
		}
		if c.check.lastAcked <= mark {
			return false
		}
		last := uint64(0)
		for _, m := range c.members {
			if m.left || len(m.core.Roster().Members) == 0 || c.removed(m) { // it is gone, or was never added
				continue
			}
			if last == 0 {
				last = m.sm.last
			}
			if m.sm.last != last {
				return false
			}
		}
		return true
	}
	c.w.Run(c.w.Now()+60*time.Second, done)
	if !done() {
		state := ""
		for _, m := range c.members {
			state += fmt.Sprintf("\n%s: up %v, %v, leader %x, record %d, %+v", m.name, m.process.Up(), m.role.state(m.local()), m.role.lead.leader, m.sm.last, m.core.Roster())
		}
		c.check.fail("the cluster does not work again within a minute after all faults ended%s", state)
	}
	c.check.end()
}
