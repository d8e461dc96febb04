package ha

import (
	"flag"
	"math/bits"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/log"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "replay this one seed of the simulator")
	simSeeds = flag.Int("sim.seeds", 8, "how many seeds the simulator runs per scenario")
	simFirst = flag.Uint64("sim.first", 1, "the first of them")
	simTime  = flag.Duration("sim.time", 20*time.Second, "virtual time of each seed of T2")
)

// abreast calls f with each number below n, in order, on as many goroutines as there are processors: a simulation uses one. It calls no more once f has
// returned false, and returns when all calls have.
func abreast(n int, f func(i int) bool) {
	var next atomic.Int64
	var over atomic.Bool
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !over.Load(); i = int(next.Add(1)) - 1 {
				if !f(i) {
					over.Store(true)
				}
			}
		})
	}
	all.Wait()
}

// seeds calls f for each seed that is asked for, several at a time.
func seeds(t *testing.T, f func(seed uint64) *simCluster) {
	t.Helper()
	first, n := *simFirst, *simSeeds
	if *simSeed != 0 {
		first, n = *simSeed, 1
	}
	type ran struct {
		tenures, acks, snapshots, events int
		hash                             uint64
		faults                           []string
	}
	defer debug.SetGCPercent(debug.SetGCPercent(2000)) // a simulation keeps little and makes much: 150 MiB then
	all := make([]ran, n)
	abreast(n, func(i int) bool {
		c := f(first + uint64(i))
		all[i] = ran{c.check.tenures, c.check.acks, c.check.snapshots, c.w.Events(), c.w.Hash(), c.check.faults}
		return len(c.check.faults) == 0
	})
	var sum ran
	for i, r := range all {
		sum.tenures, sum.acks, sum.snapshots, sum.events = sum.tenures+r.tenures, sum.acks+r.acks, sum.snapshots+r.snapshots, sum.events+r.events
		sum.hash = bits.RotateLeft64(sum.hash, 1) ^ r.hash
		if len(r.faults) > 0 {
			for _, fault := range r.faults {
				t.Error(fault)
			}
			seed := first + uint64(i)
			t.Fatalf("seed %d failed; replay it with: go test ./ha -run '^%s$' -sim.seed=%d -sim.time=%v", seed, t.Name(), seed, *simTime)
		}
	}
	t.Logf("%d seeds: %d tenures, %d records acknowledged, %d snapshots installed, %d events, hash %016x", n, sum.tenures, sum.acks, sum.snapshots, sum.events, sum.hash)
}

// t2 is a configuration whose faults come from the seed too.
func t2(seed uint64) simConfig {
	cfg := defaultSim(seed)
	r := func(n uint64) float64 { return float64(seed*0x9e3779b97f4a7c15>>(n*7)&0x7f) / 127 }
	cfg.drop, cfg.dup, cfg.late = 0.15*r(0)*r(1), 0.1*r(2), 0.02*r(3)
	cfg.delay = time.Millisecond + time.Duration(r(4)*float64(40*time.Millisecond))
	cfg.fault = 300*time.Millisecond + time.Duration(r(5)*float64(2*time.Second))
	cfg.slowApply = time.Duration(r(6) * float64(5*time.Millisecond))
	cfg.transfer, cfg.damage = cfg.delay, 0.1*r(7)
	cfg.checkpoint = 512 << (seed % 5) // so that members that were away need snapshots
	if seed%4 == 0 {
		cfg.members = 5
	}
	cfg.retimed = seed%3 == 0
	cfg.health, cfg.fences = seed%5 < 2, seed%11 < 4
	if seed%7 < 3 {
		cfg.priorities, cfg.preempt = []int{0, 2, 1, 1, 0}, time.Second
	}
	return cfg
}

// TestT2_RandomGenerations: hundreds of failovers with everything that can go wrong at once.
func TestT2_RandomGenerations(t *testing.T) {
	seeds(t, func(seed uint64) *simCluster { return runT2(seed, *simTime) })
}

func runT2(seed uint64, d time.Duration) *simCluster {
	c := newSim(t2(seed))
	c.w.Run(d, func() bool { return len(c.check.faults) > 0 })
	c.finish()
	return c
}

// TestT2_SameSeedSameRun: a seed replays its run to the last event.
func TestT2_SameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		var hashes [2]uint64
		for i := range hashes {
			hashes[i] = runT2(seed, 5*time.Second).w.Hash()
		}
		t.Logf("seed %d: hash %016x", seed, hashes[0])
		if hashes[0] != hashes[1] {
			t.Errorf("seed %d ran as %x and as %x", seed, hashes[0], hashes[1])
		}
	}
}

// await runs the simulation until something holds, for a minute at most.
func (c *simCluster) await(what string, ok func() bool) bool {
	stop := func() bool { return len(c.check.faults) > 0 || ok() }
	c.w.Run(c.w.Now()+time.Minute, stop)
	if len(c.check.faults) == 0 && !ok() {
		c.check.fail("no %s within a minute", what)
	}
	return len(c.check.faults) == 0
}

