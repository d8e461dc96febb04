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

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// A System is a cluster of embedded servers.
type System struct {
	servers []*embed.Etcd
	clients []*clientv3.Client // of the servers, in the process: no gRPC
	leader  atomic.Int64       // its place in them
	next    atomic.Uint64
}

// keys are reused, so that etcd's tree stays small: as little state as etcd can have.
var keys = func() (k [1024]string) {
	for i := range k {
		k[i] = fmt.Sprintf("key%04d", i)
	}
	return k
}()

// Start starts a cluster and waits for its leader. Everything is etcd's default but the quota, which is raised so
// that a long run does not end in "no space".
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
	var cluster []string
	for i := range n {
		cluster = append(cluster, fmt.Sprintf("m%d=http://%s", i, addrs[i]))
	}
	at := func(a string) []url.URL { return []url.URL{{Scheme: "http", Host: a}} }
	servers, errs := make([]*embed.Etcd, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = fmt.Sprintf("m%d", i), filepath.Join(o.Dir, fmt.Sprintf("m%d", i))
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at(addrs[i]), at(addrs[i])
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at(addrs[n+i]), at(addrs[n+i])
		cfg.InitialCluster, cfg.ClusterState = strings.Join(cluster, ","), embed.ClusterStateFlagNew
		cfg.LogLevel, cfg.LogOutputs = "fatal", []string{"/dev/null"}
		cfg.QuotaBackendBytes = 64 << 30
		all.Go(func() { servers[i], errs[i] = embed.StartEtcd(cfg) })
	}
	all.Wait()
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
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(harness.Patience):
			return nil, fmt.Errorf("etcd is not ready within %v", harness.Patience)
		}
		s.clients = append(s.clients, v3client.New(e.Server))
	}
	return s, harness.Until("leader of etcd", s.find)
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
