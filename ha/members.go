package ha

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/moment"
	"github.com/baton-ha/baton/transport"
)

// Liveness says whether a member is there, by what has come from it.
type Liveness uint8

const (
	// Alive: what it says comes in time.
	Alive Liveness = iota + 1
	// Suspect: it has missed saying something once or twice, or the connection on which it spoke has ended.
	Suspect
	// Dead: it has missed it three times, or has said that it has failed.
	Dead
	// Left: it was closed in good order, and has said so.
	Left
)

var livenessNames = [...]string{"Unknown", "Alive", "Suspect", "Dead", "Left"}

func (l Liveness) String() string {
	if int(l) < len(livenessNames) {
		return livenessNames[l]
	}
	return livenessNames[0]
}

// MarshalText implements [encoding.TextMarshaler].
func (l Liveness) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A MemberStatus is what is known of a member: of this one what its [Status] says, of another what it has said last.
type MemberStatus struct {
	Name, Addr string
	// Advertise is where its program's own service is reached, "" if it has not said so.
	Advertise string
	// Kind is what it is there for. Joining: it is an observer that is to become what Becomes says as soon as it has caught up.
	Kind    Kind
	Joining bool
	Becomes Kind
	// Priority says to whom the role goes; the highest first.
	Priority int
	// Incarnation is the number of its directory, 0 of one that was there at the birth of the cluster.
	Incarnation uint64
	Liveness    Liveness
	// State is its role; 0, which is none, as long as nothing was heard and when it is dead. Active is what it believed to be
	// when it said so.
	State State
	// Epoch is the epoch in force as far as it knew.
	Epoch uint64
	// Obstacles are why it may not have the role, or had better not, by kind. The other member's errors do not travel: Err is nil.
	Obstacles []Obstacle
	// Index is the last record that it knew to be committed, Applied the last that its StateMachine was given.
	Index, Applied uint64
	// Lag is how many records that are known to be committed by anyone here were not applied there.
	Lag uint64
	// LagTime is in which time records may have been acknowledged that were not applied there, as it said.
	LagTime time.Duration
	// Program is the version of its program (Config.Version), Protocol the one that it speaks with the others; "" and 0 as long as
	// it has not said so.
	Program  string
	Protocol int
	// Obeys says whether this member may command it ([Config.ObeyMembers]).
	Obeys bool
	// Heard is when it said something last, zero if it never has, by this member's clock on the wall.
	Heard time.Time
	// RoundTrip is how long its last answer took, to its program and back; 0 if that is not known, and of this member.
	RoundTrip time.Duration
}

// MarshalJSON writes it with lower-case names; times are in seconds.
func (m MemberStatus) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name      string     `json:"name"`
		Addr      string     `json:"addr"`
		Advertise string     `json:"advertise,omitempty"`
		Kind      string     `json:"kind"`
		Joining   bool       `json:"joining,omitempty"`
		Priority  int        `json:"priority"`
		Liveness  Liveness   `json:"liveness"`
		State     State      `json:"state"`
		Epoch     uint64     `json:"epoch"`
		Obstacles []Obstacle `json:"obstacles,omitempty"`
		Index     uint64     `json:"index"`
		Applied   uint64     `json:"applied"`
		Lag       uint64     `json:"lag"`
		LagTime   float64    `json:"lag_seconds"`
		Program   string     `json:"program,omitempty"`
		Protocol  int        `json:"protocol,omitempty"`
		Heard     time.Time  `json:"heard,omitzero"`
		RoundTrip float64    `json:"round_trip_seconds,omitempty"`
	}{m.Name, m.Addr, m.Advertise, m.Kind.String(), m.Joining, m.Priority, m.Liveness, m.State, m.Epoch, m.Obstacles, m.Index, m.Applied, m.Lag,
		m.LagTime.Seconds(), m.Program, m.Protocol, m.Heard, m.RoundTrip.Seconds()})
}

