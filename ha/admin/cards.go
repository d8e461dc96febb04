package admin

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file shows each member as a card.

// A card is one member.
type card struct {
	ID, Name, Page string
	Self           bool
	Role, Class    string // its state, or why there is none
	Meaning        string
	Liveness       string
	LiveClass      string
	Rows           []row
	Obstacles      []trouble
	Problems       []trouble
	Snapshots      []snapshot

	// What can be asked for.
	Handover, Become, Away, Back     bool
	Promote, Demote, Replace, Remove bool
	Priority                         int
}

type row struct{ Label, Value string }

type trouble struct{ Kind, Text, Since string }

// A snapshot is one on its way, from this member or to it.
type snapshot struct {
	Text, Bytes  string
	Done         string // of 100, "" if it is not known
	Way, Percent string
}

// meanings say what a state is, for whoever does not know.
var meanings = map[ha.State]string{
	ha.Electing:   "knows of no leader",
	ha.Standby:    "follows, and may take over",
	ha.Activating: "leads, and is about to be Active",
	ha.Active:     "has the role",
	ha.Draining:   "gives the role up",
	ha.Failed:     "takes part no more",
	ha.Observer:   "follows, without a vote",
	ha.Joining:    "waits to take part",
	ha.Arbiter:    "votes, and is never Active",
}

// stateClass says how a state looks.
func stateClass(s ha.State) string {
	if s == 0 {
		return "unknown"
	}
	return strings.ToLower(s.String())
}

func livenessClass(l ha.Liveness) string {
	switch l {
	case ha.Alive:
		return "ok"
	case ha.Suspect:
		return "warn"
	case ha.Dead:
		return "bad"
	}
	return "plain"
}

// pageOf asks the program where a member's page is. One that panics does not know.
func (h *Handler) pageOf(m ha.MemberStatus) (page string) {
	err := h.calls.Do("PageOf", func() error { page = h.cfg.PageOf(m); return nil })
	if err != nil && !h.failed.Swap(true) {
		h.log.Error("admin: Config.PageOf failed", "member", m.Name, "err", err)
	}
	return page
}

func (h *Handler) cards(now time.Time, s ha.Status, members []ha.MemberStatus) []card {
	var cards []card
	seen := map[string]int{} // while a member is replaced there are two of its name
	var has told
	for _, m := range members {
		has.priority, has.service, has.program = has.priority || m.Priority != 0, has.service || m.Advertise != "", has.program || m.Program != ""
	}
	for _, m := range members {
		c := card{
			ID: "member-" + m.Name, Name: m.Name, Self: m.Name == s.Name, Role: m.State.String(), Class: stateClass(m.State), Meaning: meanings[m.State],
			Liveness: strings.ToLower(m.Liveness.String()), LiveClass: livenessClass(m.Liveness), Priority: m.Priority,
		}
		if seen[m.Name]++; seen[m.Name] > 1 {
			c.ID += fmt.Sprintf("/%d", seen[m.Name])
		}
		switch {
		case m.Liveness == ha.Left:
			c.Role, c.Class, c.Meaning = "Left", "left", "was closed, and has said so"
		case m.State == 0 && m.Heard.IsZero():
			c.Role, c.Meaning = "Not there", "nothing was heard of it yet"
		case m.State == 0:
			c.Role, c.Meaning = "Not there", "nothing is heard of it"
		}
		if h.cfg.PageOf != nil && !c.Self {
			c.Page = h.pageOf(m)
		}
		c.Rows = rowsOf(now, m, c.Self, has)
		for _, o := range m.Obstacles {
			t := trouble{string(o.Kind), o.Text, "since " + clockOf(now, o.Since)}
			if !o.Until.IsZero() {
				t.Since += ", until " + clockOf(now, o.Until)
			}
			c.Obstacles = append(c.Obstacles, t)
		}
		for _, p := range s.Problems {
			if p.Peer == m.Name || p.Peer == "" && c.Self {
				c.Problems = append(c.Problems, trouble{p.Kind, p.Err.Error(), "since " + clockOf(now, p.Since)})
			}
		}
		if c.Self && s.Err != nil && s.State != ha.Failed { // else it is the banner
			c.Problems = append(c.Problems, trouble{"error", s.Err.Error(), ""})
		}
		for _, u := range s.Snapshots {
			if u.Peer == m.Name {
				c.Snapshots = append(c.Snapshots, snapshotOf(now, s.Name, u))
			}
		}
		if h.cfg.Authorize != nil {
			c.offer(s, m)
		}
		cards = append(cards, c)
	}
	return cards
}

