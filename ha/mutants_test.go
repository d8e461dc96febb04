//go:build mutants

package ha

import (
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/mutant"
)

// TestMutants plants one bug after the other and expects the simulator to find it. A planted bug that
// is not found is a hole in the simulator. Run it with: go test -tags mutants ./ha -run TestMutants -v
func TestMutants(t *testing.T) {
	for _, name := range []string{
		mutant.VoteNotPersisted, mutant.SendBeforePersist, mutant.FenceOnlyAtPropose, mutant.LeaseFromRaft,
		mutant.NoRestartGuard, mutant.EpochIsTerm, mutant.IndexHoles, mutant.AckBeforeApply, mutant.NoPromise,
		mutant.EndlessRelease, mutant.NoBarrier, mutant.StaleFate, mutant.NoFsync, mutant.MergeOverlap, mutant.ForeignBase,
		mutant.StackedSnapshots, mutant.SupersededFails, mutant.NoFallback, mutant.CutUnderSnapshot, mutant.BirthByMajority, mutant.StampGoesBack, mutant.GuardHeard,
		mutant.GuardFromConfig, mutant.LeaseFromOwn, mutant.EvidenceByOwn,
		mutant.NeverGivesWay, mutant.LoopReads, mutant.NeverStarved,
	} {
		t.Run(name, func(t *testing.T) {
			mutant.Enabled = name
			defer func() { mutant.Enabled = "" }()
			began := time.Now()
			for seed := uint64(1); seed <= 200; seed++ {
				for _, s := range []struct {
					name string
					run  func() *simCluster
				}{
					{"T2", func() *simCluster { return runT2(seed, 20*time.Second) }},
					{"T4", func() *simCluster { return t4(seed, 50, false) }},
					{"T6", func() *simCluster { return t6(seed) }},
					{"the restart after a snapshot", func() *simCluster { return snapshotAndRestart(seed) }},
					{"snapshots across leaderships", func() *simCluster { return snapshotAcrossLeaderships(seed) }},
					{"snapshots under load", func() *simCluster { return snapshotUnderLoad(seed) }},
					{"snapshots on snapshots", func() *simCluster { return snapshotOnSnapshot(seed) }},
					{"T7", func() *simCluster { return t7(seed) }},
					{"births", func() *simCluster { return births(seed) }},
					{"repeated", func() *simCluster { return repeated(seed) }},
					{"starved", func() *simCluster { return starvedActive(seed) }},
					{"entries swallowed", func() *simCluster { return stuck(seed) }},
					{"mixed timing", func() *simCluster { return mixedTiming(seed, false) }},
					{"mixed timing with a restart", func() *simCluster { return mixedTiming(seed, true) }},
					{"T4 with a restart", func() *simCluster { return t4(seed, 50, true) }},
				} {
					if c := s.run(); len(c.check.faults) > 0 {
						t.Logf("found by seed %d of %s after %v: %.300s", seed, s.name, time.Since(began).Round(10*time.Millisecond), c.check.faults[0])
						return
					}
				}
			}
			t.Errorf("not found by 200 seeds in %v", time.Since(began).Round(time.Second))
		})
	}
}

// TestT4_NeedsTheLease: the same partitions that TestT4_NoOverlap survives bring two Actives about when
// the lease, or the guard of a restarted voter, is switched off.
func TestT4_NeedsTheLease(t *testing.T) {
	for name, restart := range map[string]bool{mutant.LeaseFromRaft: false, mutant.NoRestartGuard: true} {
		mutant.Enabled = name
		overlaps := 0
		for seed := uint64(1); seed <= 20; seed++ {
			if c := t4(seed, 50, restart); len(c.check.faults) > 0 && strings.Contains(c.check.faults[0], "(G4)") {
				overlaps++
			}
		}
		mutant.Enabled = ""
		t.Logf("%s: %d of 20 seeds saw two actives", name, overlaps)
		if overlaps == 0 {
			t.Errorf("%s: no overlap in 20 seeds: the test would not notice", name)
		}
	}
}