// Members returns all members that are listed, by name. It never blocks. Each member says how it is to each other one
// every ElectionTimeout, and at once when its state or its obstacles change, so that what any two say of a third differs by no
// more than that, unless the network lets only one of them hear it. It is the browse list of a network of services: announce,
// expire after three missed, a clean leave is known at once.
func (n *Node) Members() []MemberStatus {
	now, wall := n.clock(), time.Now()
	var list []MemberStatus
	newest := uint64(0)
	r := n.roster()
	for _, m := range r.all() {
		s := MemberStatus{
			Name: m.Name, Addr: r.addr(m), Advertise: m.Advertise, Kind: m.Kind, Joining: m.Joining, Becomes: m.Becomes, Priority: m.Priority, Incarnation: m.Incarnation,
		}
		if m.Name == n.cfg.Name {
			own := n.Status()
			s.Liveness, s.State, s.Epoch, s.Obstacles = Alive, own.State, own.Epoch, own.Obstacles
			s.Index, s.Applied, s.Heard = own.Index, own.Applied, wall
			s.LagTime, s.Program, s.Protocol = own.Lag.Time, n.cfg.Version, transport.Version
			if own.State == Failed {
				s.Liveness = Dead
				if own.Err == nil {
					s.Liveness = Left
				}
			}
		} else {
			n.hearsay.tell(&s, now)
		}
		newest = max(newest, s.Index)
		list = append(list, s)
	}
	for i := range list {
		list[i].Lag = newest - min(list[i].Applied, newest)
	}
	return list
}

// hearsay is what the others have said.
type hearsay struct {
	mu    sync.Mutex // guards what follows; held for looking up and taking notes
	began time.Duration
	every time.Duration // of this member
	of    map[string]*heard
}

// heard is what one other member has said.
type heard struct {
	news      news
	at        time.Duration     // when it came; 0: nothing has
	obstacles []obstacle        // of the news, on this member's clock
	stream    *transport.Stream // on which it speaks; nil: on none
	trip      time.Duration
}

// get returns what is known of a member.
func (h *hearsay) getLocked(name string) *heard {
	if h.of == nil {
		h.of = make(map[string]*heard)
	}
	if h.of[name] == nil {
		h.of[name] = new(heard)
	}
	return h.of[name]
}

// speaks notes on which stream a member speaks from now on, or with nil that the last one has ended.
func (h *hearsay) speaks(name string, last, st *transport.Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.getLocked(name); st != nil || x.stream == last {
		x.stream = st
	}
}

// take notes what a member has said on a stream, unless it speaks on another by now. It returns its obstacles, and whether
// they are others than before.
func (h *hearsay) take(name string, st *transport.Stream, s news, now time.Duration) (obstacles []obstacle, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.getLocked(name)
	if x.stream != st {
		return nil, false
	}
	old := x.obstacles
	x.news, x.at, x.obstacles = s, now, s.here(now)
	changed = !slices.EqualFunc(old, x.obstacles, func(a, b obstacle) bool { return a.kind == b.kind && (a.until == 0) == (b.until == 0) })
	return slices.Clone(x.obstacles), changed
}

// parted reports whether a member has said that it leaves, and nothing since.
func (h *hearsay) parted(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.of[name]
	return x != nil && x.news.leaving
}

// took notes how long a member has taken to answer.
func (h *hearsay) took(name string, trip time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.getLocked(name).trip = trip
}

// forget forgets a member that has left the list.
func (h *hearsay) forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, name)
}

// tell fills in what is known of another member.
func (h *hearsay) tell(s *MemberStatus, now time.Duration) {
	h.mu.Lock()
	x := *h.getLocked(s.Name)
	since, every := h.began, h.every
	h.mu.Unlock()
	if x.at != 0 {
		since, every = x.at, x.news.every
		s.Heard, s.RoundTrip = time.Now().Add(x.at-now).Round(0), x.trip
		s.Epoch, s.Index, s.Applied, s.LagTime = x.news.epoch, x.news.index, x.news.applied, x.news.lag
		s.Program, s.Protocol, s.Obeys = x.news.program, int(x.news.protocol), x.news.obeys
	}
	switch s.Liveness = livenessOf(now-since, every, x.stream != nil); {
	case x.news.leaving:
		s.Liveness, s.State = Left, Failed
		return
	case x.news.state == Failed:
		s.Liveness = Dead
	}
	if x.at == 0 || s.Liveness == Dead {
		return
	}
	s.State = x.news.state
	for _, o := range x.obstacles {
		if o.until == 0 || now < o.until {
			s.Obstacles = append(s.Obstacles, onWallOne(o, now))
		}
	}
}

