package ha

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
	"github.com/baton-ha/baton/log"
)

// This is a whole cluster in one goroutine on virtual time: the very loops of the product with their mailboxes, gatherers and
// cores, and its role machines, turned by events in the place of goroutines, on a network and on disks that fail from a
// seed. Nothing here decides anything that the product decides; it carries messages, completes writes,
// plays the callbacks and the appending user, and the checker looks at everything.

// simConfig is a cluster and what happens to it.
type simConfig struct {
	seed    uint64
	members int

	heartbeat, election time.Duration
	drift               float64 // by which clock rates differ, and are allowed to

	timings []simTiming // of the members, if they differ
	retimed bool        // each start of a member draws its timing values anew

	drop, dup, late float64       // chances of each message; late ones take up to two seconds
	delay           time.Duration // of a message, at most
	fault           time.Duration // mean time between two faults, 0: none
	applying        uint64        // bytes that are given to be applied at a time, 0: what the product does
	calls           time.Duration // mean time between two things that a caller does, 0: there are none
	reads           time.Duration // mean time between two reads, 0: none
	changes         time.Duration // mean time between two changes of the members, 0: none
	appendEvery     time.Duration // mean time between two appends of an active, 0: none
	slowApply       time.Duration // of a batch, at most
	transfer        time.Duration // of a snapshot, at most
	arbiters        int           // of the members, the last ones
	damage          float64       // chance that the newest snapshot is damaged at a crash
	checkpoint      int64         // bytes between two checkpoints
	births          bool          // members must be born before they take part
	read            time.Duration // of old entries from the disk, at most
	message         uint64        // bytes of a message, 0: what the product does
	calm            bool          // callbacks return at once and never fail
	priorities      []int         // of the members, if they differ
	preempt         time.Duration // Config.Preempt
	fences          bool          // members have an OnFence
	walls           bool          // members look at the clock on the wall, too
	slew            float64       // by which that is faster than it was
	health          bool          // members check their health, and tell each other how they are
}

func defaultSim(seed uint64) simConfig {
	return simConfig{
		seed: seed, members: 3, heartbeat: 50 * time.Millisecond, election: 500 * time.Millisecond, drift: 0.01,
		delay: 3 * time.Millisecond, appendEvery: 20 * time.Millisecond, slowApply: time.Millisecond, transfer: 5 * time.Millisecond, checkpoint: 8 << 10,
		read: 20 * time.Millisecond,
	}
}

// beforeValues is below all values that are appended, and like no epoch: what a disk has of it is the value (Disk.Has).
const beforeValues = 0x5a5a0000

// simCluster is a running simulation.
type simCluster struct {
	cfg     simConfig
	w       *sim.World
	members []*simMember
	byID    map[uint64]*simMember
	idle    []*simDelivery                                             // to be used again
	cut     [][]bool                                                   // cut[from][to]
	lose    func(from, to *simMember, msg *raftpb.Message, n int) bool // the n-th message from one to another, counted from 0
	sent    [][]int
	past    [][][kinds]*line // past[from][to][kind]
	lines   []*line          // of past, in the order in which they came up
	check   checker
	value   uint64 // the last value that was appended
	bulk    int    // bytes by which records are larger
	room    []byte // for a record
	healed  bool
	lost    int // directories of members that were born
}

