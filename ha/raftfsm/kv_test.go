package raftfsm_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/hashicorp/raft"
)

// A store is a key-value FSM as there are many: commands in JSON, a map under a lock, a snapshot that is a copy of it. Nothing in it knows of baton.
type store struct {
	mu       sync.Mutex
	m        map[string]string
	restored int
}

type command struct{ Op, Key, Value string }

func (s *store) Apply(l *raft.Log) any {
	var c command
	if err := json.Unmarshal(l.Data, &c); err != nil {
		return fmt.Errorf("command %d: %w", l.Index, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.Op {
	case "set":
		s.m[c.Key] = c.Value
		return nil
	case "delete":
		if _, ok := s.m[c.Key]; !ok {
			return errors.New("no such key")
		}
		delete(s.m, c.Key)
		return nil
	case "append": // which takes effect twice if it is applied twice
		s.m[c.Key] += c.Value
		return s.m[c.Key]
	case "len":
		return len(s.m)
	}
	return []byte(s.m[c.Key])
}

func (s *store) Snapshot() (raft.FSMSnapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &image{maps.Clone(s.m)}, nil
}

func (s *store) Restore(r io.ReadCloser) error {
	defer r.Close()
	m := map[string]string{}
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m = m
	s.restored++
	return nil
}

func (s *store) all() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.m)
}

type image struct{ m map[string]string }

func (i *image) Persist(sink raft.SnapshotSink) error {
	err := func() error {
		b, err := json.Marshal(i.m)
		if err != nil {
			return err
		}
		if _, err := sink.Write(b); err != nil {
			return err
		}
		return sink.Close()
	}()
	if err != nil {
		sink.Cancel()
	}
	return err
}

func (i *image) Release() {}

// A batching store is one that takes many at a time.
type batching struct{ store }

func (b *batching) ApplyBatch(logs []*raft.Log) []any {
	var all []any
	for _, l := range logs {
		if l.Type == raft.LogCommand {
			all = append(all, b.Apply(l))
		} else {
			all = append(all, nil)
		}
	}
	return all
}

func encode(op, key, value string) []byte {
	b, _ := json.Marshal(command{op, key, value})
	return b
}
