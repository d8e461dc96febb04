package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The scripts in testdata/core are played by whole clusters of cores on one clock. They are there to be read: each shows one part of
// the protocol, with all that the members say of it. What they would wait for is done by the stage below: messages arrive at
// once and in order, writes and applies end at once, unless the script says otherwise. Run with -rewrite after a change
// that is meant, and read what has changed.
//
//	cluster members=3 [election=500ms heartbeat=50ms seed=3] [opens]   new members a, b, c …, born at time 0; opens: who leads opens its epoch at once
//	run for=1s [until=leader]   lets the time pass: each member is woken when it wants to be
//	epoch by=a            lets a leader open its epoch
//	append to=a epoch=1 records=(x,y)
//	transfer from=a to=b
//	keep of=a             a calls the transfer off
//	late type=MsgTimeoutNow   the last message of a type arrives, perhaps again
//	lost from=a to=b      a learns that messages to b were lost
//	gone who=a told=(b,c) [ago=100ms]   crash evidence: the others learn that the process of a had ended by then
//	crash who=a           its process ends; what it had written stays
//	restart who=a [guard=1s]
//	cut from=a to=b [type=MsgApp] [one-way]   messages are lost from now on
//	heal                  no more
//	disk of=a does=(hangs|works|is-full|has-room)
//	applies of=a do=(wait|return)   the state machine of a does not return from Apply until then
//	to-disk of=a          what a holds is on disk only, and must be fetched
//	checkpoint of=a       a makes a checkpoint, and cuts its log behind it
//	mode of=a is=sleeps   nobody wakes a (or wakes, again)
//	doubt of=a by=1s      the wall clock of a has got ahead of the lease's
//	newcomer name=d       a process that has the first list of the members, and is not on it
//	change by=a [put=(d-observer,e-voter)] [remove=(b)]   asks the leader for other members
//	load of=a commit=10ms gap=1ms   from now on a takes its batches to be committed in such a time, and to follow one another so
//	tell to=a             somebody waits for what a knows to be committed
//	show of=a             what a believes
//
// Every command may have show=(messages,heartbeats,writes), to show those, too.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/core", func(t *testing.T, path string) {
		var s *stage
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "cluster" {
				s = newStage(t, d)
				return s.flush()
			}
			s.play(d)
			return s.flush()
		})
	})
}

// A stage is a cluster of cores, and all that is around them.
type stage struct {
	t      *testing.T
	now    time.Duration
	actors []*actor
	first  []Member // of the cluster
	cuts   []cutWire
	net    []*raftpb.Message
	last   map[string]*raftpb.Message // of each type that was on its way
	shows  map[string]bool
	opens  bool // leaders open their epochs at once
	out    strings.Builder
}

const curtain = time.Hour // the time at which the scripts begin

type cutWire struct {
	from, to uint64
	what     string // type of message, "": all
}

func newStage(t *testing.T, d *datadriven.TestData) *stage {
	members, seed, election, heartbeat := 3, uint64(3), "500ms", "50ms"
	d.MaybeScanArgs(t, "members", &members)
	d.MaybeScanArgs(t, "seed", &seed)
	d.MaybeScanArgs(t, "election", &election)
	d.MaybeScanArgs(t, "heartbeat", &heartbeat)
	s := &stage{t: t, now: curtain, last: map[string]*raftpb.Message{}, opens: d.HasArg("opens")}
	var list []Member
	for i := range members {
		list = append(list, Member{ID: uint64(i + 1), Name: string(rune('a' + i))})
	}
	s.first = list
	for _, m := range list {
		a := &actor{stage: s, held: newMemory(t, Boot(list), 1000, nil), cfg: Config{ID: m.ID, Name: m.Name, Heartbeat: s.duration(heartbeat),
			ElectionTimeout: s.duration(election), MaxClockDrift: 0.01, Seed: seed, Unborn: members > 1}}
		s.actors = append(s.actors, a)
		a.start()
		if members > 1 {
			a.step(Born{})
		}
	}
	return s
}

