package baton

import (
	"context"
	"path/filepath"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/ha"
)

// Growing is a cluster to which a member is added, where others start one again that was away: it lacks everything, and gets it as a
// snapshot.
type Growing struct{ *System }

// StartGrowing starts a cluster whose state is as large as what the newcomer shall lack.
func StartGrowing(o harness.Options) (Growing, error) {
	s, err := Start(o, func(cfg *ha.Config, m *Machine) {
		m.State, cfg.CheckpointBytes = o.Keep, max(o.Keep*5/8, 1<<20) // one is written while the log is filled, and none just when the newcomer starts
		cfg.RetainBytes = 0                                           // it gets a snapshot: to keep all that is appended would fill the disk
	})
	return Growing{s}, err
}

// StopOne implements [harness.Laggard]. Nobody is away: the newcomer is not there yet.
func (g Growing) StopOne() error { return nil }

// StartOne implements [harness.Laggard]: it starts the newcomer, and adds it.
func (g Growing) StartOne() error {
	addrs, err := harness.Ports(1)
	if err != nil {
		return err
	}
	m := ha.Member{Name: "new", Addr: addrs[0]}
	cfg, machine := g.configs[0], &Machine{State: g.Machines[0].State}
	cfg.Name, cfg.Bind, cfg.Join, cfg.StateMachine = m.Name, "", true, machine
	cfg.Dir = filepath.Join(filepath.Dir(cfg.Dir), m.Name)
	cfg.Members = append([]ha.Member{m}, cfg.Members...)
	n, err := ha.Open(cfg)
	if err != nil {
		return err
	}
	g.stopped = len(g.Nodes)
	g.Nodes, g.Machines, g.configs = append(g.Nodes, n), append(g.Machines, machine), append(g.configs, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return g.active.Load().node.AddMember(ctx, m)
}

// Behind implements [harness.Laggard]. It is behind as long as it has no vote.
func (g Growing) Behind() uint64 {
	for _, m := range g.Nodes[g.stopped].Members() {
		if m.Name == "new" && m.Kind == ha.KindVoter {
			return g.System.Behind()
		}
	}
	return 1 << 62
}
