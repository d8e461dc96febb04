// Package baton starts clusters of baton for the measurements.
package baton

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// A System is a cluster of ha.Nodes.
type System struct {
	Nodes    []*ha.Node
	Machines []*Machine // of the nodes
	active   atomic.Pointer[active]
	shims    []*harness.Shim
	configs  []ha.Config
	stopped  int // the one that StopOne has stopped
}

type active struct {
	at    int
	node  *ha.Node
	token fence.Token
}

// Machine counts the records and drops them.
type Machine struct {
	Records, Calls atomic.Uint64
	OnApply        func([]ha.Entry) // optional; set it in edit
	State          int64            // bytes of a snapshot; set it in edit
}

// Apply implements [ha.StateMachine].
func (m *Machine) Apply(entries []ha.Entry) error {
	m.Records.Add(uint64(len(entries)))
	m.Calls.Add(1)
	if m.OnApply != nil {
		m.OnApply(entries)
	}
	return nil
}

// nothing is a snapshot of so many bytes.
type nothing int64

func (n nothing) WriteTo(w io.Writer) (written int64, err error) {
	for piece := make([]byte, 256<<10); written < int64(n) && err == nil; {
		var some int
		some, err = w.Write(piece[:min(int64(len(piece)), int64(n)-written)])
		written += int64(some)
	}
	return written, err
}

// Snapshot implements [ha.StateMachine].
func (m *Machine) Snapshot() (io.WriterTo, error) { return nothing(max(1, m.State)), nil }

// Restore implements [ha.StateMachine].
func (m *Machine) Restore(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// Start starts a cluster with default settings and waits for its Active. edit, if not nil, may change the settings of
// each member.
func Start(o harness.Options, edit func(cfg *ha.Config, m *Machine)) (_ *System, err error) {
	s := new(System)
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
	var members []ha.Member
	for i, a := range others {
		members = append(members, ha.Member{Name: string(rune('a' + i)), Addr: a})
	}
	for i, m := range members {
		machine := new(Machine)
		cfg := ha.Config{
			Name: m.Name, Dir: filepath.Join(o.Dir, m.Name), Cluster: "bench", Members: members, StateMachine: machine,
			Bind: addrs[i], NoCrashEvidence: o.Shim, // a proxy's refusals say nothing about the member
			Logger: slog.New(slog.DiscardHandler), RetainBytes: keep(o.Keep),
		}
		if edit != nil {
			edit(&cfg, machine)
		}
		n, err := ha.Open(cfg)
		if err != nil {
			return nil, err
		}
		s.Nodes, s.Machines, s.configs = append(s.Nodes, n), append(s.Machines, machine), append(s.configs, cfg)
	}
	return s, s.await()
}

// keep is RetainBytes for so many bytes of payload and for what is appended beside them.
func keep(bytes int64) int64 {
	if bytes == 0 {
		return 0
	}
	return 2*bytes + 16<<30
}

func (s *System) await() error {
	return harness.Until("active baton", func() bool {
		for i, n := range s.Nodes {
			if st := n.Status(); st.State == ha.Active {
				s.active.Store(&active{i, n, st.Token})
				return true
			}
		}
		return false
	})
}

// Name implements [harness.System].
func (s *System) Name() string { return "baton" }

// Active returns the Active member and its state machine.
func (s *System) Active() (*ha.Node, *Machine) {
	a := s.active.Load()
	return a.node, s.Machines[a.at]
}

// Standby returns a member that is not Active.
func (s *System) Standby() *ha.Node { return s.Nodes[(s.active.Load().at+1)%len(s.Nodes)] }

// Token returns the Active member and its token.
func (s *System) Token() (*ha.Node, fence.Token) {
	a := s.active.Load()
	return a.node, a.token
}

// Append implements [harness.System].
func (s *System) Append(ctx context.Context, payload []byte) error {
	n, token := s.Token()
	_, err := n.Append(ctx, token, payload)
	return s.Follow(err)
}

// Follow looks for another Active if that is what an append's error asks for. It returns the error.
func (s *System) Follow(err error) error {
	if err != nil && (errors.Is(err, ha.ErrFenced) || errors.As(err, new(*ha.NotActiveError))) {
		for i, n := range s.Nodes {
			if st := n.Status(); st.State == ha.Active {
				s.active.Store(&active{i, n, st.Token})
			}
		}
	}
	return err
}

// Newcomer is the configuration of a member that is no voter, and is to be added to this cluster under a name: its directory is beside those of the others,
// and its state machine is missing.
func (s *System) Newcomer(name string) (ha.Config, ha.Member, error) {
	addrs, err := harness.Ports(1)
	if err != nil {
		return ha.Config{}, ha.Member{}, err
	}
	m, cfg := ha.Member{Name: name, Addr: addrs[0], Kind: ha.KindObserver}, s.configs[0]
	cfg.Name, cfg.Dir, cfg.Bind, cfg.Join, cfg.StateMachine = name, filepath.Join(filepath.Dir(cfg.Dir), name), "", true, nil
	cfg.Members = append([]ha.Member{m}, cfg.Members...)
	return cfg, m, nil
}

// StopFollowers implements [harness.Quorum].
func (s *System) StopFollowers() error {
	keep := s.active.Load().node
	var errs []error
	for _, n := range s.Nodes {
		if n != keep {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}

// StopOne implements [harness.Laggard].
func (s *System) StopOne() error {
	s.stopped = (s.active.Load().at + 1) % len(s.Nodes)
	return s.Nodes[s.stopped].Close()
}

// StartOne implements [harness.Laggard].
func (s *System) StartOne() (err error) {
	s.Nodes[s.stopped], err = ha.Open(s.configs[s.stopped])
	return err
}

// Behind implements [harness.Laggard].
func (s *System) Behind() uint64 {
	have, want := s.Nodes[s.stopped].Status().Applied, s.active.Load().node.Status().Applied
	return want - min(have, want)
}

// Term implements [harness.Laggard]. An epoch is a role's.
func (s *System) Term() uint64 { return s.active.Load().node.Status().Epoch }

// Replay implements [harness.Laggard].
func (s *System) Replay(ctx context.Context, took func(bytes int) bool) error {
	for e, err := range s.active.Load().node.Subscribe(ctx, 1) {
		if err != nil {
			return err
		}
		if !took(len(e.Data)) {
			return nil
		}
	}
	return nil
}

// Close implements [harness.System]. All members close at the same time, so that nobody hands over.
func (s *System) Close() error {
	errs := make([]error, len(s.Nodes))
	var all sync.WaitGroup
	for i, n := range s.Nodes {
		all.Go(func() { errs[i] = n.Close() })
	}
	all.Wait()
	harness.CloseShims(s.shims)
	return errors.Join(errs...)
}
