// Package kv is one state machine that runs on hashicorp/raft and, by ha/raftfsm, on baton: keys and values as there are in the examples of both.
package kv

import (
	"encoding/gob"
	"errors"
	"io"
	"maps"
	"sync"

	"github.com/hashicorp/raft"
)

const keySize = 16

var errShort = errors.New("a command is a key of 16 bytes and a value")

// An FSM is the keys and values. A command sets one, and its result is the value from before.
type FSM struct {
	mu sync.RWMutex
	m  map[string][]byte
}

// New returns an empty FSM.
func New() *FSM { return &FSM{m: map[string][]byte{}} }

// Len returns how many keys there are.
func (f *FSM) Len() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.m)
}

// Apply implements [raft.FSM].
func (f *FSM) Apply(l *raft.Log) any {
	if len(l.Data) < keySize {
		return errShort
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := string(l.Data[:keySize])
	before := f.m[key]
	f.m[key] = l.Data[keySize:]
	return before
}

// ApplyBatch implements [raft.BatchingFSM].
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	all := make([]any, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			all[i] = f.Apply(l)
		}
	}
	return all
}

// Snapshot implements [raft.FSM].
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return image(maps.Clone(f.m)), nil
}

// Restore implements [raft.FSM].
func (f *FSM) Restore(r io.ReadCloser) error {
	m := map[string][]byte{}
	if err := errors.Join(gob.NewDecoder(r).Decode(&m), r.Close()); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.m = m
	return nil
}

type image map[string][]byte

// Persist implements [raft.FSMSnapshot].
func (i image) Persist(sink raft.SnapshotSink) error {
	if err := gob.NewEncoder(sink).Encode(map[string][]byte(i)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements [raft.FSMSnapshot].
func (image) Release() {}
