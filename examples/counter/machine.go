package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/baton-ha/baton/ha"
)

// An increment is a record of the log.
type increment struct {
	N      int64  `json:"n"`
	Client string `json:"client,omitempty"` // "" if it is not to be recognised when it comes again
	Seq    uint64 `json:"seq,omitempty"`
}

func (in increment) encode() []byte {
	b, err := json.Marshal(in)
	if err != nil {
		panic(err) // numbers and strings always have a form
	}
	return b
}

// A counter is the state machine. An increment that is repeated is counted once: a client numbers
// its increments 1, 2, 3 … and sends the next when it knows the fate of the last, so it is enough to
// keep each one's highest number.
//
// It remembers at least the last maxClients clients. A client must not pause between two sends of
// the same increment for longer than it takes that many others to come along.
type counter struct {
	mu    sync.Mutex // guards state: Apply writes it, requests read it
	state state
}

// A state is all that a member knows, and is what a snapshot holds.
type state struct {
	Value  int64
	Index  uint64           // of the last record in it
	Recent map[string]tally // the clients heard of lately
	Before map[string]tally // and those before them; both are bounded
}

// A tally is what is kept of one client.
type tally struct {
	Seq uint64 `json:"seq"` // its last increment
	Sum int64  `json:"sum"` // of all that it has added
}

const maxClients = 10_000

func newCounter() *counter { return &counter{state: state{Recent: map[string]tally{}}} }

// Apply implements [ha.StateMachine].
func (c *counter) Apply(entries []ha.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		var in increment
		if err := json.Unmarshal(e.Data, &in); err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		c.state.add(in)
		c.state.Index = e.Index
	}
	return nil
}

func (s *state) add(in increment) {
	if in.Client != "" {
		t := s.client(in.Client)
		if in.Seq <= t.Seq {
			return // counted already
		}
		if len(s.Recent) >= maxClients {
			s.Before, s.Recent = s.Recent, map[string]tally{}
		}
		s.Recent[in.Client] = tally{Seq: in.Seq, Sum: t.Sum + in.N}
	}
	s.Value += in.N
}

func (s *state) client(name string) tally {
	if t, ok := s.Recent[name]; ok {
		return t
	}
	return s.Before[name]
}

// Snapshot implements [ha.StateMachine]. The state is small, so it is encoded at once.
func (c *counter) Snapshot() (io.WriterTo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := json.Marshal(c.state)
	return snapshot(b), err
}

type snapshot []byte

// WriteTo implements [io.WriterTo].
func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s)
	return int64(n), err
}

// Restore implements [ha.StateMachine].
func (c *counter) Restore(r io.Reader) error {
	var s state
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	return nil
}

// value returns the value, and the index of the last record counted in.
func (c *counter) value() (value int64, index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Value, c.state.Index
}

// client returns what one client has added.
func (c *counter) client(name string) tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.client(name)
}