// active is the member that is active now, nil if none is.
func (c *simCluster) active() *simMember {
	for _, m := range c.members {
		if m.process.Up() && !m.process.Paused() && m.tenure != nil && m.tenure.open {
			return m
		}
	}
	return nil
}

// put appends n records, one after the other, each again under another value until it is acknowledged.
func (c *simCluster) put(n int) bool {
	for range n {
		ok := false
		for try := 0; try < 20 && !ok; try++ {
			if !c.await("active", func() bool { return c.active() != nil }) {
				return false
			}
			a := c.active()
			v := a.append(a.tenure.token)
			limit := c.w.Now() + 5*time.Second
			fate := func() bool {
				_, ended := c.check.ended[v]
				ok = c.check.lastAcked == v
				return ok || ended || !a.process.Up() || c.w.Now() > limit
			}
			c.w.Run(limit+time.Second, fate)
		}
		if !ok {
			c.check.fail("a record was not acknowledged in twenty tries")
			return false
		}
	}
	return len(c.check.faults) == 0
}

// t4 partitions the active again and again at random phases, and in every second round has a voter
// restart inside the lease while the third member, who has not heard the active for a while, is waiting
// to be elected.
func t4(seed uint64, rounds int, restart bool) *simCluster {
	cfg := defaultSim(seed)
	if seed%2 == 0 {
		cfg.drift = 0.1 // at the limit that the lease allows for
	}
	return t4With(cfg, rounds, restart)
}

func t4With(cfg simConfig, rounds int, restart bool) *simCluster {
	cfg.calm, cfg.appendEvery = true, 0
	c := newSim(cfg)
	for range rounds {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(0, cfg.election), nil)
		a := c.active()
		if a == nil {
			continue
		}
		b, third := c.members[(a.i+1)%3], c.members[(a.i+2)%3]
		if restart {
			c.partition(a, third, true, true, time.Hour)
			c.w.Run(c.w.Now()+c.w.Between(0, 3*cfg.election), nil)
			c.partition(a, b, true, true, time.Hour)
			b.crash()
			c.w.After(c.w.Between(time.Millisecond, cfg.heartbeat), func() { b.start(false) })
		} else {
			out := c.w.Rand.IntN(3)
			for _, o := range []*simMember{b, third} {
				c.partition(a, o, out != 0, out != 1, time.Hour)
			}
		}
		if cfg.retimed && c.w.Chance(0.5) {
			c.members[0].refuse()
		}
		c.await("new active", func() bool { n := c.active(); return n != nil && n != a })
		for i := range c.cut {
			clear(c.cut[i])
		}
	}
	c.finishQuietly()
	return c
}

// finishQuietly heals without asking for another append.
func (c *simCluster) finishQuietly() {
	c.heal()
	c.check.end()
}

// TestT4_NoOverlap: a thousand partitions of the active, and as many with a voter restarting inside the
// lease; half of all with clocks that drift by a tenth.
func TestT4_NoOverlap(t *testing.T) {
	for _, restart := range []bool{false, true} {
		seeds(t, func(seed uint64) *simCluster { return t4(seed, 50, restart) })
	}
}

// t7 asks for one handover after the other, under load, on a network that loses, repeats and holds up
// messages, so that many a handover is begun, given up, and finished too late.
func t7(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.drop, cfg.dup, cfg.late = true, 0.1, 0.2, 0.2
	c := newSim(cfg)
	for range 50 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(0, 2*cfg.election), nil)
		if a := c.active(); a != nil {
			if c.w.Chance(0.5) {
				a.post(asked(false))
			} else {
				c.members[c.w.Rand.IntN(3)].post(asked(true))
			}
			c.w.Run(c.w.Now()+c.w.Between(0, 4*cfg.election), nil)
			for _, o := range c.members { // what comes too late, it may not hear of
				c.partition(a, o, false, true, cfg.election)
			}
		}
	}
	c.finish()
	return c
}

// TestT7_HandOver: hand-overs that succeed, are refused, or are given up half-way, break nothing.
func TestT7_HandOver(t *testing.T) { seeds(t, t7) }

// repeated gives up one hand-over after the other, since TimeoutNow does not arrive, lets the active go on, and then
// repeats what was said before, while the active hears nothing any more.
func repeated(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery = true, 0
	c := newSim(cfg)
	for range 10 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		c.w.Run(c.w.Now()+c.w.Between(0, 2*cfg.election), nil)
		a := c.active()
		if a == nil {
			continue
		}
		c.lose = func(_, _ *simMember, m *raftpb.Message, _ int) bool { return m.GetType() == raftpb.MsgTimeoutNow }
		a.post(asked(false))
		c.w.Run(c.w.Now()+c.w.Between(0, 4*cfg.election), nil)
		c.await("active", func() bool { return c.active() != nil })
		c.w.Run(c.w.Now()+c.w.Between(0, cfg.election), nil)
		c.lose = nil
		for _, o := range c.members {
			c.partition(o, a, true, false, 3*cfg.election)
		}
		for _, o := range c.members { // who starts again remembers nothing of this
			if o != a && c.w.Chance(0.5) {
				o.crash()
				o.start(false)
			}
		}
		c.repeat(30)
		c.w.Run(c.w.Now()+4*cfg.election, func() bool { return len(c.check.faults) > 0 })
	}
	c.finishQuietly()
	return c
}

