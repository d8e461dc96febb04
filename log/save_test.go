package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
	"github.com/baton-ha/baton/internal/sim"
)

// soloDisk is a disk that may be called by several goroutines.
type soloDisk struct {
	mu sync.Mutex
	*sim.Disk
	full  error         // of SaveSnapshot and Compact
	takes time.Duration // to write entries
}

func (d *soloDisk) Save(h *raftpb.HardState, e []*raftpb.Entry) error {
	if len(e) > 0 && d.takes > 0 {
		time.Sleep(d.takes)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Disk.Save(h, e)
}

func (d *soloDisk) SaveSnapshot(s *raftpb.Snapshot, body io.WriterTo) error {
	var b bytes.Buffer
	if body != nil {
		if _, err := body.WriteTo(&b); err != nil {
			return err
		}
		body = &b
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full != nil {
		return d.full
	}
	return d.Disk.SaveSnapshot(s, body)
}

func (d *soloDisk) Compact(i uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Disk.Compact(i)
}

func (d *soloDisk) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Disk.OpenSnapshot()
}

func (d *soloDisk) Written() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Disk.Written()
}

func (d *soloDisk) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Disk.Entries(lo, hi, maxBytes)
}

func (d *soloDisk) First() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Disk.First()
}

func (d *soloDisk) newest() uint64 {
	snap, body, _, _ := d.OpenSnapshot()
	body.Close()
	return must(core.ParseCheckpoint(snap)).Position.Index
}

func (d *soloDisk) fill(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = err
}

// flaky is a state machine that counts, and whose snapshots fail in some way.
type flaky struct {
	mu       sync.Mutex
	n        int
	snapshot func() (io.WriterTo, error) // nil: a good one
	gate     atomic.Pointer[chan struct{}]
}

func (f *flaky) Apply(e []Entry) error {
	if gate := f.gate.Load(); gate != nil {
		<-*gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n += len(e)
	return nil
}

func (f *flaky) Snapshot() (io.WriterTo, error) {
	f.mu.Lock()
	fail, n := f.snapshot, f.n
	f.mu.Unlock()
	if fail != nil {
		return fail()
	}
	return bytes.NewBufferString(fmt.Sprint(n)), nil
}

func (f *flaky) Restore(r io.Reader) error {
	_, err := fmt.Fscan(r, &f.n)
	return err
}

func (f *flaky) fails(how func() (io.WriterTo, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snapshot = how
}

type writes func() (int64, error)

func (w writes) WriteTo(io.Writer) (int64, error) { return w() }

// solo is the log of the only member of a cluster, and what it says.
type solo struct {
	*Log
	t        *testing.T
	disk     *soloDisk
	mu       sync.Mutex
	term     uint64
	epoch    uint64
	problems map[string]error
	stopped  error
}

func (s *solo) Send([]*raftpb.Message) {}

func (s *solo) Posted(_ time.Duration, _ View, mail Mail) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m := mail.(type) {
	case Stopped:
		s.stopped = m.Err
	case NoRoom:
		s.problems[RoomDisk] = m.Err
	}
	return nil
}

func (s *solo) Changed(_ time.Duration, _ View, change Change) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch what := change.(type) {
	case Lease:
		if what.Until != 0 && s.epoch == 0 {
			return []Event{StartEpoch{ClusterID: [16]byte{1}}}
		}
	case Leadership:
		s.term = what.Term
	case EpochStarted:
		if what.Epoch.Term == s.term { // else from an earlier life
			s.epoch = what.Epoch.Epoch
		}
	case Problem:
		s.problems[what.Kind] = what.Err
	}
	return nil
}

func (s *solo) problem(kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problems[kind]
}

func (s *solo) append(n int) (err error) {
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	for ; n > 0 && err == nil; n-- {
		_, err = s.Append(s.t.Context(), epoch, make([]byte, 100))
	}
	return err
}

