// Package hashiraft starts clusters of hashicorp/raft for the measurements.
package hashiraft

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// Settings are what differs between the variants.
type Settings struct {
	Bolt  bool // raft-boltdb instead of raft-wal
	Tuned bool
	FSM   func() raft.FSM // of each member; nil: one that counts the records and drops them
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
	stopped  int // the one that StopOne has stopped
}

type member struct {
	raft  *raft.Raft
	net   *raft.NetworkTransport
	store store
	start func(bootstrap bool) (member, error)
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
	meta := new(metadb.BoltMetaDB)
	w, err := wal.Open(dir, wal.WithLogger(logger), wal.WithMetaStore(meta))
	return walStore{w, meta}, err
}

// walStore closes what raft-wal leaves open and locked.
type walStore struct {
	*wal.WAL
	meta *metadb.BoltMetaDB
}

func (s walStore) Close() error { return errors.Join(s.WAL.Close(), s.meta.Close()) }

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
	for i, server := range servers.Servers {
		start := func(bootstrap bool) (member, error) { return settings.start(o, server, addrs[i], servers, bootstrap) }
		m, err := start(true)
		if err != nil {
			return nil, err
		}
		m.start = start
		s.members = append(s.members, m)
	}
	return s, harness.Until("leader of hashicorp/raft", s.find)
}

// start starts one member.
func (settings Settings) start(o harness.Options, server raft.Server, addr string, servers raft.Configuration, bootstrap bool) (m member, err error) {
	logger := hclog.NewNullLogger()
	dir := filepath.Join(o.Dir, string(server.ID))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, err
	}
	if m.store, err = settings.open(dir, logger); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			if m.net != nil {
				err = errors.Join(err, m.net.Close())
			}
			err = errors.Join(err, m.store.Close())
		}
	}()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, logger)
	if err != nil {
		return m, err
	}
	advertise, err := net.ResolveTCPAddr("tcp", string(server.Address))
	if err != nil {
		return m, err
	}
	tc := &raft.NetworkTransportConfig{MaxPool: 3, Timeout: 10 * time.Second, Logger: logger}
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = server.ID, logger
	if o.Keep > 0 { // or it would send the empty snapshot of the machine
		cfg.SnapshotThreshold, cfg.TrailingLogs = math.MaxUint64/2, math.MaxUint64/2
	}
	if settings.Tuned {
		cfg.BatchApplyCh, cfg.MaxAppendEntries = true, tunedAppendEntries
		if o.Delay > 0 {
			tc.MaxRPCsInFlight = tunedInFlightWAN
		}
	}
	if m.net, err = raft.NewTCPTransportWithConfig(addr, advertise, tc); err != nil {
		return m, err
	}
	if bootstrap {
		if err := raft.BootstrapCluster(cfg, m.store, m.store, snapshots, m.net, servers); err != nil {
			return m, err
		}
	}
	var fsm raft.FSM = new(machine)
	if settings.FSM != nil {
		fsm = settings.FSM()
	}
	m.raft, err = raft.NewRaft(cfg, fsm, m.store, m.store, snapshots, m.net)
	return m, err
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

// Append implements [harness.System].
func (s *System) Append(ctx context.Context, payload []byte) error {
	_, err := s.Apply(ctx, payload)
	return err
}

// Apply returns what the FSM has returned. ctx does not end it: raft has no such thing once an entry is under way.
func (s *System) Apply(ctx context.Context, command []byte) (any, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	f := s.leader.Load().Apply(command, 0)
	err := f.Error()
	if err != nil {
		if err == raft.ErrNotLeader || err == raft.ErrLeadershipLost {
			s.find()
		}
		return nil, err
	}
	return f.Response(), nil
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

// StopOne implements [harness.Laggard].
func (s *System) StopOne() error {
	for i, m := range s.members {
		if m.raft != s.leader.Load() {
			s.stopped = i
			return errors.Join(m.raft.Shutdown().Error(), m.net.Close(), m.store.Close())
		}
	}
	return nil
}

// StartOne implements [harness.Laggard].
func (s *System) StartOne() error {
	start := s.members[s.stopped].start
	m, err := start(false)
	if err != nil {
		return err
	}
	m.start = start
	s.members[s.stopped] = m
	return nil
}

// Behind implements [harness.Laggard].
func (s *System) Behind() uint64 {
	have, want := s.members[s.stopped].raft.AppliedIndex(), s.leader.Load().AppliedIndex()
	return want - min(have, want)
}

// Term implements [harness.Laggard].
func (s *System) Term() uint64 { return s.leader.Load().CurrentTerm() }

// Replay implements [harness.Laggard]: it reads the leader's log store, as there is nothing else.
func (s *System) Replay(ctx context.Context, took func(bytes int) bool) error {
	var logs store
	for _, m := range s.members {
		if m.raft == s.leader.Load() {
			logs = m.store
		}
	}
	var e raft.Log
	for i := uint64(1); ctx.Err() == nil; i++ {
		if err := logs.GetLog(i, &e); err != nil {
			return err
		}
		if e.Type == raft.LogCommand && !took(len(e.Data)) {
			return nil
		}
	}
	return ctx.Err()
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