// simMember is one member: the pure parts of a process, and what survives it.
type simMember struct {
	c    *simCluster
	i    int
	name string
	id   uint64
	disk *sim.Disk
	safe sim.Disk // what a disk that lies about syncing would keep

	promised time.Duration // what its directory says of the promises of its processes
	timing   simTiming     // of the present process

	rate   float64 // of its clock
	offset time.Duration
	missed time.Duration // by its clock, while its machine was paused

	process *sim.Process

	// Of the present life of the process.
	core      *core.Core
	store     *log.Store
	role      role
	sm        *simMachine
	checks    *log.Checkpointer
	loop      *log.Loop
	turns     func() // step
	happens   simHappens
	scheduled bool
	alarm     time.Duration // when the loop wakes by itself, on virtual time, 0: not at all
	wakeAt    time.Duration // when the role is to be woken, on the member's clock, 0: not at all

	writes    []*core.Write
	writing   []*core.Write
	written   []*core.Write // the slice that held the last ones, to be used again
	stalledTo time.Duration
	slow      bool // its disk did not answer, and it has not been active since
	quick     int  // writes in a row that were to show that it answers again, and did
	applies   []*core.Apply
	applying  bool
	hurried   int         // applies that are through before their time came
	records   []log.Entry // of the last apply
	fetches   []*core.Fetch
	fetching  bool
	stepping  bool // the loop is in the core

	coolTill time.Duration // before which it must not be active, on its clock, since OnActive has failed

	birth simBirth
	simMembership
	simHealth
	simFence
	reads simReads
	asks  []simAsk // of callers

	applyEvery time.Duration // the least time that an apply takes

	sending map[int]*raftpb.Message // snapshots, by the receiver's place

	asked []simAppend // whose fates are not known, oldest first

	anew     bool          // it has just started, as the active was told
	starved  time.Duration // by which it gets to run too late, at most
	tenure   *simTenure
	problems map[uint64]error // by whom they are about
}

// simHappens is what happens to a member again and again, bound to it once.
type simHappens struct{ nudge, persisted, applied, fetched, appends func() }

// simTenure is one time in which OnActive's ctx is open.
type simTenure struct {
	token fence.Token
	until time.Duration // lease, on the member's clock
	open  bool          // the ctx is not done
}

// newSim starts a cluster.
func newSim(cfg simConfig) *simCluster {
	c := &simCluster{cfg: cfg, w: sim.NewWorld(cfg.seed), value: beforeValues, byID: map[uint64]*simMember{}}
	c.check.init(c)
	var members []log.Member
	for i := range cfg.members {
		name := string(rune('a' + i))
		some := log.Member{ID: memberID(name), Name: name}
		if cfg.priorities != nil {
			some.Priority = cfg.priorities[i]
		}
		if i >= cfg.members-cfg.arbiters {
			some.Kind = log.KindArbiter
		}
		members = append(members, some)
	}
	boot := log.Boot(members)
	for _, m := range members {
		c.addMember(m.Name, m.ID, sim.NewDisk(boot)).arbiter = m.Kind == log.KindArbiter
	}
	for _, m := range c.members {
		c.w.After(c.w.Between(0, 20*time.Millisecond), func() { m.start(true) })
	}
	if cfg.fault > 0 {
		c.w.After(c.w.Between(0, cfg.fault), c.misfortune)
	}
	if cfg.calls > 0 {
		c.callers(5)
	}
	if cfg.reads > 0 {
		c.reader()
	}
	if cfg.changes > 0 {
		c.w.After(c.w.Between(0, cfg.changes), c.operate)
	}
	return c
}

// addMember adds a member that is not started yet.
func (c *simCluster) addMember(name string, id uint64, disk *sim.Disk) *simMember {
	// The rates of two clocks differ by a factor of at most 1+drift.
	rate := 1 + c.cfg.drift*(c.w.Rand.Float64()-0.5)
	m := &simMember{
		c: c, i: len(c.members), process: c.w.NewProcess(), name: name, id: id, disk: disk, rate: rate,
		offset: time.Hour + c.w.Between(0, time.Hour),
	}
	m.safe, m.happens = *m.disk, simHappens{m.nudge, m.persisted, m.applied, m.fetched, m.appends}
	c.members, c.byID[id] = append(c.members, m), m
	for i := range c.cut {
		c.cut[i], c.sent[i], c.past[i] = append(c.cut[i], false), append(c.sent[i], 0), append(c.past[i], [kinds]*line{})
	}
	n := len(c.members)
	c.cut, c.sent, c.past = append(c.cut, make([]bool, n)), append(c.sent, make([]int, n)), append(c.past, make([][kinds]*line, n))
	return m
}

// local is the member's clock.
func (m *simMember) local() time.Duration {
	return m.offset + time.Duration(float64(m.c.w.Now())*m.rate) - m.missed
}

// until is how long it takes in virtual time until the member's clock shows a time.
func (m *simMember) until(local time.Duration) time.Duration {
	return time.Duration(float64(local-m.local())/m.rate) + 1
}