// openSolo opens the log, with a checkpoint after each 1,000 bytes.
func openSolo(t *testing.T, disk *soloDisk, sm StateMachine, change ...func(*Log)) (*solo, error) {
	began := time.Now()
	s := &solo{t: t, disk: disk, problems: map[string]error{}}
	l, err := Open(Config{
		Core:   CoreConfig{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond, MaxClockDrift: 0.01},
		Logger: slog.New(slog.DiscardHandler), Storage: disk, Observer: s, StateMachine: sm, Clock: func() time.Duration { return time.Since(began) + time.Hour },
		MaxRecord: 1 << 20, MaxPending: 1 << 20, CacheBytes: 1 << 20, CheckpointBytes: 1000, RetainBytes: 1000,
	})
	if err != nil {
		return nil, err
	}
	s.Log = l
	for _, change := range change {
		change(l)
	}
	l.Start(s)
	for err = s.append(1); err != nil; err = s.append(1) {
		if errors.Is(err, ErrClosed) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return s, nil
}

func newSolo(t *testing.T, sm StateMachine) *solo {
	return must(openSolo(t, &soloDisk{Disk: sim.NewDisk(Boot([]Member{{ID: 1, Name: "a"}}))}, sm))
}

// TestSnaperr: a checkpoint that fails, in whatever way, is a problem and not the end. It is tried again without
// anything being appended, and then the problem is over.
func TestSnaperr(t *testing.T) {
	sick := errors.New("sick")
	written := func(f writes) func() (io.WriterTo, error) {
		return func() (io.WriterTo, error) { return f, nil }
	}
	for name, how := range map[string]func() (io.WriterTo, error){
		"snapshot":         func() (io.WriterTo, error) { return nil, sick },
		"snapshot panics":  func() (io.WriterTo, error) { panic("sick") },
		"snapshot exits":   func() (io.WriterTo, error) { runtime.Goexit(); return nil, nil },
		"a nil pointer":    func() (io.WriterTo, error) { return (*bytes.Buffer)(nil), nil },
		"writing":          written(func() (int64, error) { return 0, sick }),
		"writing panics":   written(func() (int64, error) { panic("sick") }),
		"writing exits":    written(func() (int64, error) { runtime.Goexit(); return 0, nil }),
		"no space":         nil,
		"no state machine": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sm := &flaky{}
				s := newSolo(t, sm)
				if name == "no state machine" {
					s.Close()
					s = newSolo(t, nil)
				}
				if how == nil {
					s.disk.fill(sick)
				}
				sm.fails(how)
				if err := s.append(50); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if err := s.problem(problemCheckpoint); err == nil {
					t.Error("no problem is told")
				}
				first := s.disk.newest()
				time.Sleep(10 * time.Second)
				sm.fails(nil)
				s.disk.fill(nil)
				time.Sleep(maxCheckpointPause)
				synctest.Wait()
				if err := s.problem(problemCheckpoint); err != nil || s.disk.newest() != 51 || first == 51 {
					t.Errorf("problem %v, checkpoints at records %d and %d", err, first, s.disk.newest())
				}
				if err := s.append(50); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestSnaperr_Place: a checkpoint that is tried again while the state machine has more to apply says where the state stands that it
// holds: otherwise records would be applied twice after a restart.
func TestSnaperr_Place(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sm := &flaky{}
		s := newSolo(t, sm)
		sm.fails(func() (io.WriterTo, error) { return nil, errors.New("sick") })
		if err := s.append(20); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s.problem(problemCheckpoint) == nil {
			t.Fatal("no checkpoint has failed")
		}
		sm.fails(nil)
		gate := make(chan struct{})
		sm.gate.Store(&gate)
		for range 2 { // the one is being applied, the other waits for it
			go func() { _ = s.append(1) }()
			synctest.Wait()
		}
		time.Sleep(2 * maxCheckpointPause) // it is tried again
		close(gate)
		synctest.Wait()
		snap, body, _, err := s.disk.OpenSnapshot()
		if err != nil {
			t.Fatal(err)
		}
		state := new(flaky)
		if err := state.Restore(body); err != nil {
			t.Fatal(err)
		}
		if at := must(core.ParseCheckpoint(snap)).Position.Index; at != 23 || uint64(state.n) != at {
			t.Errorf("a checkpoint at record %d holds the state after %d records", at, state.n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSnaperr_Bound: the log that is kept for want of checkpoints has a bound. There appends are refused, definitely,
// until a checkpoint is written.
func TestSnaperr_Bound(t *testing.T) {
	for _, name := range []string{"it fails", "it never ends"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := make(chan struct{})
				how := func() (io.WriterTo, error) { return nil, errors.New("sick") }
				if name == "it never ends" {
					how = func() (io.WriterTo, error) { return writes(func() (int64, error) { <-ends; return 0, nil }), nil }
				}
				snaperrBound(t, how, func() { close(ends) })
			})
		})
	}
}

// snaperrBound lets checkpoints go wrong in some way until the log that is kept has reached its bound.
func snaperrBound(t *testing.T, how func() (io.WriterTo, error), end func()) {
	sm := &flaky{}
	s := newSolo(t, sm)
	s.check.mu.Lock()
	s.check.bound = 5000
	s.check.mu.Unlock()
	sm.fails(how)
	n := 0
	var err error
	for ; n < 200 && err == nil; n++ {
		err = s.append(1)
		synctest.Wait()
	}
	if !errors.Is(err, ErrNoRoom) || n < 30 || n > 60 {
		t.Fatalf("append %d: %v", n, err)
	}
	if err := s.problem(problemCheckpoint); err == nil {
		t.Error("no problem is told")
	}
	sm.fails(nil)
	end()
	time.Sleep(maxCheckpointPause)
	synctest.Wait()
	if err := s.append(1); err != nil {
		t.Error(err)
	}
	if err := s.problem(problemCheckpoint); err != nil {
		t.Errorf("the problem remains: %v", err)
	}
	s.Close()
}

// TestDiskFull_Appends: while the disk is nearly full appends are refused, also those that wait; then they go on.
func TestDiskFull_Appends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSolo(t, nil)
		full := errors.New("full")
		synctest.Wait()                              // for the loop to sleep
		b, _, _, err := s.gather.add(1, []byte("x")) // the loop does not know of it yet
		if err != nil {
			t.Fatal(err)
		}
		s.Room(full, true)
		<-b.done
		if !errors.Is(b.err, ErrNoRoom) || !errors.Is(b.err, full) {
			t.Errorf("what waited: %v", b.err)
		}
		if err := s.append(1); !errors.Is(err, ErrNoRoom) || !errors.Is(err, full) {
			t.Errorf("append: %v", err)
		}
		synctest.Wait()
		if err := s.problem(RoomDisk); !errors.Is(err, full) {
			t.Errorf("problem: %v", err)
		}
		s.Room(nil, false)
		if _, err := s.Append(context.Background(), 1, []byte("x")); err != nil {
			t.Error(err)
		}
		s.Close()
	})
}

