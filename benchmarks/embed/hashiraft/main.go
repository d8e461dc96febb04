// Command hashiraft does with hashicorp/raft and raft-boltdb what its neighbour does with baton: a cluster of one,
// one append. It is measured by cmd/embedcost.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
)

type machine struct{}

func (machine) Apply(*raft.Log) any                 { return nil }
func (machine) Snapshot() (raft.FSMSnapshot, error) { return machine{}, nil }
func (machine) Restore(r io.ReadCloser) error       { return r.Close() }
func (machine) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (machine) Release()                            {}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(dir, addr string) error {
	logger := hclog.NewNullLogger()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	store, err := boltdb.NewBoltStore(filepath.Join(dir, "raft.db"))
	if err != nil {
		return err
	}
	defer store.Close()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 1, logger)
	if err != nil {
		return err
	}
	net, err := raft.NewTCPTransportWithLogger(addr, nil, 3, 10*time.Second, logger)
	if err != nil {
		return err
	}
	defer net.Close()
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.Logger = "a", logger
	servers := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: net.LocalAddr()}}}
	if err := raft.BootstrapCluster(cfg, store, store, snapshots, net, servers); err != nil {
		return err
	}
	r, err := raft.NewRaft(cfg, machine{}, store, store, snapshots, net)
	if err != nil {
		return err
	}
	for !<-r.LeaderCh() {
	}
	if err := r.Apply([]byte("add 1"), 0).Error(); err != nil {
		return err
	}
	fmt.Println("appended")
	return r.Shutdown().Error()
}
