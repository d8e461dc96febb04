package ha

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
)

// This is the program that appends in a simulation, and its state machine.

// simAppend is an append that waits for its fate.
type simAppend struct {
	log.Appended
	value uint64
}

// simMachine adds records to a hash.
type simMachine struct {
	last, hash uint64
}

func (s *simMachine) apply(e log.Entry) {
	s.last = e.Index
	s.hash = s.hash*1099511628211 ^ valueOf(e) ^ e.Index<<32
}

// answer appends what it says to a record that it has just applied.
func (s *simMachine) answer(b []byte, e log.Entry) []byte {
	return binary.LittleEndian.AppendUint64(b, valueOf(e)^e.Index<<32)
}

// WriteTo implements io.WriterTo; a simMachine is its own snapshot.
func (s simMachine) WriteTo(w io.Writer) (int64, error) {
	b := binary.LittleEndian.AppendUint64(nil, s.last)
	n, err := w.Write(binary.LittleEndian.AppendUint64(b, s.hash))
	return int64(n), err
}

func valueOf(e log.Entry) uint64 { return binary.LittleEndian.Uint64(e.Data) }

// tokenOf is the epoch of the token that the record was appended with.
func tokenOf(e log.Entry) uint64 { return binary.LittleEndian.Uint64(e.Data[8:]) }

// client plays the program that appends while it is active.
func (m *simMember) client() {
	every := m.c.cfg.appendEvery
	if every == 0 {
		return
	}
	m.after(time.Duration(m.c.w.Rand.ExpFloat64()*float64(every))+1, m.happens.appends)
}

func (m *simMember) appends() {
	if t := m.tenure; t != nil && m.holds(t) {
		for range 1 + m.c.w.Rand.IntN(3) {
			m.append(t.token)
		}
	}
	m.client()
}

// append does what Node.Append does. Now and then some time passes between the check of the token and
// the arrival at the loop.
func (m *simMember) append(t fence.Token) uint64 {
	m.c.value++
	v := m.c.value
	record := slices.Grow(m.c.room[:0], 16+64+m.c.bulk)[:16+m.c.w.Rand.IntN(64)+m.c.bulk] // which the loop copies
	m.c.room = record
	binary.LittleEndian.PutUint64(record, v)
	binary.LittleEndian.PutUint64(record[8:], t.Epoch)
	if m.c.w.Chance(0.05) {
		record := slices.Clone(record)
		m.after(m.c.w.Between(0, 2*m.c.cfg.election), func() { m.arrive(t.Epoch, v, record) })
	} else {
		m.arrive(t.Epoch, v, record)
	}
	return v
}

// arrive brings an append to the loop.
func (m *simMember) arrive(epoch, value uint64, record []byte) {
	a, err := m.loop.Append(epoch, record)
	if err != nil {
		m.c.check.refused(value, err)
		return
	}
	m.asked = append(m.asked, simAppend{a, value})
	m.rouse()
}

// answer tells the checker the fates that have become known, of each batch at a time.
func (m *simMember) answer() {
	left := m.asked[:0]
	for asked := m.asked; len(asked) > 0; {
		n := 1
		for n < len(asked) && asked[n].Batch() == asked[0].Batch() && m.c.cfg.calls == 0 { // callers' records may be between them
			n++
		}
		first, known, err := asked[0].Fate()
		switch {
		case !known:
			left = append(left, asked[:n]...)
		case err == nil || err == log.ErrAnswerLost:
			var values []uint64
			for i, a := range asked[:n] {
				values = append(values, a.value)
				r, _, _ := a.Fate()
				if r.Index != first.Index+uint64(i) {
					m.c.check.fail("%s was told index %d for the record after the one at %d", m.name, r.Index, first.Index+uint64(i)-1)
				}
				if err == nil {
					m.c.check.answered(m, a.value, r)
				}
			}
			m.c.check.acked(m, first.Index, values)
		case !errors.Is(err, log.ErrUnknown):
			for _, a := range asked[:n] {
				m.c.check.refused(a.value, err)
			}
		}
		asked = asked[n:]
	}
	m.asked = left
}
