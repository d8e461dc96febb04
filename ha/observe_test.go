package ha

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/lines"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
)

// A deaf handler takes no line before it is told to.
type deaf struct {
	slog.Handler
	hear chan struct{}
}

func (d deaf) Enabled(context.Context, slog.Level) bool { <-d.hear; return false }

// TestObserve_WaitsForNothing goes through everything that the loop tells a node, while the disk that holds the identity
// stands still, the logger takes nothing, no callback returns, and nobody takes an answer.
func TestObserve_WaitsForNothing(t *testing.T) {
	t.Parallel()
	files, dir := faultfs.New(), filepath.Join(string(filepath.Separator), "a")
	boot := log.Boot([]log.Member{{ID: memberID("a"), Name: "a"}})
	disk, err := storage.Open(dir, storage.Options{Identity: storage.Identity{Cluster: "c", Member: "a", ID: memberID("a"), Incarnation: 1}, Boot: boot, FS: files})
	if err != nil {
		t.Fatal(err)
	}
	hear, goOn, stuck := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	queue := lines.New(deaf{slog.DiscardHandler, hear})
	cfg := Config{
		Name: "a", Cluster: "c", Members: []Member{{Name: "a", Addr: "127.0.0.1:1"}}, Logger: queue.Logger(),
		OnActive:  func(context.Context, fence.Token) error { <-goOn; return nil },
		OnStandby: func(context.Context) error { <-goOn; return nil },
	}.withDefaults()
	n := &Node{
		cfg: cfg, lines: queue, disk: disk, clock: bootTime, founded: make(chan struct{}, 1),
		hurry: make(chan struct{}), ended: make(chan struct{}), closed: make(chan struct{}),
	}
	n.changed.Store(new(make(chan struct{})))
	n.log, err = log.Open(log.Config{
		Core: log.CoreConfig{ID: memberID("a"), Name: "a", Heartbeat: cfg.Heartbeat, ElectionTimeout: cfg.ElectionTimeout}, Logger: cfg.Logger,
		Storage: disk, Observer: observer{n}, Clock: n.clock, MaxRecord: 1, MaxPending: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.role = newRole(roleConfig{
		name: "a", cluster: "c", heartbeat: cfg.Heartbeat, electionTimeout: cfg.ElectionTimeout, drainTimeout: cfg.DrainTimeout, coolDown: cfg.CoolDown,
		id: memberID("a"), roster: n.log.Roster(),
	}, log.Epoch{})
	n.enroll(n.log.Roster())
	n.publish(n.clock())
	n.callbacks.Go(n.keepClusterID)

	files.Inject(func(op *faultfs.Op) faultfs.Fault {
		if strings.Contains(op.Name, "identity") && op.Changes() {
			select {
			case stuck <- struct{}{}:
			default:
			}
			return faultfs.Fault{Until: goOn}
		}
		return faultfs.Fault{}
	})
	met := make(chan error, 1)
	go func() { met <- disk.Meet("b", 7) }()
	<-stuck

	now := n.clock()
	view := log.View{Late: time.Second, DiskSince: now, Peers: []log.PeerView{{ID: 2}}}
	lease := log.Lease{Until: now + time.Hour}
	for _, in := range []any{
		wake{}, log.Leadership{Leader: 1, Term: 2, Leading: true}, lease, log.StartRefused{}, wake{},
		callbackDone{}, log.EpochStarted{Epoch: log.Epoch{Epoch: 1, Holder: "a", Term: 2}},
		asked(true), asked(false), log.TransferAsked{By: 2}, log.Problem{Kind: "replication", Err: errors.New("stands")}, log.Problem{Kind: "replication"},
		misuse{errors.New("misused")}, log.NoRoom{Err: errors.New("full")}, unborn{ErrUnborn}, log.MachineFailed{Err: errors.New("failed")}, callbackDone{err: errors.New("sick")},
		log.EpochStarted{Epoch: log.Epoch{Epoch: 2, Holder: "a", Term: 2}}, expired{}, log.Leadership{Term: 3}, log.Stopped{Err: errors.New("broken")},
	} {
		seen := make(chan struct{})
		go func() {
			switch in := in.(type) {
			case log.Change:
				observer{n}.Changed(now, view, in)
			case log.Mail:
				observer{n}.Posted(now, view, in)
			default:
				t.Errorf("%T is nothing that a log says", in)
			}
			close(seen)
		}()
		select {
		case <-seen:
		case <-time.After(2 * time.Second):
			t.Fatalf("the loop waits in the observer with a %T", in)
		}
	}
	close(goOn)
	close(hear)
	if err := <-met; err != nil {
		t.Error(err)
	}
	if err := n.log.Close(); err != nil {
		t.Error(err)
	}
	n.callbacks.Wait()
	flushLines(n.lines)
}
