package ha_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/storage"
)

var silent = slog.New(slog.DiscardHandler)

// another returns a cluster of one new member whose directory something else makes.
func (c *cluster) another() *cluster {
	next := newCluster(c.t, 1, c.edit)
	next.bare = c.bare
	return next
}

func (c *cluster) founding() ha.NewCluster {
	return ha.NewCluster{Dir: filepath.Join(c.dir, "a"), Cluster: "test", Name: "a", Logger: silent}
}

// startFrom starts the member that was made of a cluster, and returns its first token, which must supersede the old one's.
func (c *cluster) startFrom(old fence.Token) (*ha.Node, fence.Token) {
	c.t.Helper()
	c.startAll()
	n, token := c.active()
	if !token.Supersedes(old) {
		c.t.Errorf("%v does not supersede %v", token, old)
	}
	return n, token
}

// shortLog has a checkpoint after some dozens of records, and quick elections.
func shortLog(cfg *ha.Config) {
	quick(cfg)
	cfg.CheckpointBytes, cfg.RetainBytes = 2048, 1<<20
}

// Whatever member writes it, a backup becomes a cluster that has everything, under the same indexes, and a higher epoch than
// any that the old one gives later, or another one that was restored before (G9).
func TestBackupRestore(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		c := newCluster(t, 3, shortLog)
		c.bare = bare
		c.startAll()
		var before uint64
		for i := range uint64(100) {
			before = c.put(number(i))
		}
		_, token := c.active()
		var backups [][]byte
		for name, n := range c.nodes {
			eventually(t, name+" has all records", func() bool { return n.Status().Applied >= before })
			var b bytes.Buffer
			info, err := n.Backup(t.Context(), &b)
			if err != nil {
				t.Fatalf("backup of %s: %v", name, err)
			}
			if info.Index != before || info.Epoch < token.Epoch || info.Cluster != "test" || info.Member != name || len(info.Members) != 3 ||
				bare && (info.First != 1 || info.Machine != "") || !bare && (info.First != before+1 || info.State != 16 || info.Machine == "") {
				t.Errorf("backup of %s: %+v", name, info)
			}
			read, err := ha.ReadBackup(t.Context(), iotest.OneByteReader(bytes.NewReader(b.Bytes())))
			if err != nil || read.Index != info.Index || !read.Time.Equal(info.Time) || read.ClusterID != info.ClusterID {
				t.Errorf("read back: %+v, %v, want %+v", read, err, info)
			}
			backups = append(backups, b.Bytes())
		}
		c.put(number(1000)) // is not in them
		c.stop(token.Holder)
		_, token = c.active() // nor are this epoch, and the next
		c.handOver(token)
		_, token = c.active()
		c.closeAll()
		for i, b := range backups[:2] { // of two members, one of them a standby
			next := c.another()
			to := next.founding()
			if i > 0 {
				to.EpochAbove = token.Epoch // of the one that was restored in this very second
			}
			info, err := ha.Restore(t.Context(), bytes.NewReader(b), to)
			if err != nil || info.Index != before {
				t.Fatalf("restore: %+v, %v", info, err)
			}
			var n *ha.Node
			if n, token = next.startFrom(token); !bare {
				next.awaitSum(99*100/2, 100)
			} else {
				for i, e := range records(t, n, before) {
					if value(e.Data) != uint64(i) {
						t.Fatalf("record %d is %d", e.Index, value(e.Data))
					}
				}
			}
			if index := next.put(number(7)); index != before+1 {
				t.Errorf("the next record is %d, want %d", index, before+1)
			}
			if id := n.Epochs(); id[len(id)-1].Epoch < token.Epoch || id[0].Epoch != 1 {
				t.Errorf("history %+v", id)
			}
			next.closeAll()
			next.startAll() // from its own checkpoint and log
			if _, token = next.active(); !bare {
				next.awaitSum(99*100/2+7, 101)
			}
			next.closeAll()
		}
	}
}

// A restored member is refused by the members of the old cluster, and refuses them, although all names are the same.
func TestRestoredDoesNotMix(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, quick)
	c.startAll()
	c.put(number(1))
	_, token := c.active()
	var b bytes.Buffer
	if _, err := c.nodes["b"].Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	c.closeAll()
	old := c.config("b")
	next := ha.NewCluster{Dir: filepath.Join(c.dir, "new"), Cluster: "test", Name: "a", Logger: silent}
	if _, err := ha.Restore(t.Context(), &b, next); err != nil {
		t.Fatal(err)
	}
	restored := c.config("a")
	restored.Dir, restored.Members = next.Dir, c.members[:1]
	restored.StateMachine, old.StateMachine = new(counter), new(counter)
	a, err := ha.Open(restored)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	var first fence.Token
	eventually(t, "the restored member is active", func() bool {
		s := a.Status()
		first = s.Token
		return s.State == ha.Active
	})
	n, err := ha.Open(old)
	if err != nil {
		return // it has asked before it began
	}
	defer n.Close()
	if !first.Supersedes(token) {
		t.Errorf("%v does not supersede %v", first, token)
	}
	for range 20 {
		if s := n.Status(); s.State == ha.Active || s.Leader == "a" || s.Epoch >= first.Epoch {
			t.Fatalf("a member of the old cluster: %+v", s)
		}
		time.Sleep(20 * time.Millisecond)
	}
	eventually(t, "the restored member is active still", func() bool { return a.Status().State == ha.Active })
}

