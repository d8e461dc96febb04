package ha_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// scribbler is a counter that writes to what it is given: within Apply, or later, when it is told to.
type scribbler struct {
	counter
	within atomic.Bool
	kept   [][]byte // guarded by counter.mu
}

func (s *scribbler) Apply(entries []ha.Entry) error {
	err := s.counter.Apply(entries)
	s.mu.Lock()
	for _, e := range entries {
		s.kept = append(s.kept, e.Data)
	}
	s.mu.Unlock()
	if s.within.Load() {
		s.scribble()
	}
	return err
}

func (s *scribbler) scribble() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, data := range s.kept {
		data[0] ^= 0x55
	}
	s.kept = nil
}

// TestMutate_ApplyWrites: a state machine that writes to Entry.Data changes no record, neither here nor on a member that
// gets it later.
func TestMutate_ApplyWrites(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) {
		sm := new(scribbler)
		sm.within.Store(true)
		cfg.StateMachine = sm
	})
	c.startAll()
	_, token := c.active()
	late := c.others(token.Holder)[0]
	c.stop(late)
	for range 5 {
		c.put(number(7))
	}
	c.start(late)
	c.sevens(5)
	for name, n := range c.nodes {
		eventually(t, name+" has noticed", func() bool { return hasProblem(n, "checksum", nil, "after Apply") })
	}
}

// TestMutate_LateWrites: nor does one that writes to the records later, on the leader.
func TestMutate_LateWrites(t *testing.T) {
	t.Parallel()
	machines := map[string]*scribbler{"a": {}, "b": {}, "c": {}}
	c := newCluster(t, 3, func(cfg *ha.Config) {
		cfg.StateMachine = machines[cfg.Name]
	})
	c.startAll()
	_, token := c.active()
	late := c.others(token.Holder)[0]
	c.stop(late)
	for range 5 {
		c.put(number(7))
	}
	_, token = c.active()
	machines[token.Holder].scribble()
	c.start(late)
	c.sevens(5)
}

// sevens waits until all members have as many records, and checks that each is a 7. What a subscriber does to its
// records is nobody else's concern.
func (c *cluster) sevens(count uint64) {
	c.t.Helper()
	for name, n := range c.nodes {
		eventually(c.t, name+" has all", func() bool { return n.Status().Applied == count })
		for range 3 {
			for _, e := range records(c.t, n, count) {
				if v := binary.LittleEndian.Uint64(e.Data); v != 7 {
					c.t.Errorf("%s: record %d is %d", name, e.Index, v)
				}
				clear(e.Data)
			}
		}
	}
}

// hasProblem reports whether a node shows a problem with an error and a text.
func hasProblem(n *ha.Node, kind string, err error, text string) bool {
	return slices.ContainsFunc(n.Status().Problems, func(p ha.Problem) bool {
		return p.Kind == kind && (err == nil || errors.Is(p.Err, err)) && strings.Contains(p.Err.Error(), text)
	})
}