// after lets f happen to this process, unless it has died by then; if it is paused, when it goes on.
func (m *simMember) after(d time.Duration, f func()) { m.process.After(d, f) }

var quiet = slog.New(slog.DiscardHandler)

// start starts the member's process.
func (m *simMember) start(fresh bool) {
	if m.process.Up() || m.birth.forgotten || m.left {
		return
	}
	cfg := m.c.cfg
	if cfg.births {
		fresh = !m.birth.born
	}
	m.process.Begin()
	m.scheduled, m.alarm, m.wakeAt = false, 0, 0
	m.turns = m.step
	m.writes, m.writing, m.written, m.applies, m.applying, m.hurried = nil, nil, nil, nil, false, 0
	m.fetches, m.fetching, m.reads, m.asks = nil, false, simReads{}, nil
	m.fencing = 0
	m.asked, m.tenure, m.sending = nil, nil, map[int]*raftpb.Message{}
	m.problems = map[uint64]error{}
	m.retime()
	store, err := log.NewStore(m.disk, 4<<10)
	if err != nil {
		m.c.check.fail("%s: start: %v", m.name, err)
		return
	}
	c, err := core.New(core.Config{
		ID: m.id, Name: m.name, Heartbeat: m.timing.heartbeat, ElectionTimeout: m.timing.election, MaxClockDrift: m.timing.drift,
		NoCrashEvidence: m.proxied(), ApplyingBytes: cfg.applying, MessageBytes: cfg.message, Guard: m.guard(), Unborn: fresh, Seed: m.c.w.Rand.Uint64(),
	}, store, m.local())
	if err != nil {
		m.c.check.fail("%s: start: %v", m.name, err)
		return
	}
	m.core, m.store = c, store
	m.loop = log.NewLoop(log.LoopConfig{
		Core: c, Store: store, Storage: m.disk, Observer: m, Clock: m.local, Wall: m.wall(), Hand: m.hand, Yield: m.yield, MaxPending: 64 << 20,
	})
	m.disk.Reading = func() {
		if m.stepping {
			m.c.check.fail("%s: the loop waits for the disk to read", m.name)
		}
	}
	m.checks = log.NewCheckpointer(store, cfg.checkpoint, 2*cfg.checkpoint)
	m.checks.Sessions = m.loop.Sessions
	m.sm = new(simMachine)
	if err := m.restore(nil); err != nil {
		m.c.check.fail("%s: restore: %v", m.name, err)
	}
	m.slow, m.quick, m.coolTill = false, 0, 0
	m.role = newRole(roleConfig{
		name: m.name, cluster: "sim", heartbeat: m.timing.heartbeat, electionTimeout: m.timing.election,
		drainTimeout: simDrain, coolDown: simCoolDown, strikes: m.strikes(), fenceTimeout: cfg.fenceTimeout(), preempt: cfg.preempt, arbiter: m.arbiter, clusterID: [16]byte{byte(m.i + 1)}, id: m.id, roster: c.Roster(),
	}, c.Epoch())
	switch {
	case cfg.births && fresh:
		m.awaitBirth()
	case fresh:
		m.post(log.Born{})
	}
	m.post(wake{})
	m.lookAfter()
	m.client()
}

