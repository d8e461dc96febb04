// Package hashiraft starts clusters of hashicorp/raft for the measurements.
package hashiraft

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// Settings are what differs between the variants.
type Settings struct {
	Bolt  bool // raft-boltdb instead of raft-wal
	Tuned bool
}

// The settings of a tuned cluster: batches as large as raft allows, at both ends. Of its other setting, the
// requests in flight, its authors say that 2 is best and more is for slow networks; so more are used there.
const (
	tunedAppendEntries = 1024
	tunedInFlightWAN   = 130
)

// A System is a cluster of raft.Rafts.
type System struct {
	settings Settings
	members  []member
	leader   atomic.Pointer[raft.Raft]
	shims    []*harness.Shim
}

type member struct {
	raft  *raft.Raft
	net   *raft.NetworkTransport
	store io.Closer
}

// machine counts the records and drops them.
type machine struct{ records atomic.Uint64 }

func (m *machine) Apply(*raft.Log) any { m.records.Add(1); return nil }

func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	m.records.Add(uint64(len(logs)))
	return make([]any, len(logs))
}

type nothing struct{}

func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (m *machine) Restore(r io.ReadCloser) error       { return r.Close() }

type store interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

func (s Settings) open(dir string, logger hclog.Logger) (store, error) {
	if s.Bolt {
		return boltdb.New(boltdb.Options{Path: filepath.Join(dir, "raft.db")})
	}
	return wal.Open(dir, wal.WithLogger(logger))
}

// Start starts a cluster and waits for its leader.
func Start(o harness.Options, settings Settings) (_ *System, err error) {
	s := &System{settings: settings}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	addrs, err := harness.Ports(o.Count())
	if err != nil {
		return nil, err
	}
	others, shims, err := o.Shims(addrs)
	if err != nil {
		return nil, err
	}
	s.shims = shims
	var servers raft.Configuration
	for i, a := range others {
		servers.Servers = append(servers.Servers, raft.Server{ID: raft.ServerID(rune('a' + i)), Address: raft.ServerAddress(a)})
	}
	logger := hclog.NewNullLogger()
	for i, server := range servers.Servers {
		dir := filepath.Join(o.Dir, string(server.ID))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		logs, err := settings.open(dir, logger)
		if err != nil {
			return nil, err
		}
		m := member{store: logs}
		snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, logger)
		if err != nil {
			return nil, errors.Join(err, logs.Close())
		}
		advertise, err := net.ResolveTCPAddr("tcp", others[i])
		if err != nil {
			return nil, errors.Join(err, logs.Close())
		}
		tc := &raft.NetworkTransportConfig{MaxPool: 3, Timeout: 10 * time.Second, Logger: logger}
		cfg := raft.DefaultConfig()
		cfg.LocalID, cfg.Logger = server.ID, logger
		if settings.Tuned {
			cfg.BatchApplyCh, cfg.MaxAppendEntries = true, tunedAppendEntries
			if o.Delay > 0 {
				tc.MaxRPCsInFlight = tunedInFlightWAN
			}
		}
		m.net, err = raft.NewTCPTransportWithConfig(addrs[i], advertise, tc)
		if err != nil {
			return nil, errors.Join(err, logs.Close())
		}
		if err := raft.BootstrapCluster(cfg, logs, logs, snapshots, m.net, servers); err != nil {
			return nil, errors.Join(err, m.net.Close(), logs.Close())
		}
		m.raft, err = raft.NewRaft(cfg, new(machine), logs, logs, snapshots, m.net)
		if err != nil {
			return nil, errors.Join(err, m.net.Close(), logs.Close())
		}
		s.members = append(s.members, m)
	}
	return s, harness.Until("leader of hashicorp/raft", s.find)
}

// find looks for the leader.
func (s *System) find() bool {
	for _, m := range s.members {
		if m.raft.State() == raft.Leader {
			s.leader.Store(m.raft)
			return true
		}
	}
	return false
}

// Name implements [harness.System].
func (s *System) Name() string {
	name := "hraft-wal"
	if s.settings.Bolt {
		name = "hraft-boltdb"
	}
	if s.settings.Tuned {
		name += "-tuned"
	}
	return name
}

// Append implements [harness.System]. ctx does not end it: raft has no such thing once an entry is under way.
func (s *System) Append(ctx context.Context, payload []byte) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err := s.leader.Load().Apply(payload, 0).Error()
	if err == raft.ErrNotLeader || err == raft.ErrLeadershipLost {
		s.find()
	}
	return err
}

// StopFollowers implements [harness.Quorum].
func (s *System) StopFollowers() error {
	var errs []error
	for _, m := range s.members {
		if m.raft != s.leader.Load() {
			errs = append(errs, m.raft.Shutdown().Error())
		}
	}
	return errors.Join(errs...)
}

// Close implements [harness.System].
func (s *System) Close() error {
	var errs []error
	var ends []raft.Future
	for _, m := range s.members {
		ends = append(ends, m.raft.Shutdown())
	}
	for i, m := range s.members {
		errs = append(errs, ends[i].Error(), m.net.Close(), m.store.Close())
	}
	harness.CloseShims(s.shims)
	return errors.Join(errs...)
}