// offer says what can be asked for.
func (c *card) offer(s ha.Status, m ha.MemberStatus) {
	away := false
	for _, o := range m.Obstacles {
		away = away || o.Kind == ha.ObstacleAway
	}
	state := m.State
	if c.Self {
		state = s.State
	}
	if c.Self && state != ha.Failed || m.Obeys && m.Liveness == ha.Alive {
		c.Handover = state == ha.Active
		c.Become = state == ha.Standby && m.Kind == ha.KindVoter
		c.Away, c.Back = m.Kind == ha.KindVoter && !away, away
	}
	c.Promote = m.Kind == ha.KindObserver && !m.Joining
	c.Demote = m.Kind == ha.KindVoter
	c.Replace = m.Liveness == ha.Dead || m.Liveness == ha.Left
	c.Remove = true
}

// told says what any of the members has to tell, so that all have a row for it.
type told struct{ priority, service, program bool }

// rowsOf are the same ones for each member, whatever is known of it, so that what belongs together stands side by side, and stays
// where it is when a member goes.
func rowsOf(now time.Time, m ha.MemberStatus, self bool, has told) []row {
	epoch, lag, trip, heard := row{"Epoch", thousands(m.Epoch)}, row{"Lag", "–"}, row{"Round trip", "–"}, row{"Heard", ago(now, m.Heard)}
	switch {
	case self:
		heard.Value = "this member"
	case m.Heard.IsZero():
		epoch.Value = "–"
	case m.RoundTrip > 0:
		trip.Value = timeOf(m.RoundTrip)
	}
	switch m.State {
	case ha.Active:
		lag = row{"Applied", thousands(m.Applied) + ", all there is"}
	case 0, ha.Arbiter:
	default:
		lag.Value = lagOf(m.Lag, m.LagTime)
	}
	kind := m.Kind.String()
	if m.Joining {
		kind += ", to become " + m.Becomes.String()
	}
	rows := []row{epoch, lag, trip, heard, {"Kind", kind}}
	if has.priority {
		rows = append(rows, row{"Priority", fmt.Sprint(m.Priority)})
	}
	rows = append(rows, row{"Address", m.Addr})
	if has.service {
		rows = append(rows, row{"Serves at", cmp.Or(m.Advertise, "–")})
	}
	if has.program {
		rows = append(rows, row{"Program", cmp.Or(m.Program, "–")})
	}
	return rows
}

func snapshotOf(now time.Time, self string, u ha.Underway) snapshot {
	x := snapshot{Text: u.Peer + " sends a snapshot to " + self, Bytes: bytesOf(float64(u.Bytes)), Way: "receiving"}
	if u.Sends {
		x.Text, x.Way = self+" sends a snapshot to "+u.Peer, "sending"
	}
	if u.Size > 0 {
		x.Done = fmt.Sprintf("%.1f", 100*float64(u.Bytes)/float64(u.Size))
		x.Percent = fmt.Sprintf("%.0f %%", 100*float64(u.Bytes)/float64(u.Size))
		x.Bytes += " of " + bytesOf(float64(u.Size))
	}
	if d := now.Sub(u.Since); d > 0 {
		x.Bytes += " in " + span(d)
	}
	return x
}
