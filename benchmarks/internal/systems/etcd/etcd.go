// Package etcd starts clusters of embedded etcd servers for the measurements.
package etcd

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A System is a cluster of embedded servers.
type System struct {
	servers []*embed.Etcd
	clients []*clientv3.Client // of the servers, in the process: no gRPC
	configs []*embed.Config
	leader  atomic.Int64 // its place in them
	next    atomic.Uint64
	stopped int // the one that StopOne has stopped
}

// keys are reused, so that etcd's tree stays small: as little state as etcd can have.
var keys = func() (k [1024]string) {
	for i := range k {
		k[i] = fmt.Sprintf("key%04d", i)
	}
	return k
}()

// Start starts a cluster and waits for its leader.
func Start(o harness.Options) (_ *System, err error) {
	s := new(System)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	n := o.Count()
	addrs, err := harness.Ports(2 * n)
	if err != nil {
		return nil, err
	}
	configs := Configure(o.Dir, addrs[:n], addrs[n:])
	servers, errs := make([]*embed.Etcd, n), make([]error, n)
	var all sync.WaitGroup
	for i, cfg := range configs {
		all.Go(func() { servers[i], errs[i] = Serve(cfg) })
	}
	all.Wait()
	s.configs = configs
	for i, e := range servers {
		if e != nil {
			s.servers = append(s.servers, e)
		}
		if errs[i] != nil {
			err = errs[i]
		}
	}
	if err != nil {
		return nil, err
	}
	for _, e := range s.servers {
		s.clients = append(s.clients, v3client.New(e.Server))
	}
	return s, harness.Until("leader of etcd", s.find)
}

// Configure returns the settings of the servers of a cluster with these addresses among themselves, and for clients. All is
// etcd's default but the quota, which is raised so that a long run does not end in "no space".
func Configure(dir string, peers, clients []string) (configs []*embed.Config) {
	at := func(a string) []url.URL { return []url.URL{{Scheme: "http", Host: a}} }
	var cluster []string
	for i, a := range peers {
		cluster = append(cluster, fmt.Sprintf("m%d=http://%s", i, a))
	}
	for i := range peers {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = fmt.Sprintf("m%d", i), filepath.Join(dir, fmt.Sprintf("m%d", i))
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at(peers[i]), at(peers[i])
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at(clients[i]), at(clients[i])
		cfg.InitialCluster, cfg.ClusterState = strings.Join(cluster, ","), embed.ClusterStateFlagNew
		cfg.LogLevel, cfg.LogOutputs = "fatal", []string{"/dev/null"}
		cfg.QuotaBackendBytes = 64 << 30
		configs = append(configs, cfg)
	}
	return configs
}

// Serve starts one server and waits until it has joined the others.
func Serve(cfg *embed.Config) (*embed.Etcd, error) {
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case <-time.After(harness.Patience):
		e.Close()
		return nil, fmt.Errorf("etcd is not ready within %v", harness.Patience)
	}
}

func (s *System) find() bool {
	for i, e := range s.servers {
		if e.Server.Leader() == e.Server.MemberID() {
			s.leader.Store(int64(i))
			return true
		}
	}
	return false
}

// Name implements [harness.System].
func (s *System) Name() string { return "etcd" }

// Dial connects, over gRPC as programs of others do, with a server that does not lead.
func (s *System) Dial() (*clientv3.Client, error) {
	cfg := s.configs[(int(s.leader.Load())+1)%len(s.configs)]
	return clientv3.New(clientv3.Config{Endpoints: []string{cfg.ListenClientUrls[0].String()}, DialTimeout: harness.Patience, Logger: zap.NewNop()})
}

// Append implements [harness.System]: a Put on the leader.
func (s *System) Append(ctx context.Context, payload []byte) error {
	value := unsafe.String(unsafe.SliceData(payload), len(payload)) // nobody changes it
	_, err := s.clients[s.leader.Load()].Put(ctx, keys[s.next.Add(1)%uint64(len(keys))], value)
	if err != nil {
		s.find()
	}
	return err
}

// StopFollowers implements [harness.Quorum].
func (s *System) StopFollowers() error {
	for i, e := range s.servers {
		if int64(i) != s.leader.Load() {
			e.Close()
		}
	}
	return nil
}

// StopOne implements [harness.Laggard].
func (s *System) StopOne() error {
	s.stopped = (int(s.leader.Load()) + 1) % len(s.servers)
	s.clients[s.stopped].Close()
	s.servers[s.stopped].Close()
	return nil
}

// StartOne implements [harness.Laggard].
func (s *System) StartOne() error {
	cfg := s.configs[s.stopped]
	cfg.ClusterState = embed.ClusterStateFlagExisting
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	s.servers[s.stopped], s.clients[s.stopped] = e, v3client.New(e.Server)
	return nil
}

// Behind implements [harness.Laggard].
func (s *System) Behind() uint64 {
	have, want := s.servers[s.stopped].Server.AppliedIndex(), s.servers[s.leader.Load()].Server.AppliedIndex()
	return want - min(have, want)
}

// Term implements [harness.Laggard].
func (s *System) Term() uint64 { return s.servers[s.leader.Load()].Server.Term() }

// Replay implements [harness.Laggard]: a watch from the first revision on.
func (s *System) Replay(ctx context.Context, took func(bytes int) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range s.clients[s.leader.Load()].Watch(ctx, "key", clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := r.Err(); err != nil {
			return err
		}
		for _, e := range r.Events {
			if !took(len(e.Kv.Value)) {
				return nil
			}
		}
	}
	return ctx.Err()
}

// Close implements [harness.System].
func (s *System) Close() error {
	var all sync.WaitGroup
	for i, e := range s.servers {
		if i < len(s.clients) {
			s.clients[i].Close()
		}
		all.Go(e.Close)
	}
	all.Wait()
	return nil
}
