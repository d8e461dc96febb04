package ha

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/sim"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
)

// This is the contract of log.Storage, as one suite of tests that the real storage and the simulated disk
// must both pass: what the simulator finds holds for the product only as far as they are alike.

var contractMembers = []log.Member{{ID: 1, Name: "a"}, {ID: 2, Name: "b"}, {ID: 3, Name: "c"}}

// A contracted is a storage under test.
type contracted struct {
	log.Storage
	t      *testing.T
	reopen func() log.Storage // as a restart does
}

// TestStorageContract runs every clause against both.
func TestStorageContract(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) *contracted{
		"wal": func(t *testing.T) *contracted {
			dir := filepath.Join(t.TempDir(), "m")
			c := &contracted{t: t}
			c.reopen = func() log.Storage {
				if c.Storage != nil {
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
				}
				w, err := storage.Open(dir, storage.Options{
					Identity: storage.Identity{Cluster: "x", Member: "a", ID: 1, Incarnation: 1}, Boot: log.Boot(contractMembers),
					Logger: quiet, SegmentSize: 16 << 10,
				})
				if err != nil {
					t.Fatal(err)
				}
				c.Storage = w
				return w
			}
			c.reopen()
			t.Cleanup(func() { c.Close() })
			return c
		},
		"simulated disk": func(t *testing.T) *contracted {
			d := sim.NewDisk(log.Boot(contractMembers))
			return &contracted{Storage: d, t: t, reopen: func() log.Storage { return d }}
		},
	} {
		for _, clause := range contractClauses {
			t.Run(name+"/"+clause.says, func(t *testing.T) {
				t.Parallel()
				clause.test(open(t))
			})
		}
	}
}

func raftEntries(lo, hi, term uint64) (ents []*raftpb.Entry) {
	for i := lo; i < hi; i++ {
		ents = append(ents, &raftpb.Entry{Index: new(i), Term: new(term), Data: bytes.Repeat([]byte{byte(i), byte(term)}, 500)})
	}
	return ents
}

func hardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

// snapshotAt returns a snapshot with the header that a leader sends.
func snapshotAt(index, term uint64) *raftpb.Snapshot {
	boot := log.Boot(contractMembers)
	return &raftpb.Snapshot{Data: boot.GetData(), Metadata: &raftpb.SnapshotMetadata{
		Index: &index, Term: &term, ConfState: boot.GetMetadata().GetConfState(),
	}}
}

// writerFunc and readerFunc are bodies during which something happens.
type writerFunc func(io.Writer) error

func (f writerFunc) WriteTo(w io.Writer) (int64, error) { return 0, f(w) }

type readerFunc func() error

func (f readerFunc) Read(p []byte) (int, error) { return 0, f() }

func (c *contracted) ok(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *contracted) refuses(what string, err error) {
	c.t.Helper()
	if err == nil {
		c.t.Errorf("%s: accepted", what)
	}
}

// fill writes entries 2 to 100 of term 2, committed.
func (c *contracted) fill() {
	c.t.Helper()
	for i := uint64(2); i <= 100; i += 9 {
		c.ok(c.Save(hardState(2, 1, i-1), raftEntries(i, i+9, 2)))
	}
	c.ok(c.Save(hardState(2, 1, 100), nil))
}

func (c *contracted) stage(index uint64, body string) {
	c.t.Helper()
	c.ok(c.StageSnapshot(snapshotAt(index, 2), bytes.NewReader([]byte(body))))
}

// inForce checks which snapshot is in force, and its body.
func (c *contracted) inForce(index uint64, body string) {
	c.t.Helper()
	snap, r, size, err := c.OpenSnapshot()
	c.ok(err)
	defer r.Close()
	b, err := io.ReadAll(r)
	c.ok(err)
	if snap.GetMetadata().GetIndex() != index || string(b) != body || size != int64(len(body)) {
		c.t.Errorf("snapshot %d with %q, %d bytes, is in force, want %d with %q", snap.GetMetadata().GetIndex(), b, size, index, body)
	}
}

