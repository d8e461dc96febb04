package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

type natsMember struct{ s *server.Server }

func hostPort(addr string) (string, int) {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	return host, n
}

// serveNATS starts a server that syncs each write, which is not its default.
func serveNATS(p place, i int) (end, error) {
	o := &server.Options{
		ServerName: fmt.Sprintf("m%d", i), JetStream: true, StoreDir: filepath.Join(p.Dir, fmt.Sprintf("m%d", i)), SyncAlways: true,
		Cluster: server.ClusterOpts{Name: "bench"}, NoLog: true, NoSigs: true,
	}
	o.Host, o.Port = hostPort(p.Clients[i])
	o.Cluster.Host, o.Cluster.Port = hostPort(p.Peers[i])
	for _, a := range p.Peers {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: a})
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(harness.Patience) {
		return nil, fmt.Errorf("NATS is not ready within %v", harness.Patience)
	}
	return natsMember{s}, nil
}

func (m natsMember) Leads() bool {
	return m.s.JetStreamIsStreamLeader(server.DEFAULT_GLOBAL_ACCOUNT, natsStream)
}

func (m natsMember) Op(string) func(context.Context, []byte) error { return nil }

func (m natsMember) Close() error {
	m.s.Shutdown()
	m.s.WaitForShutdown()
	return nil
}

const natsStream = "bench"

type natsClient struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// dialNATS makes a stream of three replicas in files.
func dialNATS(p place) (end, error) {
	nc, err := nats.Connect("nats://" + strings.Join(p.Clients, ",nats://"))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1<<20))
	if err != nil {
		return nil, err
	}
	err = nil
	until := time.Now().Add(harness.Patience)
	for ; time.Now().Before(until); time.Sleep(100 * time.Millisecond) { // until the servers have found each other
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, err = js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: natsStream, Subjects: []string{natsStream}, Replicas: members, Storage: jetstream.FileStorage})
		if err == nil {
			_, err = js.Publish(ctx, natsStream, nil)
		}
		cancel()
		if err == nil {
			return &natsClient{nc, js}, nil
		}
	}
	return nil, err
}

func (c *natsClient) Leads() bool { return false }

func (c *natsClient) Op(name string) func(context.Context, []byte) error {
	switch name {
	case "Publish":
		return func(ctx context.Context, payload []byte) error {
			_, err := c.js.Publish(ctx, natsStream, payload)
			return err
		}
	case "PublishAsync":
		return func(ctx context.Context, payload []byte) error {
			f, err := c.js.PublishAsync(natsStream, payload)
			if err != nil {
				return err
			}
			select {
			case <-f.Ok():
				return nil
			case err := <-f.Err():
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

func (c *natsClient) Close() error {
	c.nc.Close()
	return nil
}
