package main

import (
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/baton-ha/baton/ha"
)

// A change is a record of the log: a key gets a value, or is deleted.
type change struct {
	Key    string `json:"key"`
	Value  []byte `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
}

// A store is the state machine: all keys with their values, the same on every member.
type store struct {
	mu     sync.RWMutex // guards values; what a value points to is not changed
	values map[string][]byte
}

func newStore() *store { return &store{values: map[string][]byte{}} }

func (s *store) get(key string) (value []byte, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, ok = s.values[key]
	return value, ok
}

// Apply implements [ha.StateMachine].
func (s *store) Apply(entries []ha.Entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		var c change
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return fmt.Errorf("record %d: %w", e.Index, err)
		}
		if c.Delete {
			delete(s.values, c.Key)
		} else {
			s.values[c.Key] = c.Value
		}
	}
	return nil
}

// A snapshot is the state at one record.
type snapshot map[string][]byte

// WriteTo implements [io.WriterTo].
func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	n := &counting{w: w}
	err := gob.NewEncoder(n).Encode(map[string][]byte(s))
	return n.n, err
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Snapshot implements [ha.StateMachine]. The log goes on while it is written.
func (s *store) Snapshot() (io.WriterTo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return snapshot(maps.Clone(s.values)), nil
}

// Restore implements [ha.StateMachine].
func (s *store) Restore(r io.Reader) error {
	values := map[string][]byte{}
	if err := gob.NewDecoder(r).Decode(&values); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = values
	return nil
}
