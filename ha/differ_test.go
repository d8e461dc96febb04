package ha_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// TestDifferentConfigs: members with different values of every setting that is a member's own affair form a cluster that
// works with any of them as Active. DESIGN.md has the table. The rows that are missing here are refused, which TestT13 and
// the tests of the transport see to, or are timing values, for which there is the simulator (TestG4_Timing).
func TestDifferentConfigs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) {
		i := int(cfg.Name[0] - 'a')
		cfg.MaxRecord = []int{8, 1 << 20, 32 << 20}[i]
		cfg.MaxPending = []int64{1, 1 << 10, 64 << 20}[i]
		cfg.CacheBytes = []int{1, 1 << 10, 1 << 20}[i]
		cfg.CheckpointBytes = []int64{1, 1 << 10, 1 << 20}[i]
		cfg.RetainBytes = []int64{1, 1 << 20, 1 << 10}[i]
		cfg.DrainTimeout = []time.Duration{1, 2, 5}[i] * time.Second
		cfg.CoolDown = []time.Duration{1, 2, 5}[i] * time.Second
		cfg.NoCrashEvidence = i == 1
		cfg.MemoryBytes = []int64{0, 160 << 20, 1 << 30}[i]
		cfg.CursorBytes = []int64{1, 0, 1 << 30}[i]
		cfg.RetainFor = []time.Duration{0, time.Hour, 1}[i]
		cfg.MinFreeBytes = []int64{0, 1, 1 << 20}[i]
		cfg.ReserveBytes = []int64{-1, 1 << 20, 2 << 20}[i]
		cfg.SnapshotLimit = []int64{0, 1 << 20, 1 << 40}[i]
		cfg.MaxHandlers = []int{1, 2, 0}[i]
		cfg.Heal, cfg.Version, cfg.Advertise = i == 1, []string{"", "2", "\xff"}[i], []string{"", "b:1", "c:1"}[i]
		if i == 2 {
			cfg.Health = func(context.Context) error { return nil }
			cfg.OnFence = func(context.Context, ha.Previous) error { return nil }
			cfg.FencePolicy, cfg.FormWithout = ha.FenceBestEffort, []string{"a"}
		}
		cfg.Members = slices.Concat(cfg.Members[i:], cfg.Members[:i])
		if i == 0 {
			new(roles).install(cfg)
		}
	})
	c.startAll()
	for round, size := range []int{9, 1000, 1 << 20} {
		n := c.nodes[c.members[round].Name]
		eventually(t, c.members[round].Name+" is active", func() bool {
			return n.Become(t.Context(), ha.Active) == nil && n.Status().State == ha.Active
		})
		c.put(number(uint64(round)))
		_, err := n.Append(t.Context(), n.Status().Token, append(number(0), make([]byte, size-8)...)) // too large for the first of them
		if round == 0 && !errors.Is(err, ha.ErrTooLarge) || round > 0 && err != nil {
			t.Errorf("append of %d bytes on %s: %v", size, c.members[round].Name, err)
		}
		if round == 1 { // what a carries there need not be what it would take itself
			if _, err := c.nodes["a"].Call(t.Context(), append(number(0), make([]byte, size-8)...)); err != nil {
				t.Errorf("call of %d bytes on a member that would take 8: %v", size, err)
			}
		}
	}
	c.awaitSum(3, 6)
	c.closeAll()
}
