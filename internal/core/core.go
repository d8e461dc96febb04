package core

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/mutant"
)

// Config says who a core is and how fast its clocks run.
type Config struct {
	ID   uint64 // raft id, not 0
	Name string // the member's name, which it puts into the epochs it opens

	Heartbeat       time.Duration // between two rounds of heartbeats
	ElectionTimeout time.Duration // silence after which a leader is replaced; a multiple of Heartbeat
	MaxClockDrift   float64       // by which the rates of two members' clocks may differ, e.g. 0.01
	Guard           time.Duration // how long promises of earlier processes may last ([Guard]); 0: ElectionTimeout

	// NoCrashEvidence: that this member's address refuses connections says nothing. It is told to the voters.
	NoCrashEvidence bool

	Unborn bool   // new, and not to take part before [Born]
	Seed   uint64 // of the jitter of elections
	Logger Logger // of what raft says; nil: nobody reads it

	// Bounds of raft's flow control, in bytes. 0: what they are where memory is ample.
	MessageBytes     uint64 // of entries in one append message: 1 MiB
	InflightBytes    uint64 // to one follower, unanswered: 32 MiB
	UncommittedBytes uint64 // 256 MiB
	ApplyingBytes    uint64 // handed out to be applied, not yet answered: 16 MiB
}

// maxInflightMessages bounds the messages to one follower that are unanswered: more than there are batches under
// way, and few, since raft's other bounds count nothing but payload, which can be the smaller part of what small
// entries take.
const maxInflightMessages = maxInflightBatches + 32

// A Core is one member's replicated log. What it is told in the same order at the same times, it answers with the same
// effects. It is owned by one goroutine.
type Core struct {
	cfg     Config
	node    *raft.RawNode
	store   Source
	shelf   shelf // store, as raft sees it
	members members
	jitter  *rand.Rand
	eff     Effects
	events  []Event // room for what Drive steps it with

	// What was last seen of raft.
	leader, term uint64
	state        raft.StateType

	// Follower: when to campaign, and what is owed to others.
	electAt time.Duration
	heardAt time.Duration // when the leader last showed that it is alive
	hunts   int           // quick campaigns left, to replace a dead leader
	owed    voter
	forced  release // that was received with TimeoutNow

	// Leader: heartbeats and the lease.
	beatAt       time.Duration
	beatenAt     time.Duration
	lease        lease
	transferring time.Duration // until when a transfer may be under way; 0: none
	progress     progress

	starving starvation

	pos        Position // committed up to here
	pinned     uint64   // the log behind this raft index is needed (pin.go)
	installing bool     // a leader's checkpoint is being written or restored
	next       uint64   // leader: index the next proposed record gets
	open       []*Batch // proposed, fate unknown, in log order
	held       int      // of open: not yet committed

	heldBytes             int           // of those
	partial               int           // of those: not full
	writeTime, commitTime time.Duration // of this member's writes and of its batches, on average

	diskOut   bool          // takes no records
	unborn    bool          // takes no part: hears nobody, and does not campaign
	writes    []*Write      // not yet durable, in order
	slowest   peak          // of the waits for the disk
	writtenAt time.Duration // when a write was last answered, or the first of these was handed out
	applies   int           // not yet answered
	appliedAt time.Duration // when an apply was last answered, or the first of these was handed out
}

type release struct {
	term  uint64
	stamp int64
}

