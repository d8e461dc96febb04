package ha_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// What the tests of this package share beyond the cluster of node_test.go.

// quick makes elections faster, for tests that wait for one. None of them may count on a role that goes on.
func quick(cfg *ha.Config) {
	cfg.Heartbeat, cfg.ElectionTimeout = 50*time.Millisecond, time.Second
}

// steady makes a role last, whatever else the machine does, for tests that do all with one token. After a restart of all an election takes its time.
func steady(cfg *ha.Config) {
	cfg.Heartbeat, cfg.ElectionTimeout = 200*time.Millisecond, 15*time.Second
}

// eventually waits until ok, for as long as patience lasts.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// receive waits for a value, for as long as patience lasts.
func receive[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tree describes everything below dir: what is there, how long, with what content and since when.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v %v", path, info.Mode(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x", len(content), crc32.Checksum(content, castagnoli))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return b.String()
}

// refusedOpen opens what must be refused without a byte being written.
func refusedOpen(t *testing.T, cfg ha.Config) error {
	t.Helper()
	before := tree(t, filepath.Dir(cfg.Dir))
	n, err := ha.Open(cfg)
	if err == nil {
		n.Close()
		t.Fatalf("%s was opened", cfg.Dir)
	}
	if after := tree(t, filepath.Dir(cfg.Dir)); after != before {
		t.Errorf("the refused start has changed the directory from\n%sto\n%s", before, after)
	}
	return err
}

// others returns the names of the members that are not there.
func (c *cluster) others(not ...string) (names []string) {
	for _, m := range c.members {
		if !slices.Contains(not, m.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// activeOtherThan waits for an Active that is not the holder of a token, and supersedes it.
func (c *cluster) activeOtherThan(old fence.Token) (*ha.Node, fence.Token) {
	c.t.Helper()
	n, s := c.await("active after "+old.String(), func(s ha.Status) bool { return s.State == ha.Active && s.Name != old.Holder })
	if !s.Token.Supersedes(old) {
		c.t.Errorf("%v does not supersede %v", s.Token, old)
	}
	return n, s.Token
}

// handOver ends the role of a token. Under load the others may for a moment be too slow to count as
// successors, or to take over; then another epoch of the same member follows.
func (c *cluster) handOver(token fence.Token) {
	c.t.Helper()
	n := c.nodes[token.Holder]
	eventually(c.t, "the role of "+token.String()+" is handed over", func() bool {
		err := n.Become(c.t.Context(), ha.Standby)
		if err != nil && !errors.Is(err, ha.ErrNotHandedOver) && !errors.Is(err, ha.ErrNoSuccessor) {
			c.t.Fatalf("Become(Standby): %v", err)
		}
		return n.Check(token) != nil
	})
}

// put appends one record on whoever is Active, and again if that role ends meanwhile: the
// definite errors are the only ones that allow that.
func (c *cluster) put(record []byte) (index uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		n, token := c.active()
		index, err := n.Append(ctx, token, record)
		if err == nil {
			return index
		}
		if !errors.Is(err, ha.ErrFenced) && !errors.Is(err, ha.ErrNotActive) || ctx.Err() != nil {
			for name, n := range c.nodes {
				c.t.Logf("%s: %+v", name, n.Status())
			}
			c.t.Fatalf("append: %v", err)
		}
	}
}

// records reads the first n records of a member's log.
func records(t *testing.T, n *ha.Node, count uint64) (all []ha.Entry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if count == 0 {
		return nil
	}
	for e, err := range n.Subscribe(ctx, 1) {
		if err != nil || e.Index != uint64(len(all))+1 {
			t.Fatalf("record %d: %d, %v", len(all)+1, e.Index, err)
		}
		if all = append(all, e); e.Index == count {
			break
		}
	}
	return all
}

// A ledger notes what became of appends, and compares that with the log at the end (G1, G3).
type ledger struct {
	mu      sync.Mutex
	acked   map[uint64]uint64 // value by index
	refused map[uint64]error  // definite, by value
	unknown map[uint64]error
}

func newLedger() *ledger {
	return &ledger{acked: map[uint64]uint64{}, refused: map[uint64]error{}, unknown: map[uint64]error{}}
}

func (l *ledger) note(t *testing.T, value, index uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(err, ha.ErrUnknown):
		l.unknown[value] = err
	case err != nil:
		l.refused[value] = err
	default:
		if other, taken := l.acked[index]; taken {
			t.Errorf("index %d was given to %d and to %d", index, other, value)
		}
		l.acked[index] = value
	}
}

// check compares the ledger with the logs of all running members, which must be equal.
func (l *ledger) check(c *cluster) {
	c.t.Helper()
	t := c.t
	l.mu.Lock()
	defer l.mu.Unlock()
	last := c.put(number(0)) // behind everything that could still come
	var first []ha.Entry
	for name, n := range c.nodes {
		log := records(t, n, last)
		if first == nil {
			first = log
		}
		there := map[uint64]bool{}
		for i, e := range log {
			v := value(e.Data)
			if v != value(first[i].Data) || e.Epoch != first[i].Epoch {
				t.Fatalf("%s has %+v where another member has %+v", name, e, first[i])
			}
			if i > 0 && e.Epoch < log[i-1].Epoch {
				t.Errorf("%s: record %d of epoch %d follows one of epoch %d", name, e.Index, e.Epoch, log[i-1].Epoch)
			}
			if there[v] && v != 0 {
				t.Errorf("%s: %d is in the log twice, again as record %d", name, v, e.Index)
			}
			there[v] = true
			if want, ok := l.acked[e.Index]; ok && want != v {
				t.Errorf("%s: record %d was acknowledged as %d and is %d", name, e.Index, want, v)
			}
		}
		for index, v := range l.acked {
			if index > last {
				t.Errorf("%s: acknowledged record %d (%d) is lost", name, index, v)
			}
		}
		for v, err := range l.refused {
			if there[v] {
				t.Errorf("%s: %d is in the log, and its append returned %v", name, v, err)
			}
		}
	}
}