func (s *stage) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// say writes a line of the script's answer.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(&s.out, "%7s  %s\n", s.at(s.now), fmt.Sprintf(format, args...))
}

// at is a time as scripts show it.
func (s *stage) at(t time.Duration) string {
	switch {
	case t == 0:
		return "never"
	case t > curtain+never/2:
		return "ever"
	}
	return (t - curtain).Round(time.Millisecond).String()
}

func (s *stage) flush() string {
	out := s.out.String()
	s.out.Reset()
	if out == "" {
		return "ok\n"
	}
	return out
}

func (s *stage) name(id uint64) string {
	for _, a := range s.actors {
		if a.cfg.ID == id {
			return a.cfg.Name
		}
	}
	return "nobody"
}

func (s *stage) actor(name string) *actor {
	for _, a := range s.actors {
		if a.cfg.Name == name {
			return a
		}
	}
	s.t.Fatalf("there is no member %q", name)
	return nil
}

func (s *stage) arg(d *datadriven.TestData, key string) string {
	var v string
	d.MaybeScanArgs(s.t, key, &v)
	return v
}

// play does what one command of a script says.
func (s *stage) play(d *datadriven.TestData) {
	who := func(key string) *actor { return s.actor(s.arg(d, key)) }
	s.shows = map[string]bool{}
	for _, arg := range d.CmdArgs {
		if arg.Key == "show" {
			for _, v := range arg.Vals {
				s.shows[v] = true
			}
		}
	}
	switch d.Cmd {
	case "run":
		s.run(d)
	case "epoch":
		who("by").step(StartEpoch{ClusterID: [16]byte{1}})
	case "append":
		var epoch uint64
		d.ScanArgs(s.t, "epoch", &epoch)
		b := MakeBatch(epoch, nil)
		for _, arg := range d.CmdArgs {
			if arg.Key == "records" {
				for _, r := range arg.Vals {
					b.Add([]byte(r))
				}
			}
		}
		who("to").step(Propose{Batch: &b})
	case "transfer":
		who("from").step(Transfer{To: who("to").cfg.ID})
	case "keep":
		who("of").step(KeepLead{})
	case "late":
		m := s.last[s.arg(d, "type")]
		s.say("%s", s.describe(m))
		s.actor(s.name(m.GetTo())).step(Receive{Message: proto.Clone(m).(*raftpb.Message), At: s.now})
	case "lost":
		who("from").step(Unreachable{ID: who("to").cfg.ID, Dropped: d.HasArg("dropped")})
	case "gone":
		for _, arg := range d.CmdArgs {
			if arg.Key == "told" {
				for _, told := range arg.Vals {
					at := s.now
					if ago := s.arg(d, "ago"); ago != "" {
						at -= s.duration(ago)
					}
					s.actor(told).step(Gone{ID: who("who").cfg.ID, At: at})
				}
			}
		}
	case "crash":
		a := who("who")
		a.core, a.writes, a.applies = nil, nil, nil
	case "restart":
		a := who("who")
		a.cfg.Unborn = false
		if guard := s.arg(d, "guard"); guard != "" {
			a.cfg.Guard = s.duration(guard)
		}
		a.start()
	case "cut":
		from, to, what := who("from").cfg.ID, who("to").cfg.ID, s.arg(d, "type")
		s.cuts = append(s.cuts, cutWire{from, to, what})
		if !d.HasArg("one-way") {
			s.cuts = append(s.cuts, cutWire{to, from, what})
		}
	case "heal":
		s.cuts = nil
	case "disk":
		switch a, does := who("of"), s.arg(d, "does"); does {
		case "hangs", "works":
			a.hangs = does == "hangs"
		case "is-full", "has-room":
			a.step(DiskOut{Out: does == "is-full"})
		default:
			s.t.Fatalf("a disk cannot %q", does)
		}
	case "applies":
		a := who("of")
		a.slow = s.arg(d, "do") == "wait"
		a.step(Tick{})
	case "to-disk":
		a := who("of")
		last, _ := a.held.LastIndex()
		a.held.recent, a.held.keep = last+1, 0
	case "checkpoint":
		who("of").checkpoint()
	case "want":
		a := who("of")
		a.step(Want{From: a.held.snap.GetMetadata().GetIndex() + 1})
	case "mode":
		who("of").sleeps = s.arg(d, "is") == "sleeps"
	case "newcomer":
		a := &actor{stage: s, held: newMemory(s.t, Boot(s.first), 1000, nil), cfg: s.actors[0].cfg}
		a.cfg.ID, a.cfg.Name, a.cfg.Unborn = uint64(len(s.actors)+1), s.arg(d, "name"), false
		s.actors = append(s.actors, a)
		a.start()
	case "change":
		by := who("by")
		c := MemberChange{Base: by.core.pos.Roster.Version}
		for _, arg := range d.CmdArgs {
			for _, v := range arg.Vals {
				name, kind, _ := strings.Cut(v, "-")
				switch arg.Key {
				case "put":
					m := Member{ID: s.actor(name).cfg.ID, Name: name}
					switch kind {
					case "observer":
						m.Kind = KindObserver
					case "arbiter":
						m.Kind = KindArbiter
					}
					c.Put = append(c.Put, m)
				case "remove":
					c.Remove = append(c.Remove, s.actor(name).cfg.ID)
				}
			}
		}
		by.step(Reconfigure{&Reconfiguration{Change: c}})
	case "doubt":
		who("of").step(Doubt{By: s.duration(s.arg(d, "by"))})
	case "load":
		p := &who("of").core.pace
		p.commitTime, p.gap = s.duration(s.arg(d, "commit")), s.duration(s.arg(d, "gap"))
	case "tell":
		who("to").step(Tell{})
	case "show":
		who("of").show()
	default:
		s.t.Fatalf("%s: what is %q?", d.Pos, d.Cmd)
	}
	s.settle()
}

