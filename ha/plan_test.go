package ha

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// planFor is a leader "a" of voters a to e as many as are named, and of an observer "o" that stays one and a "j" that joins; behind
// and silent say how the others are.
func planFor(voters string, behind map[string]uint64, silent ...string) ground {
	g := ground{leading: true, self: 1, now: time.Hour, heartbeat: 50 * time.Millisecond}
	list := log.Roster{Version: 9}
	for i, name := range strings.Fields(voters + " o j") {
		m := log.Member{ID: uint64(name[0] - 'a' + 1), Name: name, Addr: fmt.Sprintf("%s:%d", name, i), Incarnation: 5}
		p := log.PeerView{ID: m.ID, Heard: g.now - 10*time.Millisecond, Behind: behind[name], Lacks: behind[name]}
		if slices.Contains(silent, name) {
			p.Heard = g.now - time.Minute
		}
		switch {
		case name == "o":
			m.Kind = log.KindObserver
			g.view.Others = append(g.view.Others, p)
		case name == "j":
			m.Kind, m.Joining = log.KindObserver, true
			g.view.Others = append(g.view.Others, p)
		case m.ID != g.self:
			g.view.Peers = append(g.view.Peers, p)
		}
		list.Members = append(list.Members, m)
	}
	slices.SortFunc(list.Members, func(a, b log.Member) int { return int(a.ID) - int(b.ID) })
	g.list = &roster{Roster: list}
	return g
}

// lacking has all lack so many of the entries that have been there for a while.
func (g ground) lacking(n uint64) ground {
	for i := range g.view.Others {
		g.view.Others[i].Lacks = n
	}
	return g
}

// shown is a change as the tables have it.
func shown(c log.MemberChange, err error) string {
	var refused *MembershipError
	switch {
	case err == errHandOver:
		return "hand over"
	case errors.As(err, &refused):
		return refused.Reason.Error() + ": " + refused.Detail
	}
	var parts []string
	for _, m := range c.Put {
		s := fmt.Sprintf("%s %v", m.Name, m.Kind)
		if m.Joining {
			s += fmt.Sprintf(" becomes %v", m.Becomes)
		}
		parts = append(parts, fmt.Sprintf("%s at %s %d", s, m.Addr, m.Priority))
	}
	for _, id := range c.Remove {
		parts = append(parts, fmt.Sprintf("-%d", id))
	}
	return strings.Join(parts, ", ")
}

// TestPlan goes through what a leader makes of what is asked for.
func TestPlan(t *testing.T) {
	all := map[string]uint64{}
	for _, c := range []struct {
		g    ground
		ask  func(g ground) (log.MemberChange, error)
		want string
	}{
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.remove("c") }, "-3"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.remove("a") }, "hand over"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.remove("x") }, `no member has that name: "x" is none of a, b, c, j, o`},
		{planFor("a b c", all, "b"), func(g ground) (log.MemberChange, error) { return g.remove("b") }, "-2"}, // the other two are there
		{planFor("a b c", all, "b"), func(g ground) (log.MemberChange, error) { return g.remove("c") },
			"the cluster would lose its majority: of the 2 voters that there would be 1 are there with all of the log, and it takes 2: b has not answered for 1m0s"},
		{planFor("a b c", map[string]uint64{"b": 5000}), func(g ground) (log.MemberChange, error) { return g.demote("c") },
			"the cluster would lose its majority: of the 2 voters that there would be 1 are there with all of the log, and it takes 2: b lacks 5000 entries"},
		{planFor("a b", all, "b"), func(g ground) (log.MemberChange, error) { return g.remove("b") },
			"the cluster would lose its majority: of the 2 voters that there are 1 are there with all of the log, and it takes 2: b has not answered for 1m0s"},
		{planFor("a b c", all, "b", "c"), func(g ground) (log.MemberChange, error) { return g.promote("j") },
			"the cluster would lose its majority: of the 3 voters that there are 1 are there with all of the log, and it takes 2: b has not answered for 1m0s, c has not answered for 1m0s"},
		{planFor("a b c", all, "b"), func(g ground) (log.MemberChange, error) { return g.remove("a") },
			"the cluster would lose its majority: of the 2 voters that there would be 1 are there with all of the log, and it takes 2: b has not answered for 1m0s"},
		{planFor("a", all), func(g ground) (log.MemberChange, error) { return g.remove("a") }, "it is the last one that can be active: nobody else can have the role"},
		{planFor("a", all), func(g ground) (log.MemberChange, error) { return g.demote("a") }, "it is the last one that can be active: nobody else can have the role"},
		{planFor("a b c", all, "b", "o"), func(g ground) (log.MemberChange, error) { return g.remove("o") }, "-15"}, // no voter: it needs nobody
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.demote("b") }, "b observer at b:1 0"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.demote("o") }, ""},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.demote("j") }, "j observer at j:4 0"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.promote("b") }, ""},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.promote("o") }, "o voter at o:3 0"},
		{planFor("a b c", map[string]uint64{"j": 65}), func(g ground) (log.MemberChange, error) { return g.promote("j") }, "it has not caught up: j lacks 65 entries"},
		{planFor("a b c", map[string]uint64{"j": 65}).lacking(0), func(g ground) (log.MemberChange, error) { return g.promote("j") }, "j voter at j:4 0"},
		{planFor("a b c", all, "j"), func(g ground) (log.MemberChange, error) { return g.promote("j") }, "it has not caught up: j has not answered for 1m0s"},
		{planFor("a b", all, "b"), func(g ground) (log.MemberChange, error) { return g.promote("j") },
			"the cluster would lose its majority: of the 2 voters that there are 1 are there with all of the log, and it takes 2: b has not answered for 1m0s"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.changeAddr("b", "b:9") }, "b voter at b:9 0"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.changeAddr("b", "b:1") }, ""},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.changeAddr("b", "C:02") }, `there is another such member: C:02 is the address of "c"`},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.setPriority("b", 7) }, "b voter at b:1 7"},
		{planFor("a b c", all), func(g ground) (log.MemberChange, error) { return g.setPriority("b", 0) }, ""},
	} {
		if got := shown(c.ask(c.g)); got != c.want {
			t.Errorf("%s\nwant %s", got, c.want)
		}
	}
}