// TestG4_Repeated: whatever comes twice, late, or after its successor breaks nothing.
func TestG4_Repeated(t *testing.T) { seeds(t, repeated) }

// TestT5_Barrier: a standby that is 100,000 records behind in applying when the active dies applies them
// all before its OnActive.
func TestT5_Barrier(t *testing.T) {
	cfg := defaultSim(1)
	cfg.calm, cfg.appendEvery, cfg.checkpoint = true, 0, 1<<30
	c := newSim(cfg)
	if !c.await("active", func() bool { return c.active() != nil }) {
		t.Fatal(c.check.faults)
	}
	a := c.active()
	slow, third := c.members[(a.i+1)%3], c.members[(a.i+2)%3]
	third.crash() // so that the slow one must take over
	slow.applyEvery = 2 * time.Second
	for i := range 100_000 {
		a.append(a.tenure.token)
		if i%100 == 0 {
			c.w.Run(c.w.Now()+time.Millisecond, nil)
		}
	}
	c.await("acknowledgement of all", func() bool { return c.check.acks == 100_000 })
	behind := 100_000 - int(slow.sm.last)
	a.crash()
	third.start(false)
	slow.applyEvery = 5 * time.Millisecond
	c.await("new active", func() bool { return c.active() == slow || c.active() == third })
	if n := c.active(); len(c.check.faults) == 0 && n.sm.last != 100_000 {
		c.check.fail("%s is active with %d records applied", n.name, n.sm.last)
	}
	if behind < 50_000 {
		t.Errorf("the standby was only %d records behind", behind)
	}
	if len(c.check.faults) > 0 {
		t.Fatal(c.check.faults)
	}
}

// TestT6_UnknownOutcome: appends that reached the active's own disk and no other end as fenced once
// the active sees the next epoch.
func TestT6_UnknownOutcome(t *testing.T) { seeds(t, t6) }

// t6 cuts the active off with appends under way. With every second seed its disk stands still too, and is
// handed what overwrites the appends before it has written them.
func t6(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery = true, 0
	c := newSim(cfg)
	c.put(3)
	a := c.active()
	if a == nil {
		c.check.fail("no active")
		return c
	}
	c.cutOff(3*time.Second, a)
	if seed%2 == 0 {
		a.stalledTo = c.w.Now() + 4*time.Second
		c.bulk = log.FullBatch // so that one does not wait for the other
	}
	var open []uint64
	for range 5 {
		open = append(open, a.append(a.tenure.token))
		c.w.Run(c.w.Now()+c.w.Between(0, 40*time.Millisecond), nil)
	}
	c.await("fate of all appends", func() bool { return len(c.check.ended) == len(open) })
	for _, v := range open {
		if err := c.check.ended[v]; err != log.ErrFenced {
			c.check.fail("the append of value %d ended with %v", v, err)
		}
	}
	c.bulk = 0
	c.put(1)
	c.finishQuietly()
	return c
}

// oldHeartbeat holds TimeoutNow up until the hand-over is given up, cuts the active's ears off, and delivers it, after an
// old heartbeat if late.
func oldHeartbeat(seed uint64, late bool) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.appendEvery = true, 0
	c := newSim(cfg)
	if !c.await("active", func() bool { return c.active() != nil }) {
		return c
	}
	c.w.Run(c.w.Now()+time.Second, nil)
	a := c.active()
	old := map[*simMember]*raftpb.Message{} // the last stamped heartbeat before the hand-over, to each
	var now *raftpb.Message                 // TimeoutNow
	c.lose = func(from, to *simMember, m *raftpb.Message, _ int) bool {
		if from == a && m.GetType() == raftpb.MsgHeartbeat && len(m.GetContext()) > 0 && now == nil {
			old[to] = m
		}
		if m.GetType() == raftpb.MsgTimeoutNow {
			now = m
		}
		return m.GetType() == raftpb.MsgTimeoutNow
	}
	c.w.Run(c.w.Now()+300*time.Millisecond, nil)
	a.post(asked(false))
	c.await("active again", func() bool { return now != nil && a.tenure != nil && a.tenure.open && a.role.handing == nil })
	c.w.Run(c.w.Now()+200*time.Millisecond, nil)
	for _, o := range c.members {
		c.partition(o, a, true, false, time.Hour)
		if o != a && late {
			c.deliver(a, o, old[o])
		}
	}
	c.w.Run(c.w.Now()+time.Millisecond, nil)
	c.deliver(a, c.byID[now.GetTo()], now)
	c.w.Run(c.w.Now()+2*time.Second, func() bool { return len(c.check.faults) > 0 })
	return c
}

// TestG4_OldHeartbeat: a heartbeat that comes again, from before a hand-over that was given up, does not make a late
// TimeoutNow acceptable inside a live lease.
func TestG4_OldHeartbeat(t *testing.T) {
	for _, late := range []bool{false, true} {
		seeds(t, func(seed uint64) *simCluster { return oldHeartbeat(seed, late) })
	}
}