// New builds a core on what a member has recovered. now is the time of its start.
func New(cfg Config, store Source, now time.Duration) (c *Core, err error) {
	defer Catch("start raft", &err)
	snap, err := store.Snapshot()
	if err != nil {
		return nil, err
	}
	cp, err := ParseCheckpoint(snap)
	if err != nil {
		return nil, err
	}
	cfg.InflightBytes = cmp.Or(cfg.InflightBytes, 32<<20)
	c = &Core{
		cfg: cfg, store: store, shelf: shelf{Source: store, fetchBytes: cfg.InflightBytes / fetchPart},
		members: membersOf(snap, cp), pinned: NothingPinned,
		jitter: rand.New(rand.NewPCG(cfg.Seed, cfg.ID)), pos: cp.Position, beatAt: now,
	}
	c.node, err = raft.NewRawNode(&raft.Config{
		ID:                        cfg.ID,
		ElectionTick:              c.electionTicks(),
		HeartbeatTick:             1,
		Storage:                   &c.shelf,
		Applied:                   cp.Position.Raft,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             cmp.Or(cfg.MessageBytes, 1<<20),
		MaxCommittedSizePerReady:  cmp.Or(cfg.ApplyingBytes, 16<<20),
		MaxUncommittedEntriesSize: cmp.Or(cfg.UncommittedBytes, 256<<20),
		MaxInflightMsgs:           maxInflightMessages,
		MaxInflightBytes:          cfg.InflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		DisableProposalForwarding: true,
		Logger:                    raftLogger{cfg.Logger},
	})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	c.look(now)
	switch {
	case len(c.members.voters.all()) == 1:
		c.electAt = now
	case cfg.Unborn:
		c.unborn, c.electAt = true, now+never
	case mutant.On(mutant.NoRestartGuard):
		c.electSoon(now)
	default:
		guard := max(cfg.Guard, cfg.ElectionTimeout)
		c.owed.guard = now + guard
		c.electAt = now + guard + c.random(cfg.ElectionTimeout)
	}
	return c, nil
}

// never is a time that does not come.
const never = 100 * 365 * 24 * time.Hour

// electSoon is how a member begins that cannot have promised anything.
func (c *Core) electSoon(now time.Duration) {
	c.electAt = now + c.cfg.Heartbeat + c.random(c.cfg.ElectionTimeout/2)
}

// electionTicks is how many ticks raft takes for an election timeout.
func (c *Core) electionTicks() int { return max(2, int(c.cfg.ElectionTimeout/c.cfg.Heartbeat)) }

// Epoch returns the epoch in force after what is committed here, the zero Epoch before the first.
func (c *Core) Epoch() Epoch { return c.pos.Epoch() }

// Heard returns when the leader last showed that it is alive, on this member's clock.
func (c *Core) Heard() time.Duration { return c.heardAt }

// LeaseUntil is until when, on this member's clock, nobody else can be elected, 0 without a lease.
func (c *Core) LeaseUntil() time.Duration { return c.lease.until }

// Installing reports whether a leader's checkpoint is being written or restored. Another must wait.
func (c *Core) Installing() bool { return c.installing }

// Pinned returns the raft index behind which the log is needed by members that catch up.
func (c *Core) Pinned() uint64 { return c.pinned }

// Deadline is when the core wants its next Tick.
func (c *Core) Deadline() time.Duration {
	if c.state == raft.StateLeader {
		return min(c.beatAt, c.starving.wakeAt)
	}
	return min(c.electAt, c.starving.wakeAt)
}

// Room reports whether a batch of the given size should be proposed now or had better wait and grow.
// While a batch is under way the next one gathers, which makes the fewest and largest batches. Full
// ones need not wait, up to a bound, and others need not wait for them; nor does any, while the disk is
// idle, if it is the network that takes the time. Where a batch would be refused there is always room.
func (c *Core) Room(size int) bool {
	slow := len(c.writes) == 0 && c.commitTime > slowNetwork*c.writeTime
	switch {
	case c.held == 0 || c.state != raft.StateLeader:
		return true
	case c.held >= maxInflightBatches:
		return false
	case size >= FullBatch:
		return slow || c.heldBytes < maxInflightSize
	}
	return slow || c.partial == 0
}

// Patience is how long a batch that could be proposed may wait for more records, as long as they come.
func (c *Core) Patience() time.Duration { return min(c.commitTime/2, maxPatience) }

const maxPatience = 5 * time.Millisecond

// FullBatch is the size in bytes from which a batch does not wait for more records.
const FullBatch = 256 << 10

// Bounds of the batches that are proposed and not committed: the more bytes, the longer a small record
// waits behind large ones. Where the network is slow, only their number counts.
const (
	maxInflightBatches = 64
	maxInflightSize    = 1 << 20
)