// livenessOf judges who was heard a while ago and says something in an interval, on a connection that stands if it speaks.
func livenessOf(silent, every time.Duration, speaks bool) Liveness {
	switch missed := (silent + every/2) / every; {
	case missed > 3:
		return Dead
	case missed > 1, !speaks:
		return Suspect
	}
	return Alive
}

// kindNews is the kind of the streams on which a member says how it is, one to each other member. An empty message answers each.
const kindNews = "news"

// startNews lets this member speak and hear. The context ends when there is no more time for a last word.
func (n *Node) startNews(ctx context.Context) error {
	n.hearsay.began, n.hearsay.every = n.clock(), n.cfg.ElectionTimeout
	if err := n.net.Handle(kindNews, []transport.Role{transport.RoleMember}, n.hear); err != nil {
		return err
	}
	n.speakers.Go(func() { n.followRoster(ctx) })
	return nil
}

// hear takes what another member says.
func (n *Node) hear(_ context.Context, st *transport.Stream) error {
	name := st.Peer().Name
	n.hearsay.speaks(name, nil, st)
	defer n.hearsay.speaks(name, st, nil)
	for {
		b, err := st.Recv(maxNews)
		if err != nil {
			return nil // it has ended; who speaks begins again
		}
		s, err := decodeNews(b)
		if err != nil {
			return &transport.StreamError{Code: transport.FirstOwnCode, Text: err.Error()}
		}
		parted := n.hearsay.parted(name)
		if obstacles, changed := n.hearsay.take(name, st, s, n.clock()); changed {
			if m, ok := n.roster().Named(name); ok {
				n.log.Post(heardOf{m.ID, obstacles})
			}
		}
		switch left := n.hearsay.parted(name); {
		case n.hasEnded(): // whoever is closed itself has said its last line
		case left && !parted:
			n.cfg.Logger.Info("a member has left", "member", n.cfg.Name, "peer", name)
		case parted && !left:
			n.cfg.Logger.Info("a member is back", "member", n.cfg.Name, "peer", name)
		}
		if err := st.Send(nil); err != nil {
			return nil
		}
	}
}

// speak says to another member how this one is, until there is nothing more to say.
func (n *Node) speak(ctx context.Context, to string) {
	for !n.speakOnce(ctx, to) {
		t := time.NewTimer(n.cfg.ElectionTimeout)
		select {
		case <-t.C:
		case <-n.ended: // one more try, for the last word
		case <-ctx.Done():
			return
		}
		t.Stop()
	}
}

// speakOnce speaks as long as a stream lasts. It reports whether the last word was said, or cannot be.
func (n *Node) speakOnce(ctx context.Context, to string) (last bool) {
	st, err := n.net.Open(ctx, to, kindNews)
	if err != nil {
		return n.hasEnded()
	}
	defer st.Close()
	every := moment.NewTicker(n.cfg.ElectionTimeout)
	defer every.Stop()
	for {
		last = n.hasEnded()
		changed := *n.changed.Load()
		s := n.news()
		said := n.clock()
		if err := st.Send(s.encode(nil)); err != nil {
			return last
		}
		if _, err := st.Recv(maxNews); err != nil {
			return last
		}
		n.hearsay.took(to, n.clock()-said)
		if last {
			return true
		}
		select {
		case <-changed:
			pause := time.NewTimer(n.cfg.Heartbeat) // what changes may change again
			select {
			case <-pause.C:
			case <-n.ended:
			}
			pause.Stop()
		case <-every.C:
		case <-n.ended:
		case <-ctx.Done():
			return true
		}
	}
}

func (n *Node) hasEnded() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// news is what this member has to say.
func (n *Node) news() news {
	s := n.Status()
	out := news{
		leaving: s.State == Failed && s.Err == nil, obeys: n.cfg.ObeyMembers, state: s.State, epoch: s.Epoch, index: s.Index, applied: s.Applied, every: n.cfg.ElectionTimeout,
		newsMore: newsMore{lag: s.Lag.Time, protocol: transport.Version, program: n.cfg.Version},
	}
	now := time.Now()
	for _, o := range s.Obstacles {
		x := newsObstacle{kind: o.Kind, text: o.Text, stood: max(0, now.Sub(o.Since))}
		if !o.Until.IsZero() {
			x.left = max(1, o.Until.Sub(now))
		}
		out.obstacles = append(out.obstacles, x)
	}
	return out
}
