//lint:file-ignore SA4006 the page leaves out what is done with errors

package raftfsm_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/raftfsm"
)

// The code of docs/migrating.md is in the functions of this file, line for line, so that it compiles.

type pageFSM interface {
	raft.FSM
	Get(key string) string
}

func openStore(string) (*raft.InmemStore, error) { return raft.NewInmemStore(), nil }

func startThere(fsm raft.FSM, dir, addr string, first bool, servers []raft.Server) (*raft.Raft, error) {
	cfg := raft.DefaultConfig()
	cfg.LocalID = "a"
	store, err := openStore(dir) // of raft-boltdb or raft-wal
	snapshots, err := raft.NewFileSnapshotStore(dir, 2, os.Stderr)
	transport, err := raft.NewTCPTransport(addr, nil, 3, 10*time.Second, os.Stderr)
	r, err := raft.NewRaft(cfg, fsm, store, store, snapshots, transport)
	if first {
		err = r.BootstrapCluster(raft.Configuration{Servers: servers}).Error()
	}
	return r, err
}

func startHere(fsm raft.FSM, dir string, members []ha.Member, lead func(context.Context, fence.Token) error) (*raftfsm.Machine, *ha.Node, error) {
	m := raftfsm.New(fsm, raftfsm.Config{})
	node, err := ha.Open(ha.Config{Name: "a", Dir: dir, Cluster: "jobs", Members: members, StateMachine: m, OnActive: lead})
	return m, node, err
}

func leadThere(r *raft.Raft, start, stop func()) {
	for leads := range r.LeaderCh() { // it may have missed some
		if !leads {
			stop()
			continue
		}
		if err := r.Barrier(time.Minute).Error(); err != nil { // or the FSM may be behind what was committed before
			continue
		}
		start()
	}
}

func leadHere(work func(context.Context, fence.Token) error) func(context.Context, fence.Token) error {
	lead := func(ctx context.Context, token fence.Token) error {
		// The FSM has every record of all Actives before this one (G5), and theirs has stopped (G4).
		return work(ctx, token) // until ctx ends, which is before another one begins
	}
	return lead
}

func applyThere(r *raft.Raft, command []byte) error {
	f := r.Apply(command, time.Second)
	if err := f.Error(); err != nil { // ErrNotLeader, ErrLeadershipLost, ErrEnqueueTimeout …
		return err
	}
	result := f.Response()
	_ = result
	return nil
}

func applyHere(ctx context.Context, m *raftfsm.Machine, node *ha.Node, token fence.Token, command []byte) (any, uint64, error) {
	result, index, err := m.Append(ctx, node, token, command)
	return result, index, err
}

func callHere(ctx context.Context, node *ha.Node, command []byte) (any, error) {
	result, err := raftfsm.Call(ctx, node, command)
	return result, err
}

func readThere(r *raft.Raft, fsm pageFSM, key string) error {
	if err := r.VerifyLeader().Error(); err != nil { // a round trip; on the leader
		return err
	}
	value := fsm.Get(key)
	_ = value
	return nil
}

func readHere(ctx context.Context, node *ha.Node, fsm pageFSM, key string) error {
	if err := node.ReadBarrier(ctx); err != nil { // on the Active it reads a clock, elsewhere it is a round trip that readers share
		return err
	}
	value := fsm.Get(key)
	_ = value
	return nil
}

func takeAlong(ctx context.Context, r *raft.Raft, dir string) error {
	f := r.Snapshot()
	if err := f.Error(); err != nil {
		return err
	}
	meta, state, err := f.Open()
	if err != nil {
		return err
	}
	defer state.Close()
	return ha.Import(ctx, state, meta.Index, ha.NewCluster{Dir: dir, Cluster: "jobs", Name: "a", EpochAbove: meta.Term})
}

func workHere(name, dir string, members []ha.Member, work func(context.Context, fence.Token) error) (*ha.Node, error) {
	node, err := ha.Open(ha.Config{
		Name: name, Dir: dir, Cluster: "jobs", Members: members,
		OnActive: func(ctx context.Context, token fence.Token) error { return work(ctx, token) },
		OnStuck:  ha.ExitOnStuck, // if work does not return when its ctx has ended
	})
	return node, err
}

var _ = []any{startThere, startHere, leadThere, leadHere, applyThere, applyHere, callHere, readThere, readHere, workHere}

// TestPage looks for each piece of code of the page in this file.
func TestPage(t *testing.T) {
	trimmed := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(b), "\n")
		for i, l := range lines {
			lines[i] = strings.TrimSpace(l)
		}
		return strings.Join(lines, "\n")
	}
	here, pieces := trimmed("migrating_test.go"), 0
	for i, piece := range strings.Split(trimmed("../../docs/migrating.md"), "\n```") {
		code, ok := strings.CutPrefix(piece, "go\n")
		if i%2 == 0 || !ok {
			continue
		}
		if pieces++; !strings.Contains(here, "\n"+code+"\n") {
			t.Errorf("this is in the page, and not compiled:\n%s", code)
		}
	}
	if pieces < 10 {
		t.Errorf("the page has %d pieces of code", pieces)
	}
}

// A state that was hashicorp/raft's is taken along, and goes on behind its index.
func TestTakeAlong(t *testing.T) {
	r, theirs := startRaft(t)
	for _, key := range []string{"x", "y", "z"} {
		if err := r.Apply(encode("set", key, "of raft"), 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "a")
	if err := takeAlong(t.Context(), r, dir); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ours := &batching{store{m: map[string]string{}}}
	m := raftfsm.New(ours, raftfsm.Config{})
	n, err := ha.Open(ha.Config{Name: "a", Dir: dir, Cluster: "jobs", Members: []ha.Member{{Name: "a", Addr: l.Addr().String()}}, Listener: l,
		StateMachine: m, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	eventually(t, "it is active", func() bool { return n.Status().State == ha.Active })
	if !maps.Equal(theirs.all(), ours.all()) {
		t.Errorf("raft has %v, here is %v", theirs.all(), ours.all())
	}
	result, index, err := m.Append(t.Context(), n, n.Status().Token, encode("append", "x", "!"))
	if result != "of raft!" || index != r.AppliedIndex()+1 || err != nil {
		t.Errorf("%v at %d, %v; raft was at %d", result, index, err, r.AppliedIndex())
	}
	if epoch := n.Status().Epoch; epoch <= r.CurrentTerm() {
		t.Errorf("epoch %d, and raft's term was %d", epoch, r.CurrentTerm())
	}
}
