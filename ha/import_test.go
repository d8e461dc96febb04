package ha_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/storage"
)

// A state from elsewhere is that of a new cluster, of members that come later and after a restart, too; the records go on behind its index.
func TestImport(t *testing.T) {
	t.Parallel()
	state := append(number(42), number(3)...) // of a counter
	for _, index := range []uint64{0, 1000} {
		t.Run(fmt.Sprint(index), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, shortLog)
			to := c.founding()
			to.EpochAbove = 1 << 60
			if err := ha.Import(t.Context(), iotest.OneByteReader(bytes.NewReader(state)), index, to); err != nil {
				t.Fatal(err)
			}
			n, _ := c.startFrom(fence.Token{Cluster: "test", Epoch: 1 << 60, Holder: "z"})
			c.awaitSum(42, 3)
			if got := c.put(number(7)); got != index+1 {
				t.Errorf("the first record is %d, want %d", got, index+1)
			}
			c.members = append(c.members, ha.Member{Name: "b", Addr: loopback.Addr(t)})
			c.edit = func(cfg *ha.Config) {
				shortLog(cfg)
				cfg.Join = cfg.Name == "b"
			}
			c.start("b")
			if err := n.AddMember(t.Context(), c.members[1]); err != nil {
				t.Fatal(err)
			}
			c.awaitSum(49, 4)
			c.closeAll()
			c.startAll()
			c.awaitSum(49, 4)
			if got := c.put(number(1)); got != index+2 {
				t.Errorf("the second record is %d, want %d", got, index+2)
			}
		})
	}
}

// What cannot be read to its end is no member, and neither is a directory changed that is somebody's.
func TestImport_Fails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	to := c.founding()
	broken := errors.New("the source is broken")
	if err := ha.Import(t.Context(), iotest.ErrReader(broken), 5, to); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ha.Import(ctx, strings.NewReader("state"), 5, to); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if err := ha.Import(t.Context(), strings.NewReader("short"), 5, to); err != nil {
		t.Fatal(err)
	}
	if err := ha.Import(t.Context(), strings.NewReader("other"), 5, to); !errors.Is(err, storage.ErrNotEmpty) {
		t.Errorf("twice: %v", err)
	}
	cfg := c.config("a")
	cfg.StateMachine = new(counter)
	if n, err := ha.Open(cfg); err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("a state that the machine does not take: %v", err)
		if err == nil {
			n.Close()
		}
	}
	cfg.StateMachine = nil
	if n, err := ha.Open(cfg); !errors.Is(err, ha.ErrStateMachine) {
		t.Errorf("without a machine: %v", err)
		if err == nil {
			n.Close()
		}
	}
	if err := ha.Import(t.Context(), strings.NewReader(""), 0, ha.NewCluster{}); err == nil || !strings.Contains(err.Error(), "Dir") {
		t.Errorf("no directory: %v", err)
	}
}
