package raftfsm

import (
	"context"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// Append appends a command on the Active, as [ha.Node.Append] does on the node whose StateMachine this is, and returns what Apply has returned for it here: it is raft's
// Apply(command).Response(). An error that the FSM returns is a result. The errors are those of [ha.Node.AppendBatch]; [ha.ErrAnswerLost] comes with
// the index where the record is.
func (m *Machine) Append(ctx context.Context, n *ha.Node, t fence.Token, command []byte) (result any, index uint64, err error) {
	w := m.wait()
	defer m.done(w)
	r, err := n.AppendBatch(ctx, t, command)
	if err != nil {
		return nil, r.Index, err
	}
	result, ok := m.result(r.Index)
	if !ok { // a snapshot has come in between
		return nil, r.Index, ha.ErrAnswerLost
	}
	return result, r.Index, nil
}

// wait says that somebody will ask for the result of a record that is not applied yet.
func (m *Machine) wait() *waiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &waiter{after: m.applied}
	m.waiting = append(m.waiting, w)
	return w
}

// done says that he will not ask any more. Results that nobody can ask for are dropped.
func (m *Machine) done(w *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.done = true
	for len(m.waiting) > 0 && m.waiting[0].done {
		m.waiting = m.waiting[1:]
	}
	if len(m.waiting) == 0 {
		m.waiting, m.results = nil, nil
		return
	}
	if after := m.waiting[0].after; after >= m.first {
		old := min(after+1-m.first, uint64(len(m.results)))
		clear(m.results[:old])
		m.results, m.first = m.results[old:], m.first+old
	}
}

// keep takes results, of records from first on.
func (m *Machine) keep(first uint64, results []any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = first + uint64(len(results)) - 1
	if len(m.waiting) == 0 {
		return
	}
	if len(m.results) == 0 {
		m.first = first
	}
	m.results = append(m.results, results...)
}

// forget drops all results: what comes next is another state.
func (m *Machine) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied, m.results = 0, nil
}

func (m *Machine) result(index uint64) (any, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if index < m.first || index-m.first >= uint64(len(m.results)) {
		return nil, false
	}
	return m.results[index-m.first], true
}
