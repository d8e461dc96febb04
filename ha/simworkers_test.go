package ha

import (
	"slices"
	"time"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/log"
)

// This is what the goroutines beside the loop do in a simulation, one thing after the other and each after a while: they write, read and apply.

// write completes writes, as a group, after a while.
func (m *simMember) write() {
	if len(m.writing) > 0 || len(m.writes) == 0 {
		return
	}
	m.writing, m.writes = m.writes, m.written
	d := m.c.w.Between(50*time.Microsecond, 2*time.Millisecond)
	if left := m.stalledTo - m.c.w.Now(); left > 0 {
		d += left
	}
	m.after(d, m.happens.persisted)
}

func (m *simMember) persisted() {
	if err := m.store.Persist(m.writing); err != nil {
		m.c.check.fail("%s: persist: %v", m.name, err)
	}
	if m.c.w.Chance(0.05) {
		m.safe = *m.disk
	}
	for _, w := range m.writing {
		for _, msg := range w.Send {
			m.c.carry(m, msg)
		}
	}
	m.loop.Written(m.writing)
	m.rouse()
	clear(m.writing)
	m.writing, m.written = nil, m.writing[:0]
	m.write()
}

// probe writes to the disk for the role.
func (m *simMember) probe() {
	took := m.c.w.Between(50*time.Microsecond, 2*time.Millisecond) + max(m.stalledTo-m.c.w.Now(), 0)
	m.after(took, func() {
		m.quick++
		if took > m.timing.election/2 {
			m.quick = 0
		}
		m.post(diskProbed{took: took})
	})
}

// fetch reads old entries, one after the other, each after a while: a disk that stands still does not answer.
func (m *simMember) fetch() {
	if m.fetching || len(m.fetches) == 0 {
		return
	}
	m.fetching = true
	d := m.c.w.Between(20*time.Microsecond, m.c.cfg.read)
	if left := max(m.stalledTo, m.readsAt) - m.c.w.Now(); left > 0 {
		d += left
	}
	m.after(d, m.happens.fetched)
}

func (m *simMember) fetched() {
	f := m.fetches[0]
	m.fetches, m.fetching = m.fetches[1:], false
	m.post(m.store.Fetch(f))
	m.fetch()
}

// apply completes applies, one after the other.
func (m *simMember) apply() {
	if m.applying || len(m.applies) == 0 {
		return
	}
	m.applying = true
	m.after(m.applyEvery+m.c.w.Between(0, m.c.cfg.slowApply), m.happens.applied)
}

func (m *simMember) applied() {
	if m.hurried > 0 {
		m.hurried--
		return
	}
	m.applyNext()
}

func (m *simMember) applyNext() {
	a := m.applies[0]
	m.applies, m.applying = slices.Delete(m.applies, 0, 1), false
	if a.Snapshot != nil {
		if err := m.restore(a.Snapshot); err != nil {
			m.c.check.fail("%s: restore: %v", m.name, err)
		}
		m.c.check.restored(m)
	}
	m.records = a.AppendRecords(m.records[:0])
	answers, room := make([][]byte, 0, len(m.records)), make([]byte, 0, 8*len(m.records))
	for _, e := range m.records {
		m.c.check.applied(m, e)
		m.sm.apply(e)
		at := len(room)
		room = m.sm.answer(room, e)
		answers = append(answers, room[at:])
	}
	if err := m.loop.Applied(a, answers); err != nil { // as the applier does: the appenders do not wait for the loop
		m.c.check.fail("%s: apply: %v", m.name, err)
	}
	if m.arbiter {
		if from, due := m.checks.Want(a); due {
			m.post(core.Want{From: from})
		}
	} else if at, due := m.checks.Due(a, nil); due {
		m.save(at)
	}
	m.answer()
	m.readOn()
	m.answerCalls()
	m.rouse()
	m.apply()
}

// save makes a checkpoint after a while, of the state machine as it is now.
func (m *simMember) save(at log.Place) {
	capture := *m.sm
	m.after(m.c.w.Between(0, 20*time.Millisecond), func() {
		if err := m.checks.Save(at, capture); err != nil {
			m.c.check.fail("%s: checkpoint: %v", m.name, err)
		}
	})
}
