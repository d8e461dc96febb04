//go:build linux

package state

import (
	"context"
	"sync"
	"testing"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// A testLog is the log of some machines, without a cluster around it.
type testLog struct {
	*testing.T
	mu       sync.Mutex // guards what follows
	machines []*Machine
	entries  []ha.Entry
	token    fence.Token
	refuse   func(record []byte) error // nil: nothing is refused
	turn     func()                    // after each append
}

func newLog(t *testing.T, machines ...*Machine) *testLog {
	return &testLog{T: t, machines: machines, token: fence.Token{Cluster: "web", Epoch: 1, Holder: "a"}}
}

func (l *testLog) AppendBatch(_ context.Context, t fence.Token, records ...[]byte) (ha.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t != l.token {
		return ha.Result{}, ha.ErrFenced
	}
	size := 0
	for _, r := range records {
		size += len(r) + 40
		if l.refuse != nil {
			if err := l.refuse(r); err != nil {
				return ha.Result{}, err
			}
		}
	}
	if size > 4<<20+40 {
		l.Errorf("%d bytes are appended at once", size)
	}
	first := uint64(len(l.entries) + 1)
	for _, r := range records {
		l.entries = append(l.entries, ha.Entry{Index: uint64(len(l.entries) + 1), Epoch: t.Epoch, Data: append([]byte(nil), r...)})
	}
	for _, m := range l.machines {
		if err := m.Apply(l.entries[first-1:]); err != nil {
			l.Error(err)
		}
	}
	if l.turn != nil {
		l.turn()
	}
	return ha.Result{Index: first}, nil
}

func (l *testLog) Check(t fence.Token) error {
	if t != l.token {
		return ha.ErrFenced
	}
	return nil
}

// next makes somebody else Active.
func (l *testLog) next() fence.Token {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.token.Epoch++
	return l.token
}