// run lets time pass.
func (s *stage) run(d *datadriven.TestData) {
	leads := func(a *actor) bool { return a.core != nil && a.core.state == raft.StateLeader }
	var old []*actor
	for _, a := range s.actors {
		if leads(a) {
			old = append(old, a)
		}
	}
	end, untilLeader := s.now+s.duration(s.arg(d, "for")), s.arg(d, "until") == "leader"
	for {
		var next *actor
		for _, a := range s.actors {
			if a.core != nil && !a.sleeps && (next == nil || a.core.Deadline() < next.core.Deadline()) {
				next = a
			}
		}
		if next == nil || next.core.Deadline() > end {
			s.now = end
			return
		}
		s.now = max(s.now, next.core.Deadline())
		next.step(Tick{})
		s.settle()
		if untilLeader && slices.ContainsFunc(s.actors, func(a *actor) bool { return leads(a) && !slices.Contains(old, a) }) {
			return
		}
	}
}

// settle lets all messages arrive and all work end that does not hang.
func (s *stage) settle() {
	for busy := true; busy; {
		busy = false
		for _, a := range s.actors {
			if a.core != nil && !a.hangs && len(a.writes) > 0 {
				w := a.writes[0]
				a.writes = a.writes[1:]
				a.write(w)
				busy = true
			}
		}
		if len(s.net) > 0 {
			m := s.net[0]
			s.net = s.net[1:]
			s.deliver(m)
			busy = true
		}
	}
}

func (s *stage) lost(m *raftpb.Message) bool {
	return slices.ContainsFunc(s.cuts, func(c cutWire) bool {
		return c.from == m.GetFrom() && c.to == m.GetTo() && (c.what == "" || c.what == m.GetType().String())
	})
}