// TestPlan_Add goes through who may be added.
func TestPlan_Add(t *testing.T) {
	waits := transport.Hello{ID: 77, Incarnation: 8, Joining: true}
	for _, c := range []struct {
		name, addr string
		kind       Kind
		h          transport.Hello
		err        error
		want       string
	}{
		{"x", "x:1", KindVoter, waits, nil, "x observer becomes voter at x:1 3"},
		{"x", "x:1", KindArbiter, waits, nil, "x observer becomes arbiter at x:1 3"},
		{"x", "x:1", KindObserver, waits, nil, "x observer at x:1 3"},
		{"x", "b:1", KindVoter, waits, nil, `there is another such member: b:1 is the address of "b"`},
		{"x", "x:1", KindVoter, waits, errors.New("refused"), "nobody there waits to be added: refused"},
		{"x", "x:1", KindVoter, transport.Hello{ID: 77}, nil, `nobody there waits to be added: "x" at x:1 is not new: its directory must be empty, and its configuration have Join`},
		{"x", "x:1", KindVoter, transport.Hello{ID: 66, Joining: true}, nil, `nobody there waits to be added: the directory at x:1 is that of a member that was removed`},
		{"b", "b:1", KindVoter, transport.Hello{}, nil, ""}, // again
		{"b", "b:1", KindVoter, transport.Hello{}, errors.New("refused"), ""},
		{"j", "j:4", KindVoter, transport.Hello{Joining: true, Incarnation: 5}, nil, ""},
		{"b", "b:1", KindObserver, transport.Hello{}, nil, `there is another such member: "b" is a member, as voter`},
		{"b", "b:2", KindVoter, transport.Hello{}, nil, `there is another such member: "b" is a member, at b:1`},
		{"b", "b:1", KindVoter, waits, nil, `there is another such member: "b" is a member, with another directory than the one that waits at b:1: replace it`},
	} {
		g := planFor("a b c", nil)
		g.list.Removed = []log.Former{{ID: 66, Name: "x"}}
		got := shown(g.add(wire.Change{Op: wire.OpAdd, Name: c.name, Addr: c.addr, Kind: uint8(c.kind), Priority: 3}, c.h, c.err))
		if got != c.want {
			t.Errorf("add %v %q at %s: %s\nwant %s", c.kind, c.name, c.addr, got, c.want)
		}
	}
}

// TestPlan_Replaced: who takes another's place does so in one step, and who was removed can be removed again.
func TestPlan_Replaced(t *testing.T) {
	g := planFor("a b c", nil, "b")
	next := log.Member{ID: 20, Name: "b", Addr: "b:1", Incarnation: 6, Kind: log.KindObserver, Joining: true}
	g.list.Members = append(g.list.Members, next)
	g.view.Others = append(g.view.Others, log.PeerView{ID: 20, Heard: g.now})
	if got := shown(g.promote("b")); got != "b voter at b:1 0, -2" {
		t.Errorf("its promotion: %s", got)
	}
	if got := shown(g.demote("b")); got != `baton: not a change of the members that can be made: "b" is being replaced` {
		t.Errorf("its demotion: %s", got)
	}
	if got := shown(g.remove("b")); got != "-2, -20" {
		t.Errorf("its removal: %s", got)
	}
	g.list.Removed = []log.Former{{ID: 66, Name: "x"}}
	if got := shown(g.remove("x")); got != "" {
		t.Errorf("a second removal: %s", got)
	}
}

// TestPlan_Complete: a change writes the addresses that the list lacks.
func TestPlan_Complete(t *testing.T) {
	g := planFor("a b c", nil)
	g.list.hints = []Member{{Name: "b", Addr: "hint:1"}, {Name: "c", Addr: "hint:2"}}
	g.list.Members[1].Addr, g.list.Members[2].Addr = "", ""
	c, err := g.setPriority("c", 4)
	g.complete(&c)
	if got := shown(c, err); got != "c voter at hint:2 4, b voter at hint:1 0" || c.Base != 9 {
		t.Errorf("%s from version %d", got, c.Base)
	}
	if _, err := g.list.Apply(10, c); err != nil {
		t.Error(err)
	}
}

// TestPlan_Said: a change writes into the list where those are whom the list does not say it of: as they say themselves, else as this member is configured.
func TestPlan_Said(t *testing.T) {
	g := planFor("a b c", nil)
	for i := range g.list.Members {
		g.list.Members[i].Addr = ""
	}
	g.list.Members[2].Addr = "c:2"
	g.list.hints = []Member{{Name: "a", Addr: "a:0"}, {Name: "b", Addr: "b:1"}, {Name: "j", Addr: "j:4"}}
	g.said = map[uint64]string{2: "b:9", 3: "c:9"}
	c := log.MemberChange{Put: []log.Member{g.list.Members[0]}}
	if g.complete(&c); shown(c, nil) != "a voter at a:0 0, b voter at b:9 0, j observer becomes voter at j:4 0" {
		t.Errorf("%s", shown(c, nil))
	}
}
