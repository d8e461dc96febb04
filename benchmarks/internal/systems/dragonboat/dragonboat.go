// Package dragonboat starts clusters of dragonboat for the measurements.
package dragonboat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/lni/dragonboat/v4"
	"github.com/lni/dragonboat/v4/client"
	"github.com/lni/dragonboat/v4/config"
	"github.com/lni/dragonboat/v4/logger"
	"github.com/lni/dragonboat/v4/plugin/tan"
	sm "github.com/lni/dragonboat/v4/statemachine"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

const shard = 1

// A System is a cluster of NodeHosts with one shard.
type System struct {
	tan    bool
	hosts  []*dragonboat.NodeHost
	leader atomic.Pointer[leader]
}

type leader struct {
	host    *dragonboat.NodeHost
	session *client.Session
}

// machine counts the records and drops them.
type machine struct{ records uint64 }

func (m *machine) Update(entries []sm.Entry) ([]sm.Entry, error) {
	m.records += uint64(len(entries))
	return entries, nil
}
func (m *machine) Lookup(any) (any, error)       { return m.records, nil }
func (m *machine) PrepareSnapshot() (any, error) { return nil, nil }
func (m *machine) SaveSnapshot(any, io.Writer, sm.ISnapshotFileCollection, <-chan struct{}) error {
	return nil
}
func (m *machine) RecoverFromSnapshot(io.Reader, []sm.SnapshotFile, <-chan struct{}) error {
	return nil
}
func (m *machine) Close() error { return nil }

var quiet = sync.OnceFunc(func() {
	for _, name := range []string{"config", "dragonboat", "gossip", "logdb", "pebblekv", "raft", "raftpb", "registry", "rsm", "server", "settings", "tan", "transport"} {
		logger.GetLogger(name).SetLevel(logger.CRITICAL)
	}
})

// Start starts a cluster and waits for its leader. Its ticks are those of baton's defaults; all else, and the log
// unless it is tan's, is dragonboat's default.
func Start(o harness.Options, useTan bool) (_ *System, err error) {
	quiet()
	s := &System{tan: useTan}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	addrs, err := harness.Ports(o.Count())
	if err != nil {
		return nil, err
	}
	members := map[uint64]dragonboat.Target{}
	for i, a := range addrs {
		members[uint64(i+1)] = a
	}
	for i, a := range addrs {
		hc := config.NodeHostConfig{NodeHostDir: filepath.Join(o.Dir, fmt.Sprint(i+1)), RTTMillisecond: 50, RaftAddress: a}
		if useTan {
			hc.Expert.LogDBFactory = tan.Factory
		}
		host, err := dragonboat.NewNodeHost(hc)
		if err != nil {
			return nil, err
		}
		s.hosts = append(s.hosts, host)
		err = host.StartConcurrentReplica(members, false, func(uint64, uint64) sm.IConcurrentStateMachine { return new(machine) },
			config.Config{ReplicaID: uint64(i + 1), ShardID: shard, ElectionRTT: 10, HeartbeatRTT: 1, CheckQuorum: true})
		if err != nil {
			return nil, err
		}
	}
	return s, harness.Until("leader of dragonboat", s.find)
}

func (s *System) find() bool {
	for i, h := range s.hosts {
		id, _, ok, err := h.GetLeaderID(shard)
		if err == nil && ok && id == uint64(i+1) {
			s.leader.Store(&leader{h, h.GetNoOPSession(shard)})
			return true
		}
	}
	return false
}

// Name implements [harness.System].
func (s *System) Name() string {
	if s.tan {
		return "dragonboat-tan"
	}
	return "dragonboat"
}

// Append implements [harness.System]. SyncPropose returns when the entry is applied.
func (s *System) Append(ctx context.Context, payload []byte) error {
	l := s.leader.Load()
	_, err := l.host.SyncPropose(ctx, l.session, payload)
	if err != nil {
		s.find()
	}
	return err
}

// StopFollowers implements [harness.Quorum].
func (s *System) StopFollowers() error {
	for _, h := range s.hosts {
		if h != s.leader.Load().host {
			h.Close()
		}
	}
	return nil
}

// Close implements [harness.System].
func (s *System) Close() error {
	for _, h := range s.hosts {
		if err := close1(h); err != nil {
			return err
		}
	}
	return nil
}

// close1 closes a host that may be closed already.
func close1(h *dragonboat.NodeHost) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(err, fmt.Errorf("close: %v", p))
		}
	}()
	h.Close()
	return nil
}
