package ha_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A standby whose checkpoint includes the start of the epoch in force hears of no start any more.
func TestStatus_ARestartedStandbyKnowsTheActive(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, func(cfg *ha.Config) {
		steady(cfg)
		cfg.CheckpointBytes = 4 << 10
	})
	c.startAll()
	n, token := c.active()
	standby := c.others(token.Holder)[0]
	for i := range uint64(10) {
		records := slices.Repeat([][]byte{append(number(i), make([]byte, 1<<10)...)}, 10)
		if _, err := n.AppendBatch(t.Context(), token, records...); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the standby has everything", func() bool { return c.nodes[standby].Status().Applied == 100 })
	c.stop(standby)
	c.start(standby)
	s := c.nodes[standby]
	eventually(t, "the standby knows the active", func() bool { return s.Status().Active == token.Holder && s.Status().Epoch == token.Epoch })
	var not *ha.NotActiveError
	if _, err := s.Append(t.Context(), token, number(1)); !errors.As(err, &not) || not.Active != token.Holder || not.Addr == "" {
		t.Errorf("append at the standby: %v", err)
	}
}
