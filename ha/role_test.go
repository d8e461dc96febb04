package ha

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/baton-ha/baton/log"
)

// TestRole runs the scripts in testdata/role against the role machine of member a, id 1, of a, b and c. A command is one
// step, at a time that stays until the next one; its output is what the machine wants, and the state it is in then.
//
//	leader id= term= [after= of= ended=]   the log: who leads, and if it is a, who led before, in which term, and how that ended
//	settled                                the log: everything before this leadership is applied
//	fenced [err=] [ended]                  OnFence has returned
//	lease until=                           the log: this member's lease
//	epoch n= holder= term=                 the log: an epoch has started
//	refused, asked by=                     the log: no epoch can be started; another member asks for leadership
//	gone id=, lost id=                     the log: the process of another member has ended; messages to it were lost
//	refused-by id=                         the log: another member cannot take over
//	stopped                                the log has ended
//	returned [err=], expired               the callback has returned; its ctx was ended beside the loop
//	become active|standby                  somebody wishes; wishes are numbered
//	checked [err=], away [reason=]         a check of its health has ended; it is asked to stay away, or no longer
//	unborn [err=], disk-full [err=]        the cluster has not begun; there is no room on the disk
//	listed [observer] [arbiter]            the members are others: a is a voter, an observer or an arbiter
//	sees [late= hold= pressed guard= disk= apply= behind=]
//	                                       what the log knows of this member from now on
//	peers                                  and of the others, a line for each: name [silent=] [behind=] [guarded] [starved]
//	says id= [kind= until= text=]          another member says what is in its way
//	wake                                   nothing, but time has passed
//	config [strikes=] [preempt=] [away=] [priorities=] [fence=] [best-effort]
//	                                       the machine begins anew, with this configuration, and priorities of a, b and c
//
// Rewrite the outputs with: go test ./ha -run TestRole -rewrite
func TestRole(t *testing.T) {
	datadriven.Walk(t, "testdata/role", func(t *testing.T, path string) {
		s := roleScript{names: map[uint64]string{1: "a", 2: "b", 3: "c"}}
		s.role = newRole(s.config(), log.Epoch{})
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}

// A roleScript is a script under way.
type roleScript struct {
	role   role
	now    time.Duration
	names  map[uint64]string
	view   log.View
	silent map[uint64]time.Duration // since when
	wishes []*wish
}

func (s *roleScript) config() roleConfig {
	return roleConfig{
		name: "a", cluster: "jobs", heartbeat: 50 * time.Millisecond, electionTimeout: 500 * time.Millisecond,
		drainTimeout: 10 * time.Second, coolDown: 5 * time.Second, id: 1,
		roster: log.Roster{Version: 1, Members: []log.Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}},
	}
}

// run runs a command.
func (s *roleScript) run(t *testing.T, d *datadriven.TestData) string {
	number := func(key string) (n uint64) {
		d.MaybeScanArgs(t, key, &n)
		return n
	}
	text := func(key string) (v string) {
		d.MaybeScanArgs(t, key, &v)
		return v
	}
	after := func(key string) time.Duration {
		v, err := time.ParseDuration(text(key))
		if err != nil && text(key) != "" {
			d.Fatalf(t, "%v", err)
		}
		return v
	}
	failure := func() error {
		if v := text("err"); v != "" {
			return errors.New(v)
		}
		return nil
	}
	if d.HasArg("at") {
		s.now = after("at")
	}
	var in input
	switch d.Cmd {
	case "leader":
		l := log.Leadership{Leader: number("id"), Term: number("term"), Leading: number("id") == 1}
		l.After.Leader, l.After.Term = number("after"), number("of")
		for _, e := range []log.Ending{log.EndSilent, log.EndGone, log.EndTransfer} {
			if e.String() == text("ended") {
				l.After.Ended = e
			}
		}
		in = reported{l}
	case "settled":
		in = reported{log.Settled{Term: s.role.lead.term}}
	case "fenced":
		in = fenceDone{failure(), d.HasArg("ended")}
	case "lease":
		in = reported{log.Lease{Until: after("until")}}
	case "epoch":
		in = reported{log.EpochStarted{Epoch: log.Epoch{Epoch: number("n"), Holder: text("holder"), Term: number("term")}}}
	case "listed":
		list := s.role.cfg.roster
		list.Members = slices.Clone(list.Members)
		if d.HasArg("observer") {
			list.Members[0].Kind = log.KindObserver
		}
		if d.HasArg("arbiter") {
			list.Members[0].Kind = log.KindArbiter
		}
		in = reported{log.RosterChanged{Roster: list}}
	case "refused":
		in = reported{log.StartRefused{}}
	case "asked":
		in = reported{log.TransferAsked{By: number("by")}}
	case "gone":
		in = reported{log.PeerGone{ID: number("id")}}
	case "lost":
		in = reported{log.PeerLost{ID: number("id")}}
	case "refused-by":
		in = reported{log.TransferRefused{By: number("id")}}
	case "stopped":
		in = stopped{err: failure()}
	case "returned":
		in = returned(failure())
	case "expired":
		in = expired{s.role.phase.token}
	case "become":
		s.wishes = append(s.wishes, &wish{active: d.HasArg("active")})
		in = become{s.wishes[len(s.wishes)-1]}
	case "probed":
		in = diskProbed{after("took"), failure()}
	case "checked":
		in = checked{failure()}
	case "away":
		w := &wish{}
		if d.HasArg("reason") {
			s.wishes = append(s.wishes, w)
		}
		in = keepAway{text("reason"), w}
	case "unborn":
		in = unborn{failure()}
	case "disk-full":
		in = diskFull{failure()}
	case "sees":
		s.view = log.View{
			Late: after("late"), Hold: after("hold"), Pressed: d.HasArg("pressed"), Guard: after("guard"),
			DiskSince: after("disk"), ApplySince: after("apply"), Behind: number("behind"), Peers: s.view.Peers,
		}
		in = wake{}
	case "says":
		in = heardOf{id: number("id")}
		if d.HasArg("kind") {
			in = heardOf{number("id"), []obstacle{{kind: ObstacleKind(text("kind")), since: s.now, text: text("text"), until: after("until")}}}
		}
	case "peers":
		s.peers(t, d)
		return ""
	case "wake":
		in = wake{}
	case "config":
		cfg := s.config()
		cfg.fenceTimeout = after("fence")
		if d.HasArg("best-effort") {
			cfg.fencePolicy = FenceBestEffort
		}
		cfg.strikes, cfg.preempt, cfg.away = int(number("strikes")), after("preempt"), text("away")
		for i, c := range text("priorities") {
			cfg.roster.Members[i].Priority = int(c - '0')
		}
		s.role = newRole(cfg, log.Epoch{})
		return ""
	default:
		d.Fatalf(t, "unknown command")
	}
	for i := range s.view.Peers {
		p := &s.view.Peers[i]
		if p.Heard = s.now; s.silent[p.ID] != 0 {
			p.Heard = s.silent[p.ID]
		}
	}
	return s.show(s.role.step(s.now, s.view, in))
}

// peers takes what is known of the others from now on. Who is not silent is heard at each step.
func (s *roleScript) peers(t *testing.T, d *datadriven.TestData) {
	s.view.Peers, s.silent = nil, map[uint64]time.Duration{}
	for line := range strings.Lines(d.Input) {
		words := strings.Fields(line)
		p := log.PeerView{ID: uint64(words[0][0]-'a') + 1}
		for _, w := range words[1:] {
			key, v, _ := strings.Cut(w, "=")
			switch key {
			case "silent":
				s.silent[p.ID], _ = time.ParseDuration(v)
			case "behind":
				fmt.Sscan(v, &p.Behind)
			case "guarded":
				p.Guarded = true
			case "starved":
				p.Starved = true
			default:
				d.Fatalf(t, "%s?", w)
			}
		}
		s.view.Peers = append(s.view.Peers, p)
	}
}

// show writes down what a step wants.
func (s *roleScript) show(out output) string {
	var b strings.Builder
	for _, a := range out.actions {
		switch a := a.(type) {
		case run:
			if a.phase.active {
				fmt.Fprintf(&b, "call OnActive(%v)\n", a.phase.token)
			} else {
				fmt.Fprintln(&b, "call OnStandby")
			}
		case end:
			fmt.Fprintf(&b, "end ctx: %v\n", a.cause)
		case runFence:
			fmt.Fprintf(&b, "call OnFence: %s was active in epoch %d, which ended: %s\n", a.previous.Name, a.previous.Epoch, a.previous.Ended)
		case endFence:
			fmt.Fprintf(&b, "end ctx of OnFence: %v\n", a.cause)
		case answer:
			fmt.Fprintf(&b, "answer %d: %v\n", slices.Index(s.wishes, a.wish)+1, a.err)
			for _, name := range slices.Sorted(maps.Keys(a.why)) {
				for _, o := range a.why[name] {
					fmt.Fprintf(&b, "  %s: %s\n", name, showObstacle(o))
				}
			}
		case obstructed:
			fmt.Fprintf(&b, "obstacle %s\n", showObstacle(a.obstacle))
		case cleared:
			fmt.Fprintf(&b, "no more %s\n", a.kind)
		case probeDisk:
			fmt.Fprintln(&b, "write to the disk")
		case report:
			fmt.Fprintf(&b, "report: %v\n", a.err)
		}
	}
	for _, e := range out.events {
		switch e := e.(type) {
		case log.Transfer:
			fmt.Fprintf(&b, "log: transfer to %s\n", s.names[e.To])
		case log.KeepLead:
			fmt.Fprintln(&b, "log: keep leadership")
		case log.StartEpoch:
			fmt.Fprintln(&b, "log: start an epoch")
		case log.AskTransfer:
			fmt.Fprintln(&b, "log: ask for leadership")
		case log.Reluctant:
			fmt.Fprintf(&b, "log: reluctant: %v\n", e.Yes)
		case log.Lapsed:
			fmt.Fprintln(&b, "log: lapsed")
		}
	}
	fmt.Fprint(&b, s.role.state(s.now))
	if at := s.role.deadline(s.now); at != 0 {
		fmt.Fprintf(&b, ", wake at %v", at)
	}
	return b.String() + "\n"
}

func showObstacle(o obstacle) string {
	until := ""
	if o.until != 0 {
		until = fmt.Sprintf(" until %v", o.until)
	}
	return fmt.Sprintf("%s%s: %s", o.kind, until, o.text)
}
