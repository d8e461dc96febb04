package histories

import (
	"encoding/gob"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/baton-ha/baton/ha"
)

// A machine has registers and queues, and answers.
type machine struct {
	mu    sync.Mutex // guards state
	state state
}

type state struct {
	Registers map[string]int64
	Queues    map[string][]int64
}

// WriteTo implements io.WriterTo.
func (s state) WriteTo(w io.Writer) (int64, error) { return 0, gob.NewEncoder(w).Encode(s) }

func newMachine() *machine {
	return &machine{state: state{Registers: map[string]int64{}, Queues: map[string][]int64{}}}
}

// Apply implements ha.StateMachine, and is not called.
func (m *machine) Apply([]ha.Entry) error { panic("it answers") }

// Answer implements ha.Answerer.
func (m *machine) Answer(entries []ha.Entry) (answers [][]byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		answers = append(answers, []byte(m.do(string(e.Data))))
	}
	return answers, nil
}

// do carries a command out: add KEY N answers with the sum, set KEY N with the old value, get KEY with the value, enq KEY N with how many are in the
// queue, deq KEY with the oldest, or with empty. Each answer tells what came before: what was put in at the same time, in one order or the other, would have the
// judge try all of them where it is taken out much later.
func (m *machine) do(command string) string {
	var op, key string
	var n int64
	_, _ = fmt.Sscan(command, &op, &key, &n)
	r, q := m.state.Registers, m.state.Queues
	switch old := r[key]; op {
	case "add":
		r[key] += n
		return fmt.Sprint(r[key])
	case "set":
		r[key] = n
		return fmt.Sprint(old)
	case "get":
		return fmt.Sprint(old)
	case "enq":
		q[key] = append(q[key], n)
		return fmt.Sprint(len(q[key]))
	case "deq":
		if len(q[key]) == 0 {
			return "empty"
		}
		n, q[key] = q[key][0], q[key][1:]
		return fmt.Sprint(n)
	}
	return "what?"
}

// get reads a register.
func (m *machine) get(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Sprint(m.state.Registers[key])
}

// keys returns which registers and queues there are.
func (m *machine) keys() (registers, queues []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.state.Registers)), slices.Sorted(maps.Keys(m.state.Queues))
}

// Snapshot implements ha.StateMachine.
func (m *machine) Snapshot() (io.WriterTo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := state{Registers: maps.Clone(m.state.Registers), Queues: map[string][]int64{}}
	for k, q := range m.state.Queues {
		s.Queues[k] = slices.Clone(q)
	}
	return s, nil
}

// Restore implements ha.StateMachine.
func (m *machine) Restore(r io.Reader) error {
	s := newMachine().state
	if err := gob.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	return nil
}
