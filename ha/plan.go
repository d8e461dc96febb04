package ha

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/transport"
)

// This file decides which change of the list is made for what is asked for, and whether it may be. It is pure. What is decided
// here is a leader's prudence; that no change harms what is agreed on is the log's.

// A ground is what a leader decides from.
type ground struct {
	list           *roster
	view           log.View
	leading        bool
	self           uint64
	now, heartbeat time.Duration
	said           map[uint64]string // where members say that they are, by id
}

// errHandOver says that this member must hand over before the change can be made.
var errHandOver = errors.New("baton: hand over first")

func refuse(reason error, format string, args ...any) *MembershipError {
	return &MembershipError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// add plans an AddMember. h is what was said by who is at the address, or failure why nobody was heard.
func (g ground) add(q wire.Change, h transport.Hello, failure error) (c log.MemberChange, err error) {
	if m, ok := g.list.Named(q.Name); ok {
		switch {
		case g.list.addr(m) != q.Addr:
			return c, refuse(ErrMemberExists, "%q is a member, at %s", q.Name, g.list.addr(m))
		case wanted(m) != Kind(q.Kind):
			return c, refuse(ErrMemberExists, "%q is a member, as %v", q.Name, wanted(m))
		case failure == nil && h.Joining && h.Incarnation != m.Incarnation:
			return c, refuse(ErrMemberExists, "%q is a member, with another directory than the one that waits at %s: replace it", q.Name, q.Addr)
		}
		return c, nil
	}
	for _, m := range g.list.all() {
		if sameAddr(g.list.addr(m), q.Addr) {
			return c, refuse(ErrMemberExists, "%s is the address of %q", q.Addr, m.Name)
		}
	}
	switch {
	case failure != nil:
		return c, refuse(ErrNewcomer, "%s", firstLine(failure))
	case !h.Joining:
		return c, refuse(ErrNewcomer, "%q at %s is not new: its directory must be empty, and its configuration have Join", q.Name, q.Addr)
	case g.list.Gone(h.ID):
		return c, refuse(ErrNewcomer, "the directory at %s is that of a member that was removed", q.Addr)
	}
	m := log.Member{ID: h.ID, Name: q.Name, Addr: q.Addr, Advertise: q.Advertise, Incarnation: h.Incarnation, Kind: log.KindObserver, Priority: int(q.Priority)}
	if kind := Kind(q.Kind); kind.Votes() {
		m.Joining, m.Becomes = true, kind
	}
	c.Put = []log.Member{m}
	return c, nil
}

// wanted is what a member is, or is to be once it has caught up.
func wanted(m log.Member) Kind {
	if m.Joining {
		return m.Becomes
	}
	return m.Kind
}

// sameAddr compares two addresses.
func sameAddr(a, b string) bool {
	ca, errA := transport.CheckAddr(a, false)
	cb, errB := transport.CheckAddr(b, false)
	return errA == nil && errB == nil && ca == cb
}

// named returns the member of a name.
func (g ground) named(name string) (log.Member, error) {
	m, ok := g.list.Named(name)
	if !ok {
		return m, refuse(ErrNoMember, "%q is none of %s", name, strings.Join(g.names(), ", "))
	}
	return m, nil
}

func (g ground) names() (names []string) {
	for _, m := range g.list.all() {
		names = append(names, m.Name)
	}
	return names
}

// remove plans a RemoveMember, of all who have the name.
func (g ground) remove(name string) (c log.MemberChange, err error) {
	if _, err := g.named(name); err != nil {
		if slices.ContainsFunc(g.list.Removed, func(f log.Former) bool { return f.Name == name }) {
			return c, nil
		}
		return c, err
	}
	for _, m := range g.list.Members {
		if m.Name == name {
			c.Remove = append(c.Remove, m.ID)
		}
	}
	return c, g.allows(c)
}

// promote plans a Promote: also that of a member which waits for it, into the place of one of its name if there is one.
func (g ground) promote(name string) (c log.MemberChange, err error) {
	m, err := g.named(name)
	if err != nil || m.Kind.Votes() {
		return c, err
	}
	if why := g.missing(m.ID, caughtUp); why != "" {
		return c, refuse(ErrNotCaughtUp, "%s %s", name, why)
	}
	for _, old := range g.list.Members {
		if old.Name == name && old.ID != m.ID {
			c.Remove = append(c.Remove, old.ID)
		}
	}
	m.Kind, m.Joining, m.Becomes = m.Becomes, false, 0 // of an observer that was to stay one it is a voter
	c.Put = []log.Member{m}
	return c, g.allows(c)
}

// promotedLag is how many entries a member may lack that gets a vote: so few that it has them before they could be waited for.
const promotedLag = 64

// caughtUp reports whether a member may get a vote: it has nearly all, or what it lacks is on its way to it, as it always is to one that is far away.
func caughtUp(p log.PeerView) bool { return p.Behind <= promotedLag || p.Lacks == 0 }

// keepsUp reports whether a member has so much of the log that it can be counted on.
func keepsUp(p log.PeerView) bool { return p.Behind <= maxLag }

// demote plans a Demote. A member that waits for its promotion does so no more.
func (g ground) demote(name string) (c log.MemberChange, err error) {
	m, err := g.named(name)
	if err != nil || !m.Kind.Votes() && !m.Joining {
		return c, err
	}
	if old, twice := g.voter(name); twice && old.ID != m.ID {
		return c, refuse(ErrBadChange, "%q is being replaced", name)
	}
	m.Kind, m.Joining, m.Becomes = log.KindObserver, false, 0
	c.Put = []log.Member{m}
	return c, g.allows(c)
}

// voter returns the member of a name that votes.
func (g ground) voter(name string) (log.Member, bool) {
	i := slices.IndexFunc(g.list.Members, func(m log.Member) bool { return m.Name == name && m.Kind.Votes() })
	if i < 0 {
		return log.Member{}, false
	}
	return g.list.Members[i], true
}

// changeAddr plans a ChangeAddr.
func (g ground) changeAddr(name, addr string) (c log.MemberChange, err error) {
	m, err := g.named(name)
	if err != nil || g.list.addr(m) == addr {
		return c, err
	}
	for _, o := range g.list.all() {
		if o.Name != name && sameAddr(g.list.addr(o), addr) {
			return c, refuse(ErrMemberExists, "%s is the address of %q", addr, o.Name)
		}
	}
	m.Addr = addr
	c.Put = []log.Member{m}
	return c, nil
}

// setPriority plans a SetPriority.
func (g ground) setPriority(name string, priority int) (c log.MemberChange, err error) {
	m, err := g.named(name)
	if err == nil && m.Priority != priority {
		m.Priority = priority
		c.Put = []log.Member{m}
	}
	return c, err
}

// advertise plans a change of where a member's program is reached.
func (g ground) advertise(name, where string) (c log.MemberChange, err error) {
	m, err := g.named(name)
	if err == nil && m.Advertise != where {
		m.Advertise = where
		c.Put = []log.Member{m}
	}
	return c, err
}

// complete makes a change one of the present list, and writes into it the addresses that the list lacks, so that who comes later
// finds everybody.
func (g ground) complete(c *log.MemberChange) {
	c.Base = g.list.Version
	addrOf := func(m log.Member) string {
		if m.Addr == "" && g.said[m.ID] != "" {
			return g.said[m.ID] // it knows better than this member's configuration
		}
		return g.list.addr(m)
	}
	for i, m := range c.Put {
		c.Put[i].Addr = addrOf(m)
	}
	for _, m := range g.list.Members {
		listed := slices.Contains(c.Remove, m.ID) || slices.ContainsFunc(c.Put, func(o log.Member) bool { return o.ID == m.ID })
		if addr := addrOf(m); m.Addr == "" && addr != "" && !listed {
			m.Addr = addr
			c.Put = append(c.Put, m)
		}
	}
}

// allows refuses a change of the voters that this member cannot make itself, or after which too few of them would be there.
func (g ground) allows(c log.MemberChange) error {
	stays := slices.DeleteFunc(slices.Clone(g.list.Members), func(m log.Member) bool {
		return slices.Contains(c.Remove, m.ID) || slices.ContainsFunc(c.Put, func(p log.Member) bool { return p.ID == m.ID })
	})
	if !slices.ContainsFunc(append(stays, c.Put...), func(m log.Member) bool { return m.Kind == log.KindVoter }) {
		return refuse(ErrLastVoter, "nobody else can have the role")
	}
	c.Base = g.list.Version
	next, err := g.list.Apply(g.list.Version+1, c)
	if err != nil {
		return refuse(ErrBadChange, "%s", firstLine(err))
	}
	if voters := next.Voters(); !slices.Equal(voters, g.list.Voters()) {
		if err := cmp.Or(g.majority("there are", g.list.Voters()), g.majority("there would be", voters)); err != nil {
			return err
		}
	}
	if own, ok := next.Find(g.self); !ok || !own.Kind.Votes() {
		return errHandOver
	}
	return nil
}

// majority refuses if no majority of some voters can be counted on: to a change both those of before and those of after it agree.
func (g ground) majority(which string, voters []uint64) error {
	there := 0
	var missing []string
	for _, id := range voters {
		if why := g.missing(id, keepsUp); why != "" {
			missing = append(missing, g.list.nameOf(id)+" "+why)
		} else {
			there++
		}
	}
	if there > len(voters)/2 {
		return nil
	}
	return refuse(ErrQuorum, "of the %d voters that %s %d are there with all of the log, and it takes %d: %s",
		len(voters), which, there, len(voters)/2+1, strings.Join(missing, ", "))
}

// missing says what a member lacks to be counted on, "" if nothing: that it answers, and has enough of the log.
func (g ground) missing(id uint64, enough func(log.PeerView) bool) string {
	if id == g.self {
		return ""
	}
	for _, p := range slices.Concat(g.view.Peers, g.view.Others) {
		switch {
		case p.ID != id:
		case p.Heard == 0:
			return "has not answered in this term"
		case p.Heard <= g.now-silentBeats*g.heartbeat:
			return fmt.Sprintf("has not answered for %v", (g.now - p.Heard).Round(time.Millisecond))
		case !enough(p):
			return fmt.Sprintf("lacks %d entries", p.Behind)
		default:
			return ""
		}
	}
	return "has not been heard"
}

// unfinished says what a change that is under way waits for.
func (g ground) unfinished() string {
	var waits []string
	for _, m := range slices.Concat(g.list.Members, g.list.Outgoing) {
		if why := g.missing(m.ID, keepsUp); why != "" && m.Kind.Votes() && !slices.ContainsFunc(waits, func(w string) bool { return strings.HasPrefix(w, m.Name+" ") }) {
			waits = append(waits, m.Name+" "+why)
		}
	}
	if len(waits) == 0 {
		return "it ends in a moment"
	}
	return strings.Join(waits, ", ")
}
