package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"unsafe"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/etcd"
)

// An etcdEnd is a client, over gRPC, or in the process of a server.
type etcdEnd struct {
	server *embed.Etcd // nil: a client
	c      *clientv3.Client
	next   atomic.Uint64
}

func serveEtcd(p place, i int) (end, error) {
	e, err := etcd.Serve(etcd.Configure(p.Dir, p.Peers, p.Clients)[i])
	if err != nil {
		return nil, err
	}
	return &etcdEnd{server: e, c: v3client.New(e.Server)}, nil
}

// dialEtcd knows all servers, as programs of others do; gRPC takes them in turn.
func dialEtcd(p place) (end, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: p.Clients, DialTimeout: harness.Patience, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return &etcdEnd{c: c}, nil
}

func (e *etcdEnd) Leads() bool {
	return e.server != nil && e.server.Server.Leader() == e.server.Server.MemberID()
}

func (e *etcdEnd) Op(name string) func(context.Context, []byte) error {
	switch name {
	case "Put":
		return func(ctx context.Context, payload []byte) error {
			value := unsafe.String(unsafe.SliceData(payload), len(payload)) // nobody changes it
			_, err := e.c.Put(ctx, fmt.Sprintf("key%04d", e.next.Add(1)%1024), value)
			return err
		}
	case "Get": // linearizable, as etcd's are by default
		return func(ctx context.Context, _ []byte) error { _, err := e.c.Get(ctx, "key0000"); return err }
	}
	return nil
}

func (e *etcdEnd) Close() error {
	_ = e.c.Close() // always the end of its own ctx
	if e.server != nil {
		e.server.Close()
	}
	return nil
}
