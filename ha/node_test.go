package ha_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// patience bounds every wait of these tests; it is only ever used up by a failure.
var patience time.Duration

func init() {
	flag.DurationVar(&patience, "patience", 60*time.Second, "how long the tests with sockets wait for what happens at last")
}

// counter is a state machine that adds up eight-byte numbers.
type counter struct {
	mu  sync.Mutex
	sum uint64
	n   int
}

func (c *counter) Apply(entries []ha.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		c.sum += binary.LittleEndian.Uint64(e.Data)
		c.n++
	}
	return nil
}

func (c *counter) value() (sum uint64, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sum, c.n
}

type counterSnapshot [16]byte

func (s counterSnapshot) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(s[:])
	return int64(n), err
}

func (c *counter) Snapshot() (io.WriterTo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var s counterSnapshot
	binary.LittleEndian.PutUint64(s[:], c.sum)
	binary.LittleEndian.PutUint64(s[8:], uint64(c.n))
	return s, nil
}

func (c *counter) Restore(r io.Reader) error {
	var s counterSnapshot
	if _, err := io.ReadFull(r, s[:]); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum, c.n = binary.LittleEndian.Uint64(s[:]), int(binary.LittleEndian.Uint64(s[8:]))
	return nil
}

// A cluster of nodes in this process, over real TCP, with real files.
type cluster struct {
	t       *testing.T
	dir     string
	members []ha.Member
	edit    func(*ha.Config)
	bare    bool // no state machine, unless edit sets one
	nodes   map[string]*ha.Node
	sums    map[string]*counter
}

func newCluster(t *testing.T, size int, edit func(*ha.Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), edit: edit, nodes: map[string]*ha.Node{}, sums: map[string]*counter{}}
	for i := range size {
		c.members = append(c.members, ha.Member{Name: string(rune('a' + i)), Addr: loopback.Addr(t)})
	}
	t.Cleanup(c.closeAll)
	return c
}

func (c *cluster) config(name string) ha.Config {
	level := slog.LevelError + 4
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	cfg := ha.Config{
		Name: name, Dir: filepath.Join(c.dir, name), Cluster: "test", Members: c.members,
		// Machines that run tests are busy, and their disks too: with less, a role ends sometimes that a test counts on.
		Heartbeat: 100 * time.Millisecond, ElectionTimeout: 3 * time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}
	if c.edit != nil {
		c.edit(&cfg)
	}
	return cfg
}

func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		cfg := c.config(name)
		c.sums[name] = new(counter)
		if cfg.StateMachine == nil && !c.bare {
			cfg.StateMachine = c.sums[name]
		}
		n, err := ha.Open(cfg)
		if err != nil {
			c.t.Fatalf("open %s: %v", name, err)
		}
		c.nodes[name] = n
	}
}

func (c *cluster) startAll() {
	c.t.Helper()
	for _, m := range c.members {
		c.start(m.Name)
	}
}

// closeAll closes all nodes, the Active last: it would hand over to one that closes, too, and wait for that.
func (c *cluster) closeAll() {
	for _, active := range []bool{false, true} {
		var some sync.WaitGroup
		for name, n := range c.nodes {
			if active || n.Status().State != ha.Active {
				delete(c.nodes, name)
				some.Go(func() { n.Close() })
			}
		}
		some.Wait()
	}
}

func (c *cluster) stop(name string) {
	c.t.Helper()
	if err := c.nodes[name].Close(); err != nil {
		c.t.Fatalf("close %s: %v", name, err)
	}
	delete(c.nodes, name)
}

// await waits until some node's status satisfies ok.
func (c *cluster) await(what string, ok func(ha.Status) bool) (*ha.Node, ha.Status) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		for _, n := range c.nodes {
			if s := n.Status(); ok(s) {
				return n, s
			}
		}
	}
	for name, n := range c.nodes {
		c.t.Logf("%s: %+v", name, n.Status())
	}
	c.t.Fatalf("no member became %s", what)
	return nil, ha.Status{}
}

func (c *cluster) active() (*ha.Node, fence.Token) {
	c.t.Helper()
	n, s := c.await("active", func(s ha.Status) bool { return s.State == ha.Active })
	return n, s.Token
}

