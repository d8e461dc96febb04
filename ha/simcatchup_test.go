package ha

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/log"
)

// This file simulates a member that was away and catches up beside appends: it comes to its end while they go on, and now and then a batch has
// the cluster for itself, so that it is known what they take without it (internal/core/probe.go).

// A trail is what one member gets from the active, piece by piece, and which batches were proposed and committed while nothing of it was on its way.
type trail struct {
	from, to *simMember
	piece    int             // bytes
	underway map[uint64]bool // the ends of pieces
	pieces   int             // that have left
	begun    map[uint64]int  // by the ends of batches that were proposed beside nothing: how many pieces had left by then
	seen     int             // how many pieces had left when one of those was committed last, before the next piece left
	most     int             // pieces between two of those
}

// watch sees a message that leaves.
func (t *trail) watch(from, to *simMember, m *raftpb.Message) {
	ents := m.GetEntries()
	switch {
	case from == t.from && to == t.to && m.GetType() == raftpb.MsgApp:
		if size := sizeOf(ents); size >= t.piece/2 {
			t.underway[ents[len(ents)-1].GetIndex()] = true
			t.pieces++
		}
	case from == t.to && to == t.from && m.GetType() == raftpb.MsgAppResp:
		for end := range t.underway {
			if end <= m.GetIndex() {
				delete(t.underway, end)
			}
		}
	case from == t.from && m.GetType() == raftpb.MsgApp && len(ents) > 0:
		if len(t.underway) == 0 {
			t.begun[ents[len(ents)-1].GetIndex()] = t.pieces
		}
	case to == t.from && m.GetType() == raftpb.MsgAppResp:
		for end, pieces := range t.begun {
			if end <= m.GetIndex() {
				if pieces == t.pieces {
					t.most, t.seen = max(t.most, pieces-t.seen), pieces
				}
				delete(t.begun, end)
			}
		}
	}
}

func sizeOf(ents []*raftpb.Entry) (size int) {
	for _, e := range ents {
		size += len(e.GetData())
	}
	return size
}

// lonely is how many pieces leave at most without a batch beside nothing: a probe comes after four of them, or times as many as are on their way at a time.
const lonely = 32

// begun starts a simulation, and returns who is active after a while, nil if nobody is.
func begun(cfg simConfig) (*simCluster, *simMember) {
	c := newSim(cfg)
	if !c.await("active", func() bool { return c.active() != nil }) {
		return c, nil
	}
	c.w.Run(c.w.Now()+time.Second, nil)
	return c, c.active()
}

// keepAppending has so many appends of an active member under way all the time, until stop is called.
func (m *simMember) keepAppending(many int) (stop func()) {
	appending := true
	var again func()
	again = func() {
		for t := m.tenure; appending && t != nil && m.holds(t) && len(m.asked) < many; {
			m.append(t.token)
		}
		if appending {
			m.after(200*time.Microsecond, again)
		}
	}
	again()
	return func() { appending = false }
}

// catchingUp lets a standby come back that lacks some hundred pieces, beside appends. Its disk reads at once, so that nothing but a probe keeps a piece back for
// as long as a batch takes.
func catchingUp(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.message, cfg.checkpoint, cfg.read, cfg.delay = true, 8<<10, 1<<30, 100*time.Microsecond, 200*time.Microsecond
	c, a := begun(cfg)
	if a == nil {
		return c
	}
	away := c.members[(a.i+1)%len(c.members)]
	away.crash()
	c.cfg.appendEvery, c.bulk = 2*time.Millisecond, 1<<10
	lacks := a.sm.last + 800
	c.await("records that it lacks", func() bool { return a.sm.last >= lacks })
	c.bulk = 0
	t := &trail{from: a, to: away, piece: int(cfg.message), underway: map[uint64]bool{}, begun: map[uint64]int{}}
	c.lose = func(from, to *simMember, m *raftpb.Message, _ int) bool {
		t.watch(from, to, m)
		return false
	}
	away.start(false)
	c.await("member that has caught up beside appends", func() bool { return away.sm.last+50 >= a.sm.last })
	if n := max(t.most, t.pieces-t.seen); n > lonely && c.active() == a {
		c.check.fail("of the batches beside %d pieces in a row none had the cluster for itself", n)
	}
	c.lose = nil
	c.finish()
	return c
}

// TestG8_CatchesUpBesideAppends: a member that lags comes nearer while appends go on, which are seen without it now and then.
func TestG8_CatchesUpBesideAppends(t *testing.T) { seeds(t, catchingUp) }

// farAway lets a member join from far away beside appends that never pause: it always lacks more entries than one may lack that has caught up, as so many are on their
// way to it. It gets its vote all the same.
func farAway(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.heartbeat, cfg.election = 100*time.Millisecond, time.Second
	cfg.calm, cfg.changes, cfg.checkpoint, cfg.delay, cfg.appendEvery = true, 10000*time.Hour, 1<<30, 200*time.Microsecond, 0
	c, a := begun(cfg)
	if a == nil {
		return c
	}
	stop := a.keepAppending(1)
	joins := c.newcomer("n", true, log.KindVoter)
	c.byID[joins.ID].far = cfg.election / 8
	c.ask(a, core.MemberChange{Base: a.core.Roster().Version, Put: []log.Member{joins}})
	c.await("vote of a member that is far away", func() bool {
		g := a.ground()
		if o, ok := g.list.Find(joins.ID); ok && o.Kind.Votes() {
			return true
		}
		if change, err := g.promote("n"); err == nil && !g.list.Joint() {
			c.ask(a, change)
		}
		return false
	})
	stop()
	c.finishAfterTwo()
	return c
}

// TestT11_FarAway: a member that joins from far away gets its vote beside appends.
func TestT11_FarAway(t *testing.T) { seeds(t, farAway) }

// outrun lets a standby come back that gets less than is appended: those who append do so again as soon as they are answered, and the leader's disk is slow to read. It
// comes to its end all the same, since appends are held back for it.
func outrun(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.message, cfg.checkpoint, cfg.read, cfg.delay, cfg.appendEvery = true, 8<<10, 1<<30, 6*time.Millisecond, time.Millisecond, 0
	c, a := begun(cfg)
	if a == nil {
		return c
	}
	away := c.members[(a.i+1)%len(c.members)]
	away.crash()
	c.bulk = 1 << 10
	stop := a.keepAppending(outrunAppends)
	lacks := a.sm.last + 500
	c.await("records that it lacks", func() bool { return a.sm.last >= lacks })
	away.start(false)
	c.await("member that has the log beside appends", func() bool {
		has, _ := away.store.LastIndex()
		last, _ := a.store.LastIndex()
		return has+8 >= last
	})
	stop()
	c.finishAfterTwo()
	return c
}

// outrunAppends are on their way at a time: more than old entries are in as long a time.
const outrunAppends = 16

// TestG8_OutrunHoldsAppends: a member that gets less than is appended catches up, since appends are held back for it.
func TestG8_OutrunHoldsAppends(t *testing.T) { seeds(t, outrun) }
