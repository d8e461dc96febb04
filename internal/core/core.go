package core

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/raft/v3"
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
	cfg    Config
	node   *raft.RawNode
	source Source
	shelf  shelf // the source, as raft sees it

	seen              // of raft, when it was last looked at
	pos      Position // committed up to here
	members  members
	chain    succession // of leaders
	changing changing   // the change of the members that is under way, if this member leads

	voter     voter      // waits for a leader
	promises  promises   // what is owed to others
	lease     lease      // what others owe to this member, if it leads
	pace      pace       // how fast batches leave
	fate      fate       // what becomes of them
	stall     stall      // how the disk and the state machine get on
	progress  progress   // how the entries get on, if this member leads
	lately    lately     // how far they were, if this member leads
	starving  starvation // how this member gets to run
	snapshots snapshots
	yielding  yielding         // how fast those are sent
	reads     reads            // asked of this member
	tidings   tidings          // of what is committed, if this member leads
	told      Heard            // by the leader
	flows     map[uint64]*flow // old entries to members that lag, if this member leads
	probe     probe            // of what appends take without those
	ahead     time.Duration    // the clock on the wall, of this member's

	eff    Effects // of this step
	events []Event // room for what Drive steps it with
}

// seen is what raft said of who leads when it was last looked at.
type seen struct {
	leader, term uint64
	state        raft.StateType
}