// holds checks that entries can be read, and that First says so.
func (c *contracted) holds(lo, hi uint64) {
	c.t.Helper()
	if c.First() > lo {
		c.t.Errorf("first is %d, want at most %d", c.First(), lo)
	}
	for lo < hi {
		ents, err := c.Entries(lo, hi, 3000)
		c.ok(err)
		for _, e := range ents {
			if e.GetIndex() != lo {
				c.t.Fatalf("entry %d where %d should be", e.GetIndex(), lo)
			}
			lo++
		}
	}
}

// lacks checks that an entry cannot be read, because it is not held any more.
func (c *contracted) lacks(index uint64) {
	c.t.Helper()
	if _, err := c.Entries(index, index+1, 1); err == nil || c.First() <= index {
		c.t.Errorf("entry %d: %v, first is %d", index, err, c.First())
	}
}

func text(s string) io.WriterTo { return bytes.NewBufferString(s) }

var contractClauses = []struct {
	says string
	test func(c *contracted)
}{
	{"saves what raft writes and refuses what it never does", func(c *contracted) {
		c.ok(c.Save(hardState(2, 1, 1), raftEntries(2, 10, 2)))
		c.ok(c.Save(hardState(2, 1, 5), raftEntries(8, 12, 2))) // overwrites
		c.ok(c.Save(nil, raftEntries(12, 13, 2)))
		c.refuses("a committed entry", c.Save(nil, raftEntries(5, 6, 2)))
	}},
	{"refuses a gap", func(c *contracted) { c.refuses("", c.Save(hardState(2, 1, 1), raftEntries(3, 4, 2))) }},
	{"refuses a gap within", func(c *contracted) {
		c.refuses("", c.Save(hardState(2, 1, 1), append(raftEntries(2, 3, 2), raftEntries(4, 5, 2)...)))
	}},
	{"refuses a term that falls", func(c *contracted) {
		c.ok(c.Save(hardState(3, 1, 1), raftEntries(2, 5, 3)))
		c.refuses("", c.Save(nil, raftEntries(5, 6, 2)))
	}},
	{"refuses a hard state that forgets a term", func(c *contracted) {
		c.fill()
		c.refuses("", c.Save(hardState(1, 1, 100), nil))
	}},
	{"refuses a hard state that changes a vote", func(c *contracted) {
		c.fill()
		c.refuses("", c.Save(hardState(2, 3, 100), nil))
	}},
	{"refuses a hard state that forgets a commit", func(c *contracted) {
		c.fill()
		c.refuses("", c.Save(hardState(3, 1, 99), nil))
	}},
	{"refuses a commit beyond the log", func(c *contracted) {
		c.fill()
		c.refuses("", c.Save(hardState(3, 1, 101), nil))
	}},
	{"reads at least one entry and none beyond the last", func(c *contracted) {
		c.fill()
		c.holds(2, 101)
		if ents, err := c.Entries(100, 200, 1); err != nil || len(ents) != 1 {
			c.t.Error(len(ents), err)
		}
		_, err := c.Entries(101, 102, 1)
		c.refuses("beyond the last", err)
		if c.First() > 2 {
			c.t.Error("that must not look as if it were compacted")
		}
	}},
	{"drops a checkpoint that is older than what is there", func(c *contracted) {
		c.fill()
		c.ok(c.SaveSnapshot(snapshotAt(50, 2), text("fifty")))
		c.ok(c.SaveSnapshot(snapshotAt(40, 2), text("forty")))
		c.inForce(50, "fifty")
	}},
	{"refuses a checkpoint of what is not in the log", func(c *contracted) {
		c.fill()
		c.refuses("beyond the end", c.SaveSnapshot(snapshotAt(101, 2), nil))
		c.refuses("of another term", c.SaveSnapshot(snapshotAt(50, 1), nil))
		c.inForce(1, "")
	}},
	{"changes nothing when a body fails", func(c *contracted) {
		c.fill()
		c.refuses("checkpoint", c.SaveSnapshot(snapshotAt(50, 2), writerFunc(func(w io.Writer) error {
			_, _ = w.Write([]byte("half"))
			return errors.New("no more")
		})))
		c.refuses("staging", c.StageSnapshot(snapshotAt(500, 2), readerFunc(func() error { return errors.New("cut off") })))
		c.refuses("what was not staged", c.InstallSnapshot(snapshotAt(500, 2), nil))
		c.inForce(1, "")
	}},
	{"goes on after a leader's snapshot", func(c *contracted) {
		c.fill()
		c.stage(500, "leader")
		c.inForce(1, "")
		c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
		c.inForce(500, "leader")
		c.lacks(2)
		c.lacks(500)
		c.refuses("a gap", c.Save(nil, raftEntries(502, 503, 2)))
	}},
	{"recovers a leader's snapshot", func(c *contracted) {
		c.fill()
		c.stage(500, "leader")
		c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
		c.ok(c.Save(nil, raftEntries(501, 510, 2)))
		c.reopen()
		hard, snap, last, terms := c.Recovered()
		if hard.GetCommit() < 500 || snap.GetMetadata().GetIndex() != 500 || last != 509 || c.First() != 501 {
			c.t.Error(hard, snap, last, c.First())
		}
		if runs := maps.Collect(terms); !maps.Equal(runs, map[uint64]uint64{501: 2}) {
			c.t.Error(runs)
		}
		c.holds(501, 510)
		c.inForce(500, "leader")
	}},
	{"refuses a leader's snapshot that is older than what is there", func(c *contracted) {
		c.fill()
		c.stage(60, "leader")
		c.ok(c.SaveSnapshot(snapshotAt(70, 2), text("seventy")))
		c.refuses("", c.InstallSnapshot(snapshotAt(60, 2), nil))
	}},
	{"refuses a leader's snapshot of a term that is not known yet", func(c *contracted) {
		c.fill()
		c.ok(c.StageSnapshot(snapshotAt(500, 7), nil))
		c.refuses("", c.InstallSnapshot(snapshotAt(500, 7), hardState(2, 1, 500)))
	}},
	{"keeps what is staged until one as new is in force", func(c *contracted) {
		c.fill()
		c.stage(500, "older")
		c.stage(700, "newer")
		c.ok(c.SaveSnapshot(snapshotAt(90, 2), text("own")))
		c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
		c.ok(c.InstallSnapshot(snapshotAt(700, 2), hardState(2, 1, 700)))
		c.inForce(700, "newer")
	}},
	{"installs while an own checkpoint is written", func(c *contracted) { // item by item, on one goroutine: no lock is held
		c.fill()
		c.stage(500, "leader")
		c.ok(c.SaveSnapshot(snapshotAt(90, 2), writerFunc(func(w io.Writer) error {
			c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
			c.ok(c.Save(nil, raftEntries(501, 503, 2)))
			_, err := w.Write([]byte("own"))
			return err
		})))
		c.inForce(500, "leader")
		c.holds(501, 503)
	}},
	{"installs, saves and checkpoints while another is staged", func(c *contracted) {
		c.fill()
		c.stage(500, "leader")
		c.ok(c.StageSnapshot(snapshotAt(700, 2), readerFunc(func() error {
			c.ok(c.SaveSnapshot(snapshotAt(90, 2), text("own")))
			c.ok(c.StageSnapshot(snapshotAt(600, 2), nil))
			c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
			c.ok(c.Save(nil, raftEntries(501, 503, 2)))
			return io.EOF
		})))
		c.inForce(500, "leader")
		c.ok(c.InstallSnapshot(snapshotAt(700, 2), hardState(2, 1, 700)))
		c.inForce(700, "")
	}},
	{"stages the same snapshot twice at a time", func(c *contracted) {
		c.fill()
		c.ok(c.StageSnapshot(snapshotAt(500, 2), io.MultiReader(bytes.NewReader([]byte("leader")), readerFunc(func() error {
			c.stage(500, "leader")
			return io.EOF
		}))))
		c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
		c.inForce(500, "leader")
	}},
	{"adopts a leader's snapshot of what is in the log as a checkpoint, alone and under another header", func(c *contracted) {
		c.fill()
		c.ok(c.SaveSnapshot(snapshotAt(40, 2), text("own")))
		c.refuses("what is not staged", c.AdoptSnapshot(snapshotAt(70, 2)))
		c.stage(70, "leader")
		c.inForce(40, "own")
		own := snapshotAt(70, 2)
		own.Data = append(own.GetData(), make([]byte, 3000)...)
		c.ok(c.AdoptSnapshot(own))
		for range 2 {
			snap, r, _, err := c.OpenSnapshot()
			c.ok(err)
			c.ok(r.Close())
			if !bytes.Equal(snap.GetData(), own.GetData()) {
				c.t.Errorf("the header has %d bytes, want %d", len(snap.GetData()), len(own.GetData()))
			}
			c.inForce(70, "leader")
			c.holds(2, 101)
			if _, _, _, err := c.OpenFallback(); err == nil {
				c.t.Error("there is one before it")
			}
			c.reopen()
		}
		c.ok(c.Save(hardState(2, 1, 110), raftEntries(101, 111, 2)))
		c.stage(105, "overtaken")
		c.ok(c.SaveSnapshot(snapshotAt(110, 2), text("newer")))
		c.ok(c.AdoptSnapshot(snapshotAt(105, 2)))
		c.inForce(110, "newer")
		c.ok(c.Compact(1 << 40))
		c.holds(71, 111)
		c.reopen()
		c.holds(71, 111)
	}},
	{"lets an open snapshot be read to its end", func(c *contracted) {
		c.fill()
		c.ok(c.SaveSnapshot(snapshotAt(50, 2), text("fifty")))
		_, r, _, err := c.OpenSnapshot()
		c.ok(err)
		defer r.Close()
		for _, i := range []uint64{60, 70, 80} {
			c.ok(c.SaveSnapshot(snapshotAt(i, 2), nil))
		}
		if b, err := io.ReadAll(r); err != nil || string(b) != "fifty" {
			c.t.Error(string(b), err)
		}
	}},
	{"falls back to the checkpoint before one that is not trusted, and keeps that", func(c *contracted) {
		c.fill()
		c.ok(c.SaveSnapshot(snapshotAt(50, 2), text("fifty")))
		c.ok(c.SaveSnapshot(snapshotAt(60, 2), text("sixty")))
		for _, next := range []uint64{60, 90} {
			snap, r, size, err := c.OpenFallback()
			c.ok(err)
			b, err := io.ReadAll(r)
			c.ok(errors.Join(err, r.Close()))
			if i := snap.GetMetadata().GetIndex(); i != 50 || string(b) != "fifty" || size != 5 {
				c.t.Errorf("before %d there is %d, with %q", next, i, b)
			}
			if next == 60 {
				c.ok(c.SaveSnapshot(snapshotAt(90, 2), text("ninety")))
			}
			c.inForce(90, "ninety")
			c.ok(c.Compact(1 << 40))
			c.holds(51, 101)
		}
		c.stage(500, "leader")
		c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
		if _, _, _, err := c.OpenFallback(); err == nil {
			c.t.Error("there is one before a snapshot that replaced the log")
		}
	}},
	{"keeps the log after the older of two checkpoints", func(c *contracted) {
		c.fill()
		c.ok(c.Compact(90))
		c.holds(2, 101) // what a new member begins with is one, too
		c.ok(c.SaveSnapshot(snapshotAt(60, 2), nil))
		c.ok(c.SaveSnapshot(snapshotAt(90, 2), nil))
		c.ok(c.Compact(1 << 40))
		c.holds(61, 101)
		if c.First() < 40 {
			c.t.Errorf("nothing was given up: first is %d", c.First())
		}
		c.lacks(2)
		c.reopen()
		c.holds(61, 101)
		c.ok(c.Compact(1 << 40))
		c.holds(61, 101)
	}},
	{"keeps no log for a checkpoint that a leader's has replaced", func(c *contracted) {
		c.fill()
		c.ok(c.SaveSnapshot(snapshotAt(60, 2), nil))
		c.stage(500, "leader")
		c.ok(c.InstallSnapshot(snapshotAt(500, 2), hardState(2, 1, 500)))
		c.ok(c.Save(hardState(2, 1, 600), raftEntries(501, 601, 2)))
		c.ok(c.SaveSnapshot(snapshotAt(600, 2), nil))
		c.ok(c.Compact(600))
		c.holds(501, 601)
		c.reopen()
		c.holds(501, 601)
	}},
	{"drops a checkpoint that begins while a leader's snapshot is brought into force", func(c *contracted) {
		if _, is := c.Storage.(*sim.Disk); is {
			return // it is used by one goroutine
		}
		c.ok(c.Save(hardState(2, 1, 1), nil))
		for at := uint64(1); at < 2000; at += 100 {
			c.ok(c.Save(hardState(2, 1, at+20), raftEntries(at+1, at+21, 2)))
			c.stage(at+100, "leader")
			var own sync.WaitGroup
			own.Go(func() {
				for i := range uint64(10) {
					if err := c.SaveSnapshot(snapshotAt(at+1+i, 2), nil); err != nil {
						c.t.Error(err)
					}
				}
			})
			time.Sleep(time.Duration(at%7) * 100 * time.Microsecond)
			c.ok(c.InstallSnapshot(snapshotAt(at+100, 2), hardState(2, 1, at+100)))
			own.Wait()
			c.inForce(at+100, "leader")
		}
	}},
	{"says that an entry is gone, not that it is damaged, while the log is cut", func(c *contracted) {
		if _, is := c.Storage.(*sim.Disk); is {
			return // it is used by one goroutine
		}
		c.fill()
		var readers sync.WaitGroup
		defer readers.Wait()
		done := make(chan struct{})
		defer close(done)
		var written atomic.Uint64
		written.Store(100)
		for range 4 {
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					for lo, last := c.First(), written.Load(); lo <= last; {
						ents, err := c.Entries(lo, last+1, 2000)
						if first := c.First(); err != nil && first <= lo {
							c.t.Errorf("entry %d: %v, and first is %d", lo, err, first)
							return
						}
						if err != nil {
							break
						}
						lo += uint64(len(ents))
					}
				}
			})
		}
		for at := uint64(100); at < 1000; at += 30 {
			c.ok(c.Save(hardState(2, 1, at+30), raftEntries(at+1, at+31, 2)))
			written.Store(at + 30)
			c.ok(c.SaveSnapshot(snapshotAt(at, 2), nil))
			c.ok(c.Compact(at))
			c.holds(at+1, at+31)
		}
	}},
}

// TestStorageContractAfterDamage: whatever the older of two checkpoints needs is there, so a member whose
// newest one is damaged starts again, and its log begins where it says.
func TestStorageContractAfterDamage(t *testing.T) {
	t.Parallel()
	d := sim.NewDisk(log.Boot(contractMembers))
	c := &contracted{Storage: d, t: t}
	c.fill()
	c.ok(c.SaveSnapshot(snapshotAt(60, 2), text("sixty")))
	c.ok(c.SaveSnapshot(snapshotAt(90, 2), text("ninety")))
	c.ok(c.Compact(90))
	if !d.Damage() || d.Damage() {
		t.Fatal("want one fallback")
	}
	_, snap, last, _ := d.Recovered()
	if snap.GetMetadata().GetIndex() != 60 || last != 100 {
		t.Fatal(fmt.Sprint(snap), last)
	}
	c.ok(c.SaveSnapshot(snapshotAt(70, 2), text("seventy"))) // older than the damaged one, newer than the one in force
	c.inForce(70, "seventy")
}