func number(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func value(record []byte) uint64 { return binary.LittleEndian.Uint64(record) }

// awaitSum waits until every running member has applied n numbers, and compares the sums.
func (c *cluster) awaitSum(sum uint64, n int) {
	c.t.Helper()
	for name := range c.nodes {
		deadline := time.Now().Add(patience)
		for _, got := c.sums[name].value(); got < n && time.Now().Before(deadline); _, got = c.sums[name].value() {
			time.Sleep(time.Millisecond)
		}
		if s, got := c.sums[name].value(); s != sum || got != n {
			c.t.Errorf("%s has %d numbers with sum %d, want %d with sum %d", name, got, s, n, sum)
		}
	}
}

func TestThreeMembers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	c.startAll()
	n, token := c.active()
	ctx := t.Context()
	for i := range uint64(10) {
		if index, err := n.Append(ctx, token, number(i)); err != nil || index != i+1 {
			t.Fatalf("append %d: %d, %v", i, index, err)
		}
	}
	c.awaitSum(45, 10)
	for name, n := range c.nodes {
		eventually(t, name+" knows the Active", func() bool { return n.Status().Active == token.Holder })
	}
	for name, n := range c.nodes {
		want := uint64(1)
		for e, err := range n.Subscribe(ctx, 1) {
			if err != nil || e.Index != want || e.Epoch != token.Epoch || string(e.Data) != string(number(want-1)) {
				t.Fatalf("%s: record %d: %+v, %v", name, want, e, err)
			}
			if want++; want > 10 {
				break
			}
		}
		if s := n.Status(); s.Name != token.Holder {
			_, err := n.Append(ctx, token, number(1))
			var na *ha.NotActiveError
			if !errors.As(err, &na) || na.Active != token.Holder || na.Addr == "" {
				t.Errorf("append on %s: %v", s.Name, err)
			}
		}
	}
	old := token.Holder
	c.stop(old) // hands over
	n, token2 := c.active()
	if !token2.Supersedes(token) {
		t.Errorf("%v does not supersede %v", token2, token)
	}
	if _, err := n.Append(ctx, token, number(0)); !errors.Is(err, ha.ErrFenced) {
		t.Errorf("append with the old token: %v", err)
	}
	if index, err := n.Append(ctx, token2, number(10)); err != nil || index != 11 {
		t.Fatalf("append: %d, %v", index, err)
	}
	c.start(old)
	c.awaitSum(55, 11)
	c.closeAll()
	c.startAll()
	n, token3 := c.active()
	if !token3.Supersedes(token2) {
		t.Errorf("%v does not supersede %v", token3, token2)
	}
	if index, err := n.Append(ctx, token3, number(11)); err != nil || index != 12 {
		t.Fatalf("append: %d, %v", index, err)
	}
	c.awaitSum(66, 12)
	c.closeAll()
}

func TestOneMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	for round := range uint64(3) {
		c.startAll()
		n, token := c.active()
		if token.Epoch != round+1 {
			t.Errorf("epoch %d in round %d", token.Epoch, round)
		}
		if index, err := n.Append(t.Context(), token, number(1)); err != nil || index != round+1 {
			t.Fatalf("append: %d, %v", index, err)
		}
		if err := n.Become(t.Context(), ha.Standby); !errors.Is(err, ha.ErrNoSuccessor) {
			t.Errorf("Become(Standby): %v", err)
		}
		c.awaitSum(round+1, int(round)+1)
		c.closeAll()
	}
}

func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, steady)
	c.startAll()
	n, token := c.active()
	const writers, each = 64, 50
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]string{}
	for w := range writers {
		all.Go(func() {
			for i := range each {
				index, err := n.Append(context.Background(), token, number(uint64(w*each+i)))
				if err != nil {
					t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				if other := seen[index]; other != "" {
					t.Errorf("index %d given twice: %s", index, other)
				}
				seen[index] = fmt.Sprint(w, i)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	total := uint64(writers * each)
	c.awaitSum(total*(total-1)/2, int(total))
}
