package core

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// A member that catches up takes what the disks, the network and the processors have left: live appends come first. So old
// entries go to it piece by piece. The next piece leaves when the one before has been answered, or so many are on their way
// as the distance is long; and while batches of this leader are being committed, there is a pause between two pieces, as a
// share of the time that one takes. A piece takes longer where others want the same disk or processor, and so does the
// pause. Where nobody appends there is none, and neither is there one where nothing is committed: then it may be this very
// member that is waited for. And it is the shorter the more was appended since the piece before,
// and there is none where that is a third of a piece: that much the member would get if it did not lag, and no more than that brings it no nearer.
// Where even without a pause it does not get twice what is appended, more pieces are under way at a time: one after the other
// may be less than what is appended, and then the member would lag for as long as anybody appends.

// A flow is how old entries get on to one member that lags.
type flow struct {
	trip    time.Duration // the shortest time of a heartbeat there and back
	takes   time.Duration // a piece, on average, without that
	pieces  []piece       // on their way
	lastOut time.Duration // when the last one left
	given   uint64        // where that ends
	beside  uint64        // bytes of this leader's batches that were committed by then
	owed    int           // bytes that are to leave before the next batch is proposed (outrun.go)
	rest    time.Duration // the pause, in parts of restUnit of what a piece takes
	wide    int           // pieces that are on their way besides, since the member comes no nearer with fewer
	fresh   float64       // what is appended between two pieces, as parts of one, on average
	outrun  outrun        // whether it comes nearer
}

// PieceBytes is how large a piece is, if one entry is not larger: a disk that does one thing after the other has an append wait for all of it, to be read here and
// to be written there. Two full batches fit in, also where the last record of each is a large one.
const PieceBytes = 2*FullBatch + 32<<10

// A piece is what was put on the shelf at a time.
type piece struct {
	hi uint64
	at time.Duration
}

const (
	liveFor    = 100 * time.Millisecond // for so long after a batch was committed, others are expected
	idleAhead  = 4                      // pieces that are on their way beyond what the distance asks for, where nobody appends
	maxPieces  = 64                     // on their way at most
	restUnit   = 8                      // parts of what a piece takes, in which pauses are counted
	restMost   = 9                      // the longest pause: the member gets nearly half of the time, whatever appends suffer
	restMore   = 2                      // by which it grows after a piece
	gains      = 3                      // times as much as is appended, that the member gets without a pause
	nears      = 2                      // times as much, below which more pieces are under way
	freshPart  = 8                      // one part of so many of a new figure goes into an average: pieces and batches leave in bunches
	shortTakes = 50 * time.Microsecond  // the least that a piece is taken to take
)

// heard takes the time of a heartbeat there and back.
func (f *flow) heard(took time.Duration) {
	if f.trip == 0 || took < f.trip {
		f.trip = took
	}
}

// answered takes note of how far the member is, and forgets what must have been lost. strained: batches take longer than without
// it.
func (f *flow) answered(now time.Duration, match uint64, strained bool, lost time.Duration) {
	for len(f.pieces) > 0 && f.pieces[0].hi <= match+1 {
		took := max(now-f.pieces[0].at-f.trip, shortTakes)
		if f.takes == 0 {
			f.takes = took
		}
		smooth(&f.takes, took)
		f.pieces = f.pieces[1:]
		if strained {
			f.rest = min(f.rest+restMore, restMost)
		} else {
			f.rest = max(f.rest-1, 0)
		}
	}
	f.pieces = slices.DeleteFunc(f.pieces, func(p piece) bool { return now-p.at > lost })
}

// ahead is how many pieces are on their way as the distance is long, and for the member to come nearer.
func (f *flow) ahead() int {
	return 1 + f.wide + int(min(f.trip/max(f.takes, shortTakes), maxPieces-1))
}