// TestDiskFull_Standby: a standby without room takes no records, but whatever keeps the cluster alive.
func TestDiskFull_Standby(t *testing.T) {
	c := cutCore(t, sim.NewDisk(Boot(cutMembers)))
	now := time.Hour
	deliver := func(index uint64, data []byte) (taken bool) {
		now += time.Millisecond
		eff, err := c.core.Step(now, core.Receive{Message: &raftpb.Message{Type: new(raftpb.MsgApp), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2)),
			Index: new(index - 1), LogTerm: new(uint64(2)), Commit: new(uint64(101)),
			Entries: []*raftpb.Entry{{Index: &index, Term: new(uint64(2)), Data: data}}}, At: now})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range eff.Writes {
			taken = taken || len(w.Entries) > 0
		}
		return taken
	}
	if _, err := c.core.Step(now, core.DiskOut{Out: true}); err != nil {
		t.Fatal(err)
	}
	if deliver(102, encoded(1, 100, []byte("x"))) {
		t.Error("records are taken without room")
	}
	if !deliver(102, core.EncodeStart("b", nil)) {
		t.Error("the start of an epoch is not taken")
	}
	if _, err := c.core.Step(now, core.DiskOut{}); err != nil {
		t.Fatal(err)
	}
	if !deliver(103, encoded(2, 100, []byte("x"))) {
		t.Error("records are not taken although there is room")
	}
}

// TestFds: what cannot be read for want of descriptors is read when there are some again.
func TestFds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSolo(t, nil)
		began := time.Now()
		var tries atomic.Int32
		go s.patiently(func() error {
			if tries.Add(1); time.Since(began) < 10*time.Second {
				return fmt.Errorf("open: %w", syscall.EMFILE)
			}
			return nil
		})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := tries.Load(); s.problem(problemRead) == nil || n < 5 || n > 15 {
			t.Errorf("problem %v, %d tries", s.problem(problemRead), n)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := s.problem(problemRead); err != nil {
			t.Error(err)
		}
		broken := errors.New("broken")
		tries.Store(0)
		s.patiently(func() error { tries.Add(1); return broken })
		if n := tries.Load(); n != 1 {
			t.Errorf("what is broken is read %d times", n)
		}
		s.Close()
		s.patiently(func() error { return syscall.EMFILE }) // returns
	})
}