// restore brings the state machine to the newest snapshot in force, which must be the one wanted, if any is.
func (m *simMember) restore(want *raftpb.Snapshot) error {
	have, body, size, err := m.disk.OpenSnapshot()
	if err == nil && want == nil {
		err = m.loop.Restore(have)
	}
	if err != nil || size == 0 {
		return err
	}
	if h, w := have.GetMetadata().GetIndex(), want.GetMetadata().GetIndex(); want != nil && h != w {
		return fmt.Errorf("the newest snapshot is at raft index %d, wanted %d", h, w)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	m.sm.last, m.sm.hash = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	return nil
}

// crash ends the member's process. The others see their connections end, and are refused, mostly, when they dial again.
func (m *simMember) crash() {
	if !m.process.Up() {
		return
	}
	m.die()
	for _, o := range m.c.members {
		if o == m || !o.process.Up() || m.c.cut[m.i][o.i] {
			continue
		}
		dials := !m.c.cut[o.i][m.i] && m.c.w.Chance(0.7)
		o.after(m.c.w.Between(100*time.Microsecond, 5*time.Millisecond), func() {
			o.post(core.Unreachable{ID: m.id})
			if at := o.local(); dials && !m.process.Up() { // refused, if nobody listens again yet
				o.after(m.c.w.Between(0, time.Millisecond), func() { o.post(core.Gone{ID: m.id, At: at}) })
			}
		})
	}
}

// die ends the member's process, and nobody hears of it. What it was writing reaches the disk not at all, in part, or wholly.
func (m *simMember) die() {
	m.endTenure()
	for _, w := range m.writing {
		if part := m.c.w.Rand.IntN(len(w.Entries) + 2); w.Snapshot == nil && part > 0 {
			if part > len(w.Entries) {
				_ = m.disk.Save(w.Hard, w.Entries)
				continue
			}
			_ = m.disk.Save(nil, w.Entries[:part])
		}
		break
	}
	if m.c.cfg.damage > 0 && m.c.w.Chance(m.c.cfg.damage) {
		m.disk.Damage()
	}
	m.process.End()
}

// post puts something into the member's mailbox.
func (m *simMember) post(mail log.Mail) {
	m.loop.Post(mail)
	m.rouse()
}

// rouse lets the loop run soon, if it was woken.
func (m *simMember) rouse() {
	if m.loop.Woken() {
		m.nudge()
	}
}

func (m *simMember) nudge() {
	if !m.scheduled {
		m.scheduled = true
		m.after(m.c.w.Between(5*time.Microsecond, 200*time.Microsecond+m.starved), m.turns)
	}
}

// step is what the loop does between two times that it sleeps.
func (m *simMember) step() {
	var idle time.Duration
	for turns := 0; idle <= 0 || m.loop.Woken(); turns++ {
		var err error
		m.stepping = true
		idle, err = m.loop.Turn()
		m.stepping = false
		if turns == 1000 {
			err = errors.New("the loop does not come to rest")
		}
		if err != nil {
			m.c.check.fail("%s: step: %v", m.name, err)
			m.process.End()
			return
		}
		if idle <= 0 { // else it has done nothing
			m.answer()
		}
	}
	m.scheduled = false
	if m.loop.Ripe() {
		m.c.check.fail("%s: the loop sleeps for %v with a batch that waits for nothing", m.name, idle)
	}
	now := m.local()
	if at := m.role.deadline(now); at != m.wakeAt {
		m.wakeAt = at
		if at != 0 {
			m.wakeRole(at)
		}
	}
	due := m.c.w.Now() + max(0, m.until(now+idle))
	if m.alarm > m.c.w.Now() && m.alarm <= due {
		return
	}
	m.alarm = due
	m.after(due-m.c.w.Now(), m.happens.nudge)
}

// wakeRole wakes the role at a time on the member's clock.
func (m *simMember) wakeRole(at time.Duration) {
	m.after(m.until(at), func() {
		switch {
		case m.wakeAt != at:
		case m.local() < at: // the clock has missed something
			m.wakeRole(at)
		default:
			m.post(wake{})
		}
	})
}

// hand carries out what the core asks for.
func (m *simMember) hand(eff core.Effects) (done []log.Mail) {
	m.c.w.Trace(uint64(m.i), uint64(len(eff.Send)), uint64(len(eff.Writes)), uint64(len(eff.Applies)), uint64(len(eff.Done)), m.sm.last)
	m.writes = append(m.writes, eff.Writes...)
	m.write()
	for _, msg := range eff.Send {
		m.c.carry(m, msg)
	}
	m.applies = append(m.applies, eff.Applies...)
	m.apply()
	m.fetches = append(m.fetches, eff.Fetches...)
	m.fetch()
	return nil
}

// yield is where the goroutines of appenders run while a batch grows, and those that have just done what the loop asked for.
func (m *simMember) yield() {
	if t := m.tenure; t != nil && m.holds(t) && m.c.cfg.appendEvery > 0 && m.c.w.Chance(0.1) {
		m.append(t.token)
	}
	if m.applying && m.applyEvery == 0 && m.c.w.Chance(0.02) {
		m.hurried++
		m.applyNext()
	}
}