// New builds a core on what a member has recovered. now is the time of its start.
func New(cfg Config, source Source, now time.Duration) (c *Core, err error) {
	defer Catch("start raft", &err)
	snap, err := source.Snapshot()
	if err != nil {
		return nil, err
	}
	cp, err := ParseCheckpoint(snap)
	if err != nil {
		return nil, err
	}
	last, err := source.LastIndex()
	if err != nil {
		return nil, err
	}
	cfg.MessageBytes, cfg.InflightBytes = cmp.Or(cfg.MessageBytes, 1<<20), cmp.Or(cfg.InflightBytes, 32<<20)
	clocks := timing{cfg.Heartbeat, cfg.ElectionTimeout, cfg.MaxClockDrift}
	c = &Core{
		cfg: cfg, source: source, shelf: newShelf(source, min(cfg.MessageBytes, PieceBytes), cp.Position.Raft, last),
		pos: cp.Position, members: membersOf(cp.Position.Roster),
		voter: voter{timing: clocks, jitter: rand.New(rand.NewPCG(cfg.Seed, cfg.ID))},
		lease: lease{timing: clocks, beatAt: now}, stall: stall{timing: clocks}, progress: progress{timing: clocks},
		starving: starvation{timing: clocks}, snapshots: snapshots{pinned: NothingPinned},
	}
	c.node, err = raft.NewRawNode(&raft.Config{
		ID:                        cfg.ID,
		ElectionTick:              c.electionTicks(),
		HeartbeatTick:             1,
		Storage:                   &c.shelf,
		Applied:                   cp.Position.Raft,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             cfg.MessageBytes,
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
	c.voter.arbiter = c.members.arbiter(cfg.ID)
	c.look(now)
	switch {
	case len(c.members.voters.all()) == 1 && c.members.votes(cfg.ID):
		c.voter.electAt = now
	case cfg.Unborn:
		c.voter.unborn, c.voter.electAt = true, now+never
	default:
		c.promises.guard = now + max(cfg.Guard, cfg.ElectionTimeout)
		c.voter.electAt = c.promises.guard + c.voter.turn(c.rank())
	}
	return c, nil
}

// electionTicks is how many ticks raft takes for an election timeout.
func (c *Core) electionTicks() int { return max(2, int(c.cfg.ElectionTimeout/c.cfg.Heartbeat)) }

// Epoch returns the epoch in force after what is committed here, the zero Epoch before the first.
func (c *Core) Epoch() Epoch { return c.pos.Epoch() }

// Roster returns the members after what is committed here.
func (c *Core) Roster() Roster { return c.pos.Roster }

// Heard returns when the leader last showed that it is alive, on this member's clock.
func (c *Core) Heard() time.Duration { return c.voter.heardAt }

// LeaseUntil is until when, on this member's clock, nobody else can be elected, 0 without a lease.
func (c *Core) LeaseUntil() time.Duration { return c.lease.until }

// Installing reports whether a leader's checkpoint is being written or restored. Another must wait.
func (c *Core) Installing() bool { return c.snapshots.installing }

// Pinned returns the raft index behind which the log is needed by members that catch up.
func (c *Core) Pinned() uint64 { return c.snapshots.pinned }

// Deadline is when the core wants its next Tick.
func (c *Core) Deadline() time.Duration {
	if c.state == raft.StateLeader {
		due := min(c.lease.beatAt, c.starving.wakeAt, c.shelf.releaseAt, c.tidings.due())
		if c.pace.held {
			due = min(due, c.pace.heldTill)
		}
		return due
	}
	return min(c.voter.electAt, c.starving.wakeAt)
}

// Room reports whether a batch of the given size should be proposed now or had better wait and grow (pace.go). Where a batch
// would be refused there is always room.
func (c *Core) Room(size int) bool {
	return c.state != raft.StateLeader || c.pace.room(size, c.stall.idle())
}

// Underway is the size in bytes of the batches that were proposed and are not committed.
func (c *Core) Underway() int { return c.pace.bytes }

// Heartbeat is the configured interval.
func (c *Core) Heartbeat() time.Duration { return c.cfg.Heartbeat }

// Patience is how long a batch that could be proposed may wait for more records, as long as they come.
func (c *Core) Patience() time.Duration { return c.pace.patience() }

// Step tells the core what has happened, in order, and returns what is to be done. The effects are
// valid until the next Step. After an error the core is not to be stepped again.
func (c *Core) Step(now time.Duration, events ...Event) (Effects, error) {
	c.eff.reset()
	err := c.step(now, events)
	return c.eff, err
}

// resume lets nothing that was not seen while the process did not run pass for something that did not happen.
func (c *Core) resume(now time.Duration) {
	if length := c.starving.resume(now); length > 0 {
		c.stall.resume(length)
	}
}

// step adds to the effects.
func (c *Core) step(now time.Duration, events []Event) (err error) {
	c.resume(now)
	defer Catch("raft", &err)
	for _, ev := range events {
		if err := c.handle(now, ev); err != nil {
			return err
		}
		c.look(now)
	}
	c.release(now)
	c.unhold(now)
	if err := c.drain(now); err != nil {
		return err
	}
	if now >= c.tidings.due() {
		c.tell()
	}
	c.renew(now)
	c.answerReads(now)
	c.tidy()
	return nil
}

// handle steps one event. The core has looked at raft after the one before.
func (c *Core) handle(now time.Duration, ev Event) error {
	switch ev := ev.(type) {
	case Tick:
		calm, _ := c.moment(now, min(calmBeats*c.cfg.Heartbeat, c.cfg.ElectionTimeout/2))
		c.starving.awake(now, c.stall.busy(), calm)
		c.tick(now)
	case Hurry:
		c.hurry(now)
	case Lapsed:
		if c.state == raft.StateLeader {
			c.starving.lapsed(now)
		}
	case Receive:
		c.receive(now, ev)
	case Born:
		if c.voter.unborn {
			c.voter.unborn = false
			c.voter.soon(now, c.rank())
		}
	case Propose:
		c.propose(now, ev.Batch)
	case Reconfigure:
		return c.reconfigure(now, ev.Reconfiguration)
	case MoveCursors:
		c.moveCursors(ev)
	case Read:
		c.read(now, ev)
	case StartEpoch:
		c.startEpoch(ev)
	case Written:
		return c.written(now, ev)
	case Writing:
		c.stall.writing(now)
	case Tell:
		c.tidings.until = now
	case Doubt:
		c.doubt(now, ev.By)
	case Fetched:
		return c.fetched(ev)
	case Applied:
		c.applied(now, ev.Apply)
	case Transfer:
		c.transfer(now, ev.To)
	case KeepLead:
		c.keepLead(now)
	case AskTransfer:
		c.node.TransferLeader(c.cfg.ID)
	case DiskOut:
		c.stall.full = ev.Out
	case Want:
		c.snapshots.wants = ev.From
	case Reluctant:
		c.voter.reluctant = ev.Yes
	case Unreachable:
		c.unreachable(ev)
	case Gone:
		c.gone(now, ev)
	case SnapshotSent:
		c.snapshotSent(ev)
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
		c.lately = lately{}
		if st.RaftState == raft.StateLeader && !was {
			c.lease.beatAt = 0
		}
	}
	if was {
		c.endReads(ErrNotLeader) // of this leadership
		c.tidings.forget()
	}
	if st.RaftState == raft.StateCandidate {
		c.voter.polled(now, len(c.members.voters.all()))
	}
	c.voter.deaf = false
	c.seen = seen{leader: st.Lead, term: st.HardState.GetTerm(), state: st.RaftState}
	c.progress.end(c.leader != 0 && c.leader != c.cfg.ID)
	c.report(c.progress.take())
	if c.state != raft.StateLeader {
		if was {
			c.wait(now)
		}
		c.snapshots.stepDown()
		c.setLease(0)
	}
	l := Leadership{Leader: c.leader, Term: c.term, Leading: c.state == raft.StateLeader}
	if l.Leading {
		l.After = c.chain.present
	}
	c.chain.saw(Reign{c.leader, c.term})
	c.change(l)
}

// change tells the observer of a change.
func (c *Core) change(ch Change) { c.eff.Changes = append(c.eff.Changes, ch) }

// report tells the observer of problems.
func (c *Core) report(problems []Problem) {
	for _, p := range problems {
		c.change(p)
	}
}