// slowNetwork is how many times longer a commit takes than a write of this member's disk where the
// network is what is waited for.
const slowNetwork = 4

// smooth moves an average a little towards what was just measured.
func smooth(average *time.Duration, measured time.Duration) {
	*average += (measured - *average) / 8
}

// Step tells the core what has happened, in order, and returns what is to be done. The effects are
// valid until the next Step. After an error the core is not to be stepped again.
func (c *Core) Step(now time.Duration, events ...Event) (eff Effects, err error) {
	defer Catch("raft", &err)
	c.eff = Effects{}
	for _, ev := range events {
		if err := c.handle(now, ev); err != nil {
			return c.eff, err
		}
		c.look(now)
	}
	for c.node.HasReady() {
		rd := c.node.Ready()
		if len(rd.Messages) == 0 {
			break // what is left to apply is being fetched
		}
		if err := c.ready(now, rd); err != nil {
			return c.eff, err
		}
	}
	c.renew(now)
	c.tidy()
	return c.eff, nil
}

// handle steps one event. The core has looked at raft after the one before.
func (c *Core) handle(now time.Duration, ev Event) error {
	switch ev := ev.(type) {
	case Tick:
		c.awake(now)
		c.tick(now)
	case Hurry:
		c.hurry(now)
	case Lapsed:
		c.lapsed(now)
	case Receive:
		c.receive(now, ev)
	case Born:
		if c.unborn {
			c.unborn = false
			c.electSoon(now)
		}
	case Propose:
		c.propose(now, ev.Batch)
	case StartEpoch:
		c.startEpoch(ev)
	case Written:
		return c.written(now, ev.Write)
	case Writing:
		c.writtenAt = now
	case Doubt:
		c.doubt(now, ev.By)
	case Fetched:
		return c.fetched(ev)
	case Applied:
		c.applied(now, ev.Apply)
	case Transfer:
		c.transfer(now, ev.To)
	case AskTransfer:
		c.node.TransferLeader(c.cfg.ID)
	case DiskOut:
		c.diskOut = ev.Out
	case Unreachable:
		c.node.ReportUnreachable(ev.ID)
	case Gone:
		c.gone(now, ev)
	case SnapshotSent:
		c.snapshotSent(ev)
	}
	return nil
}

// ready takes one batch of raft's output apart.
func (c *Core) ready(now time.Duration, rd raft.Ready) error {
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			c.write(now, m)
		case raft.LocalApplyThread:
			if err := c.commit(now, m); err != nil {
				return err
			}
		default:
			if !c.sound(m) {
				continue // as if it were lost; raft sends it again
			}
			if m.GetType() == raftpb.MsgSnap {
				snap, err := ForOthers(m.GetSnapshot())
				if err != nil {
					return err
				}
				m.Snapshot = snap
				c.pinLog(now)
			}
			c.send(now, m)
		}
	}
	return nil
}

// sound reports whether a message has no entries but sound ones. Those that were committed before are in question: others have
// had them in their hands since they were proposed, and what they have done to them must not reach another member. What is
// damaged is read from disk again, beside the core.
func (c *Core) sound(m *raftpb.Message) bool {
	for _, e := range m.GetEntries() {
		if e.GetIndex() > c.pos.Raft {
			return true
		}
		if damage := Verify(e, "before they are sent to another member"); damage != nil {
			c.shelf.repair(damage)
			c.node.ReportUnreachable(m.GetTo())
			return false
		}
	}
	return true
}

// send finishes a message with its stamp and hands it out.
func (c *Core) send(now time.Duration, m *raftpb.Message) {
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		if c.state != raft.StateLeader {
			return // it has just given way
		}
		m.Context = nil
		if c.transferring == 0 && c.lease.stamp > 0 {
			m.Context = c.beat()
		}
	case raftpb.MsgHeartbeatResp:
		if stamp := stampOf(m); stamp > 0 {
			m.Context = vow{stamp, c.cfg.ElectionTimeout, c.cfg.MaxClockDrift, now < c.owed.guard, c.starved()}.encode()
		}
	case raftpb.MsgTimeoutNow:
		m.Context = withStamp(nil, c.lease.released)
	case raftpb.MsgVote:
		if isForced(m) && c.forced.term+1 == m.GetTerm() {
			m.Context = withStamp(campaignTransfer, c.forced.stamp)
		}
	}
	c.eff.Send = append(c.eff.Send, m)
}

