package ha

import (
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/log"
)

// These are callers outside the cluster, whose requests have ids: they ask again until they are answered, whoever is Active then, some
// requests several times at once, and some that were answered long ago.

// simCaller is one of them.
type simCaller struct {
	c       *simCluster
	session log.SessionID
	next    uint64     // number
	calls   []*simCall // the latest, by number
}

// simCall is one request of a caller.
type simCall struct {
	number, value uint64
	answered      bool
	result        log.Result
}

// simAsk is a request that a member has taken.
type simAsk struct {
	log.Appended
	caller *simCaller
	call   *simCall
}

// callers begin to call.
func (c *simCluster) callers(n int) {
	for range n {
		(&simCaller{c: c, next: 1}).live()
	}
}

// live does something now and then.
func (s *simCaller) live() {
	s.c.w.After(time.Duration(s.c.w.Rand.ExpFloat64()*float64(s.c.cfg.calls))+1, func() {
		if s.c.healed {
			return
		}
		if m := s.member(); m != nil {
			s.act(m)
		}
		s.live()
	})
}

// member is whom the caller takes for the Active: the one that is, or somebody who leads, and may not be it yet.
func (s *simCaller) member() *simMember {
	for _, m := range s.c.members {
		if m.process.Up() && !m.process.Paused() && m.role.lead.leading && m.tenure == nil && m.core.Epoch().Holder == m.name && s.c.w.Chance(0.9) {
			return m
		}
	}
	if a := s.c.active(); a != nil && s.c.w.Chance(0.7) {
		return a
	}
	m := s.c.members[s.c.w.Rand.IntN(len(s.c.members))]
	if !m.process.Up() || m.process.Paused() || !m.role.lead.leading {
		return nil
	}
	return m
}

// epoch is the one in which a member takes requests: that of its token, or the last one that has been committed where the member
// has not become Active yet, which is too early.
func (m *simMember) epoch() uint64 {
	if t := m.tenure; t != nil && t.open {
		return t.token.Epoch
	}
	return m.core.Epoch().Epoch
}

// done is below which number all is answered.
func (s *simCaller) done() uint64 {
	for _, call := range s.calls {
		if !call.answered {
			return call.number
		}
	}
	return s.next
}

func (s *simCaller) act(m *simMember) {
	w := s.c.w
	if s.session == (log.SessionID{}) {
		if t := m.tenure; t != nil && t.open { // only a token gives the right to do it
			s.session, _ = m.loop.OpenSession(t.token.Epoch)
		}
		return
	}
	open := slices.DeleteFunc(slices.Clone(s.calls), func(c *simCall) bool { return c.answered })
	if len(open) < 3 && w.Chance(0.5) {
		s.c.value++
		call := &simCall{number: s.next, value: s.c.value}
		s.next++
		s.calls = append(s.calls, call)
		if len(s.calls) > 20 && s.calls[0].answered {
			s.calls = s.calls[1:]
		}
	}
	if len(s.calls) == 0 {
		return
	}
	call := s.calls[w.Rand.IntN(len(s.calls))]
	id := log.RequestID{Session: s.session, Number: call.number, Done: min(s.done(), call.number)}
	for range 1 + w.Rand.IntN(2) { // some are repeated by the network, too
		w.After(w.Between(0, s.c.cfg.delay), func() { m.process.Do(func() { m.ask(s, call, id) }) })
	}
}

// ask does what Node does for a call without a handler.
func (m *simMember) ask(s *simCaller, call *simCall, id log.RequestID) {
	epoch := m.epoch()
	record := binary.LittleEndian.AppendUint64(nil, call.value)
	record = append(binary.LittleEndian.AppendUint64(record, epoch), make([]byte, m.c.w.Rand.IntN(64))...)
	a, err := m.loop.AppendOnce(epoch, id, record)
	switch {
	case err == nil:
		m.asks = append(m.asks, simAsk{a, s, call})
		m.rouse()
		m.answerCalls()
	case errors.Is(err, log.ErrSessionExpired) && !call.answered:
		m.c.check.fail("%s says of request %d of session %v, which was not answered: %v (G10)", m.name, call.number, s.session, err)
	}
}

// answerCalls hands on the fates that have become known.
func (m *simMember) answerCalls() {
	m.asks = slices.DeleteFunc(m.asks, func(a simAsk) bool {
		r, known, err := a.Fate()
		if err == log.ErrAnswerLost && a.call.number >= a.caller.done() {
			m.c.check.fail("%s has no answer to request %d of session %v, which is kept (G10)", m.name, a.call.number, a.caller.session)
		}
		if known && err == nil {
			m.c.w.After(m.c.w.Between(0, m.c.cfg.delay), func() { a.caller.answered(m, a.call, r) })
		}
		return known
	})
}

// answered is told what has become of a request.
func (s *simCaller) answered(m *simMember, call *simCall, r log.Result) {
	k := &s.c.check
	if s.c.w.Chance(0.2) && !s.c.healed {
		return // the answer is lost
	}
	k.answers++
	k.answered(m, call.value, r)
	if at := k.place(call.value); at != r.Index {
		k.fail("%s says that request %d with value %d is record %d, and it is record %d (G10)", m.name, call.number, call.value, r.Index, at)
	}
	if call.answered && call.result.Index != r.Index {
		k.fail("request %d was answered as record %d and as record %d (G10)", call.number, call.result.Index, r.Index)
	}
	call.answered, call.result = true, r
}

// callers is T2 with callers.
func callers(seed uint64) *simCluster {
	cfg := t2(seed)
	cfg.calls, cfg.fault = 10*time.Millisecond, min(cfg.fault, 600*time.Millisecond)
	cfg.slowApply *= 4
	c := newSim(cfg)
	c.w.Run(10*time.Second, func() bool { return len(c.check.faults) > 0 })
	c.finish()
	return c
}

// recalled lets Actives that callers call hear nothing any more, so long that what they have sent out comes back to them in a snapshot.
func recalled(seed uint64) *simCluster {
	cfg := defaultSim(seed)
	cfg.calm, cfg.calls, cfg.appendEvery, cfg.checkpoint = true, time.Hour, 5*time.Millisecond, 1<<10
	c := newSim(cfg)
	settle := func(d time.Duration) { c.w.Run(c.w.Now()+d, func() bool { return len(c.check.faults) > 0 }) }
	s := &simCaller{c: c, next: 1}
	for range 5 {
		if !c.await("active", func() bool { return c.active() != nil }) {
			return c
		}
		settle(300 * time.Millisecond)
		if a := c.active(); a != nil {
			s.act(a)
			for _, o := range c.members {
				c.partition(a, o, false, true, 2*time.Second)
			}
			for range 10 {
				s.act(a)
				settle(5 * time.Millisecond)
			}
		}
		settle(3 * time.Second)
	}
	c.finish()
	return c
}

// TestG10_Recalled: a member that was Active knows the answers to what comes back to it in a snapshot.
func TestG10_Recalled(t *testing.T) { seeds(t, recalled) }

// TestG10_Callers: a request that is asked again and again takes effect once, and has one answer.
func TestG10_Callers(t *testing.T) {
	var answers atomic.Int64
	seeds(t, func(seed uint64) *simCluster {
		c := callers(seed)
		answers.Add(int64(c.check.answers))
		return c
	})
	t.Logf("%d answers", answers.Load())
	if answers.Load() < 100 {
		t.Error("hardly anybody was answered")
	}
}
