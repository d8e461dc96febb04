package raftfsm

import (
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/baton-ha/baton/ha"
)

// Config says how a [Machine] answers. The zero value will do.
type Config struct {
	// Encode makes bytes of what Apply has returned, for [ha.Node.Call] and the like. It is called on every member, for each record whose result is not
	// nil, and must be deterministic. Nil: [Encode], which [Call] understands.
	Encode func(result any) []byte
}

// A Machine is an FSM as a [ha.StateMachine], and an [ha.Answerer]. Each member needs one of its own, with an FSM of its own.
type Machine struct {
	fsm    raft.FSM
	batch  raft.BatchingFSM // nil: it is none
	encode func(any) []byte
	held   *capture // the last one, which may never be written; owned by who calls the state machine

	index, epoch uint64 // of the last record; owned by who calls the state machine

	mu      sync.Mutex // guards what follows
	applied uint64     // records
	waiting []*waiter  // in the order in which they came
	first   uint64     // the record of results[0]
	results []any      // of records that somebody who waits may have appended
}

// A waiter is an append under way on this member.
type waiter struct {
	after uint64 // its record comes after this one
	done  bool
}

// New returns an FSM as a state machine.
func New(fsm raft.FSM, cfg Config) *Machine {
	m := &Machine{fsm: fsm, encode: cfg.Encode}
	m.batch, _ = fsm.(raft.BatchingFSM)
	if m.encode == nil {
		m.encode = Encode
	}
	return m
}

// Apply implements [ha.StateMachine].
func (m *Machine) Apply(entries []ha.Entry) error {
	_, err := m.apply(entries)
	return err
}

// Answer implements [ha.Answerer].
func (m *Machine) Answer(entries []ha.Entry) ([][]byte, error) {
	results, err := m.apply(entries)
	if err != nil {
		return nil, err
	}
	var answers [][]byte
	for i, r := range results {
		if r == nil {
			continue
		}
		if answers == nil {
			answers = make([][]byte, len(entries))
		}
		answers[i] = m.encode(r)
	}
	return answers, nil
}

// apply gives records to the FSM, and keeps the results for those who wait.
func (m *Machine) apply(entries []ha.Entry) (results []any, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	logs, all := make([]raft.Log, len(entries)), make([]*raft.Log, len(entries))
	for i, e := range entries {
		logs[i] = raft.Log{Index: e.Index, Term: e.Epoch, Type: raft.LogCommand, Data: e.Data}
		all[i] = &logs[i]
	}
	if m.batch != nil {
		results = m.batch.ApplyBatch(all)
		if len(results) != len(all) {
			return nil, fmt.Errorf("raftfsm: ApplyBatch has returned %d results to %d records", len(results), len(all))
		}
	} else {
		results = make([]any, len(all))
		for i, l := range all {
			results[i] = m.fsm.Apply(l)
		}
	}
	last := entries[len(entries)-1]
	m.index, m.epoch = last.Index, last.Epoch
	m.keep(entries[0].Index, results)
	return results, nil
}

// Snapshot implements [ha.StateMachine].
func (m *Machine) Snapshot() (io.WriterTo, error) {
	m.held.release()
	m.held = nil
	snap, err := m.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	if snap == nil {
		return nil, fmt.Errorf("raftfsm: Snapshot of %T has returned none", m.fsm)
	}
	m.held = newCapture(snap, m.epoch, m.index)
	return m.held, nil
}

// Restore implements [ha.StateMachine].
func (m *Machine) Restore(r io.Reader) error {
	m.held.release()
	m.held = nil
	m.forget()
	return m.fsm.Restore(io.NopCloser(r))
}