// write hands out what raft wants to be durable.
func (c *Core) write(now time.Duration, m *raftpb.Message) {
	w := &Write{Entries: m.GetEntries(), Snapshot: m.GetSnapshot(), issued: now}
	for _, e := range w.Entries {
		w.Bytes += len(e.GetData())
	}
	if w.Snapshot != nil {
		c.installing = true
	}
	if len(w.Entries) > 0 {
		c.shelf.overwrite(w.Entries[0].GetIndex())
	}
	if m.Term != nil {
		w.Hard = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	for _, r := range m.GetResponses() {
		switch {
		case r.GetTo() == c.cfg.ID:
			w.responses = append(w.responses, r)
		case mutant.On(mutant.SendBeforePersist):
			c.send(now, r)
		default:
			w.Send = append(w.Send, r)
		}
		if r.GetType() == raftpb.MsgVoteResp && !r.GetReject() && r.GetTo() != c.cfg.ID {
			c.deferElection(now) // at once: a vote that is being written has been cast
			c.hunts = 0
		}
	}
	if mutant.On(mutant.VoteNotPersisted) && w.Hard != nil {
		hard, _, _ := c.store.InitialState()
		w.Hard = &raftpb.HardState{Term: hard.Term, Vote: hard.Vote, Commit: m.Commit}
	}
	if len(c.writes) == 0 {
		c.writtenAt = now
	}
	c.writes = append(c.writes, w)
	c.eff.Writes = append(c.eff.Writes, w)
}

// written steps what had to wait for a write.
func (c *Core) written(now time.Duration, w *Write) error {
	if len(c.writes) == 0 || c.writes[0] != w {
		return errors.New("baton: writes answered out of order") // a driver's bug
	}
	c.writes[0], c.writes = nil, c.writes[1:]
	smooth(&c.writeTime, now-w.issued)
	c.slowest.note(now, now-c.writtenAt, slowestFor*c.cfg.ElectionTimeout)
	c.writtenAt = now
	for _, m := range w.responses {
		if err := c.node.Step(m); err != nil {
			return fmt.Errorf("raft: own response: %w", err)
		}
	}
	if w.Snapshot != nil {
		return c.install(now, w.Snapshot)
	}
	return nil
}

// look notices what has changed in raft's view of who leads.
//
// Invariant: what was last seen is what raft believes, before each event and at the end of a step. So it is called after
// each event, and where one event does several things between them.
func (c *Core) look(now time.Duration) {
	st := c.node.BasicStatus()
	if st.Lead == c.leader && st.HardState.GetTerm() == c.term && st.RaftState == c.state {
		return
	}
	was := c.state == raft.StateLeader
	if term := st.HardState.GetTerm(); term != c.term || st.RaftState != c.state {
		// A new term, or a new role in it: nothing of an old lease counts.
		c.lease.forget()
		c.transferring = 0
		if st.RaftState == raft.StateLeader && !was {
			c.beatAt = 0
		}
	}
	c.leader, c.term, c.state = st.Lead, st.HardState.GetTerm(), st.RaftState
	c.endProgress()
	if c.state != raft.StateLeader {
		if was {
			c.deferElection(now)
		}
		c.pinned = NothingPinned
		c.setLease(0)
		if mutant.On(mutant.StaleFate) && was {
			for _, b := range c.open {
				c.eff.Done = append(c.eff.Done, Done{b, ErrNotActive})
			}
			c.open, c.held, c.heldBytes, c.partial = nil, 0, 0, 0
		}
	}
	c.eff.Changes = append(c.eff.Changes, Leadership{Leader: c.leader, Term: c.term, Leading: c.state == raft.StateLeader})
}