// gave takes note of a piece that leaves to a member that lacks so many entries. fresh: as many bytes were committed since the one before, as parts
// of the piece.
func (f *flow) gave(now time.Duration, r *run, committed uint64, live bool, fresh float64, lacks uint64) {
	f.given, f.lastOut, f.beside, f.owed = r.hi(), now, committed, max(f.owed-r.bytes, 0)
	f.pieces = append(f.pieces, piece{hi: f.given, at: now})
	f.fresh += (fresh - f.fresh) / freshPart
	if live && nears*f.fresh > 1 {
		f.wide = min(f.wide+1, idleAhead)
	} else {
		f.wide = max(f.wide-1, 0)
	}
	if f.wide == idleAhead {
		f.outrun.look(now, lacks)
	} else {
		f.outrun = outrun{}
	}
}

// room returns when the next piece may leave: now, later, or never without an answer. fresh: as many bytes were appended
// since the one before, as parts of the piece.
func (f *flow) room(now time.Duration, live bool, fresh float64) time.Duration {
	ahead := f.ahead()
	if !live {
		ahead += idleAhead - f.wide
	}
	switch {
	case len(f.pieces) >= ahead:
		return now + never
	case live:
		pause := f.takes * f.rest / restUnit
		return f.lastOut + (f.takes+time.Duration(float64(pause)*(1-min(gains*fresh, 1))))/time.Duration(1+f.wide)
	}
	return now
}

// release puts what was fetched on the shelf when its time has come, and lets raft ask again for what it was told is not
// there.
func (c *Core) release(now time.Duration) {
	s := &c.shelf
	s.releaseAt = now + never
	live := c.pace.live(now)
	if len(s.runs) == 0 && len(c.flows) == 0 {
		return
	}
	if c.state != raft.StateLeader {
		c.probe = probe{}
		clear(c.flows)
		for i := range s.runs {
			s.runs[i].held, s.runs[i].shared = false, true // what is to be applied
		}
		return
	}
	for i := range s.runs {
		if r := &s.runs[i]; r.from <= c.pos.Raft+1 && c.pos.Raft+1 < r.hi() {
			r.held, r.shared = false, true
		}
	}
	probing, until := c.probes(now, live)
	var again []uint64
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		f := c.flows[id]
		if id == c.cfg.ID || !p.RecentActive || p.State == tracker.StateSnapshot {
			return
		}
		i := slices.IndexFunc(s.runs, func(r run) bool { return r.lo <= p.Next && p.Next < r.hi() })
		switch {
		case i < 0 || !s.runs[i].held && f != nil && f.given >= s.runs[i].hi():
			return
		case f == nil:
			f = &flow{rest: restMost, beside: c.pace.committedBytes} // live appends come first, also before it is known what they suffer
			if c.flows == nil {
				c.flows = map[uint64]*flow{}
			}
			c.flows[id] = f
		}
		fresh := float64(c.pace.committedBytes-f.beside) / float64(s.runs[i].bytes)
		at := f.room(now, live, fresh)
		if probing {
			at = max(at, until)
		}
		if at > now {
			s.releaseAt = min(s.releaseAt, at)
			return
		}
		c.probe.pieces++
		s.runs[i].held = false
		last, _ := s.LastIndex()
		f.gave(now, &s.runs[i], c.pace.committedBytes, live, fresh, last-p.Match)
		again = append(again, id)
	})
	for _, id := range again { // as if it had answered a heartbeat, as it will anyway
		_ = c.node.Step(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), To: &c.cfg.ID, From: new(id), Term: new(c.term)})
	}
}

// probes takes note of how far those that lag are, and reports whether a probe holds back what they get next, and until when at most.
func (c *Core) probes(now time.Duration, live bool) (holds bool, until time.Duration) {
	if len(c.flows) == 0 {
		c.probe = probe{}
		return false, 0
	}
	strained, underway, ahead := c.pace.strain.Strained(), false, 1
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		f := c.flows[id]
		if f == nil {
			return
		}
		f.answered(now, p.Match, strained, c.cfg.ElectionTimeout)
		if len(f.pieces) == 0 && now-f.lastOut > c.cfg.ElectionTimeout {
			delete(c.flows, id) // it has all, or is gone
		}
		underway, ahead = underway || len(f.pieces) > 0, max(ahead, f.ahead())
	})
	if !live || len(c.flows) != 1 { // of two that lag, the faster one must not wait for the pieces of the other
		c.probe = probe{}
		return false, 0
	}
	until, holds = c.probe.hold(now, c.pace.soon(), probeEvery*ahead, underway)
	return holds, until
}