func (s *stage) deliver(m *raftpb.Message) {
	to, lost := s.actor(s.name(m.GetTo())), s.lost(m)
	s.last[m.GetType().String()] = m
	lost = lost || to.core == nil
	beat := m.GetType() == raftpb.MsgHeartbeat || m.GetType() == raftpb.MsgHeartbeatResp
	if s.shows["messages"] && !beat || s.shows["heartbeats"] && beat {
		text := s.describe(m)
		if lost {
			text += " (lost)"
		}
		s.say("%s", text)
	}
	if m.GetType() == raftpb.MsgSnap {
		if from := s.actor(s.name(m.GetFrom())); from.core != nil {
			from.step(SnapshotSent{Message: m, OK: !lost})
		}
	}
	if at := m.GetSnapshot().GetMetadata().GetIndex(); !lost && m.GetType() == raftpb.MsgSnap && to.core.snapshots.wants > 0 && at <= to.core.pos.Raft {
		s.say("%s: takes the checkpoint at %d as its own", to.cfg.Name, at)
		to.step(Want{})
		return
	}
	if !lost {
		to.step(Receive{Message: proto.Clone(m).(*raftpb.Message), At: s.now})
	}
}

// describe shows a message to people.
func (s *stage) describe(m *raftpb.Message) string {
	text := fmt.Sprintf("%s→%s %s term %d", s.name(m.GetFrom()), s.name(m.GetTo()), strings.TrimPrefix(m.GetType().String(), "Msg"), m.GetTerm())
	switch m.GetType() {
	case raftpb.MsgApp:
		text += fmt.Sprintf(", %s after %d, committed %d", s.entries(m.GetEntries()), m.GetIndex(), m.GetCommit())
	case raftpb.MsgAppResp:
		text += fmt.Sprintf(", has %d", m.GetIndex())
	case raftpb.MsgSnap:
		text += fmt.Sprintf(", checkpoint at %d", m.GetSnapshot().GetMetadata().GetIndex())
	case raftpb.MsgVote, raftpb.MsgPreVote:
		text += fmt.Sprintf(", log ends at %d of term %d", m.GetIndex(), m.GetLogTerm())
		if isForced(m) {
			text += fmt.Sprintf(", forced, released up to %s", s.at(time.Duration(stampOf(m))))
		}
	case raftpb.MsgHeartbeat:
		if stamp := stampOf(m); stamp != 0 {
			text += fmt.Sprintf(", stamp %s", s.at(time.Duration(stamp)))
		} else {
			text += ", no stamp"
		}
	case raftpb.MsgHeartbeatResp:
		if v := vowOf(m); v.stamp != 0 {
			text += fmt.Sprintf(", echoes %s, promises %v", s.at(time.Duration(v.stamp)), v.length)
			if v.guarded {
				text += ", guarded"
			}
		}
	case raftpb.MsgTimeoutNow:
		text += fmt.Sprintf(", released up to %s", s.at(time.Duration(stampOf(m))))
	}
	if m.GetReject() {
		text += ", refused"
	}
	return text
}

// entries shows entries to people.
func (s *stage) entries(ents []*raftpb.Entry) string {
	if len(ents) == 0 {
		return "nothing"
	}
	if len(ents) > 4 {
		return fmt.Sprintf("entries %d to %d", ents[0].GetIndex(), ents[len(ents)-1].GetIndex())
	}
	var out []string
	for _, e := range ents {
		what := "empty"
		switch data := e.GetData(); {
		case e.GetType() == raftpb.EntryConfChangeV2 && len(data) == 0:
			what = "the new members alone"
		case e.GetType() == raftpb.EntryConfChangeV2:
			what = "other members"
		case isBatch(data):
			h, _ := ParseHeader(data)
			var records []string
			for _, r := range AppendRecords(nil, h, data) {
				records = append(records, string(r.Data))
			}
			what = fmt.Sprintf("epoch %d from record %d: %s", h.Epoch, h.First, strings.Join(records, " "))
		case len(data) > 0 && data[0] == kindEpochStart:
			what = "epoch start"
		}
		out = append(out, fmt.Sprintf("[%d: %s]", e.GetIndex(), what))
	}
	return strings.Join(out, " ")
}