// One survivor of three becomes a cluster, with all that was acknowledged with it, and says from where on something may be missing.
func TestRecover(t *testing.T) {
	t.Parallel()
	for _, bare := range []bool{false, true} {
		c := newCluster(t, 3, shortLog)
		c.bare = bare
		c.startAll()
		for i := range uint64(60) {
			c.put(number(i))
		}
		_, token := c.active()
		if _, err := ha.Survey(t.Context(), filepath.Join(c.dir, "a")); !errors.Is(err, storage.ErrLocked) {
			t.Errorf("survey of a running member: %v", err)
		}
		c.stop("c")
		var last uint64
		for i := range uint64(40) {
			last = c.put(number(60 + i))
		}
		_, token2 := c.active()
		c.closeAll()
		if token2.Supersedes(token) {
			token = token2
		}
		dir := filepath.Join(c.dir, "b")
		was := tree(t, dir)
		left, err := ha.Survey(t.Context(), dir)
		if err != nil || left.Index != last || left.Committed > last || left.Epoch < token.Epoch || len(left.Members) != 3 {
			t.Fatalf("survey: %+v, %v", left, err)
		}
		behind, err := ha.Survey(t.Context(), filepath.Join(c.dir, "c"))
		if err != nil || behind.Index > 60 || behind.Index == 0 { // it may have been stopped before the last one came
			t.Errorf("survey of the one that was behind: %+v, %v", behind, err)
		}
		next := c.another()
		got, err := ha.Recover(t.Context(), dir, next.founding())
		if err != nil || got.Index != left.Index || got.Committed != left.Committed {
			t.Fatalf("recover: %+v, %v, want %+v", got, err, left)
		}
		if now := tree(t, dir); now != was {
			t.Errorf("the survivor's directory has changed from\n%sto\n%s", was, now)
		}
		n, _ := next.startFrom(token)
		if !bare {
			next.awaitSum(99*100/2, 100)
		}
		for i, e := range records(t, n, last) {
			if value(e.Data) != uint64(i) {
				t.Fatalf("record %d is %d", e.Index, value(e.Data))
			}
		}
		if index := next.put(number(7)); index != last+1 {
			t.Errorf("the next record is %d, want %d", index, last+1)
		}
		next.closeAll()
	}
}

// A backup that fails says why, and is none.
func TestBackupFails(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.startAll()
	c.put(number(1))
	n, _ := c.active()
	full := errors.New("full")
	for at := range 3 { // header, state, end
		w := &failingWriter{left: at, err: full}
		if _, err := n.Backup(t.Context(), w); !errors.Is(err, full) {
			t.Errorf("with write %d failing: %v", at, err)
		}
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(full)
	if _, err := n.Backup(over, io.Discard); !errors.Is(err, full) {
		t.Errorf("with a ctx that is over: %v", err)
	}
	c.closeAll()
	if _, err := n.Backup(t.Context(), io.Discard); err == nil {
		t.Error("a closed member has written a backup")
	}
	if _, err := ha.Recover(t.Context(), filepath.Join(c.dir, "nobody"), c.another().founding()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("recover nothing: %v", err)
	}
	taken := c.founding()
	var b bytes.Buffer
	c.startAll()
	eventually(t, "a backup", func() bool {
		b.Reset()
		_, err := c.nodes["a"].Backup(t.Context(), &b)
		return err == nil
	})
	c.closeAll()
	if _, err := ha.Restore(t.Context(), &b, taken); !errors.Is(err, storage.ErrNotEmpty) {
		t.Errorf("restore over a member: %v", err)
	}
}

// failingWriter fails after some writes.
type failingWriter struct {
	left int
	err  error
}

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left--; w.left < 0 {
		w.left = 0
		return 0, w.err
	}
	return len(b), nil
}

// A cluster that was restored, or recovered from a survivor, grows like any other.
func TestRestoredGrows(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"restore", "recover"} {
		c := newCluster(t, 1, shortLog)
		c.startAll()
		for i := range uint64(50) {
			c.put(number(i))
		}
		var b bytes.Buffer
		if _, err := c.nodes["a"].Backup(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		_, token := c.active()
		c.closeAll()
		next := newCluster(t, 2, shortLog)
		all := next.members
		next.joins("b")
		next.members = all[:1]
		var err error
		if way == "restore" {
			_, err = ha.Restore(t.Context(), &b, next.founding())
		} else {
			_, err = ha.Recover(t.Context(), filepath.Join(c.dir, "a"), next.founding())
		}
		if err != nil {
			t.Fatal(err)
		}
		next.start("a")
		if _, now := next.active(); !now.Supersedes(token) {
			t.Errorf("%v does not supersede %v", now, token)
		}
		next.members = all
		next.start("b")
		next.ask("b is added", func(n *ha.Node) error { return n.AddMember(t.Context(), all[1]) })
		next.awaitSum(49*50/2, 50)
		next.works("b")
		next.put(number(1))
		next.awaitSum(49*50/2+1, 51)
		_, before := next.active()
		next.handOver(before)
		next.put(number(1))
		next.awaitSum(49*50/2+2, 52)
		next.closeAll()
	}
}
