package storage

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
)

func TestSaveRecover(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	hs, snap, ents := found(t, w)
	if hs.GetTerm() != 1 || hs.GetCommit() != 1 || snap.GetMetadata().GetIndex() != 1 || string(snap.Data) != "boot" || len(ents) != 0 {
		t.Fatalf("new: %v %v %v", hs, snap, ents)
	}
	m := &model{hs: hardState{term: 1, commit: 1}, snap: 1}
	m.save(t, w, hard(2, 7, 1), entries(2, 40, 2, 900)) // one Save across several segments' worth of bytes
	m.save(t, w, nil, entries(40, 60, 2, 900))
	m.save(t, w, hard(3, 0, 30), nil)
	m.save(t, w, hard(3, 0, 30), entries(35, 50, 3, 900)) // cuts off 50 … 59
	m.save(t, w, hard(3, 9, 49), []*raftpb.Entry{{Index: new(uint64(50)), Term: new(uint64(3)), Type: raftpb.EntryConfChangeV2.Enum()}})
	for i := uint64(51); i < 120; i++ {
		m.save(t, w, nil, entries(i, i+1, 3, 900))
	}
	for round := range 3 {
		if round == 1 {
			kill(t, w)
		} else {
			must(t, w.Close())
		}
		w = mustOpen(t, dir)
		if err := m.check(w); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		m.save(t, w, hard(m.hs.term+1, 1, m.hs.commit), nil)
	}
	if n := len(segmentFiles(t, dir)); n < 4 {
		t.Fatalf("%d segments", n)
	}
	must(t, w.Close())
	must(t, w.Close())
	if err := w.Save(nil, entries(120, 121, 9, 9)); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

// The hard state must survive the deletion of the segment in which it was last written, also when nothing has changed it
// since a restart.
func TestHardStateSurvivesCompaction(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	must(t, w.Save(hard(5, 7, 1), entries(2, 3, 5, 10)))
	must(t, w.Close())
	w = mustOpen(t, dir)
	for i := uint64(3); i < 100; i++ {
		must(t, w.Save(nil, entries(i, i+1, 5, 900)))
	}
	must(t, w.SaveSnapshot(snapshot(99, 5, "x"), nil))
	must(t, w.Compact(99))
	must(t, w.Close())
	w = mustOpen(t, dir)
	if hs, _, _, _ := w.Recovered(); hs.GetTerm() != 5 || hs.GetVote() != 7 || hs.GetCommit() != 99 {
		t.Fatal(hs)
	}
}

func TestEmptyBoot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	o := testOptions()
	o.Boot = nil
	w, err := Open(dir, o)
	must(t, err)
	hs, snap, ents := found(t, w)
	if hs.GetTerm() != 0 || snap != nil || ents != nil || w.First() != 1 {
		t.Fatal(hs, snap, ents, w.First())
	}
	if _, _, _, err := w.OpenSnapshot(); !errors.Is(err, ErrNoSnapshot) {
		t.Fatal(err)
	}
	must(t, w.Close())
	w, err = Open(dir, o)
	must(t, err)
	must(t, w.Save(hard(1, 0, 0), entries(1, 5, 1, 10)))
	must(t, w.Close())
	w = mustOpen(t, dir)
	if _, _, ents := found(t, w); len(ents) != 4 {
		t.Fatal(ents)
	}
}

func TestSaveRefusesWhatRecoveryWould(t *testing.T) {
	for name, bad := range map[string]struct {
		hs   *raftpb.HardState
		ents []*raftpb.Entry
	}{
		"gap":              {nil, entries(12, 13, 2, 1)},
		"committed":        {nil, entries(5, 6, 2, 1)},
		"entry term back":  {nil, entries(11, 12, 1, 1)},
		"term back":        {hard(1, 0, 5), nil},
		"vote changed":     {hard(2, 8, 5), nil},
		"commit back":      {hard(2, 7, 4), nil},
		"commit beyond":    {hard(2, 7, 11), nil},
		"batch with a gap": {nil, append(entries(11, 12, 2, 1), entries(13, 14, 2, 1)...)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			w := mustOpen(t, dir)
			m := &model{snap: 1}
			m.save(t, w, hard(2, 7, 5), entries(2, 11, 2, 10))
			err := w.Save(bad.hs, bad.ents)
			if err == nil {
				t.Fatal("accepted")
			}
			if again := w.Save(nil, entries(11, 12, 2, 1)); again != err {
				t.Fatalf("not sticky: %v, then %v", err, again)
			}
			w.Close()
			w = mustOpen(t, dir)
			if err := m.check(w); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestIdentityFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	if ok, err := Empty(dir); !ok || err != nil {
		t.Fatal(ok, err)
	}
	w := mustOpen(t, dir)
	if ok, err := Empty(dir); ok || err != nil {
		t.Fatal(ok, err)
	}
	if w.ClusterID() != [16]byte{} || len(w.Peers()) != 0 {
		t.Fatal("not new")
	}
	id := [16]byte{1, 2}
	must(t, w.SetClusterID(id))
	must(t, w.SetClusterID(id))
	if err := w.SetClusterID([16]byte{3}); !errors.Is(err, ErrClusterID) {
		t.Fatal(err)
	}
	must(t, w.Meet("b", 5))
	must(t, w.Meet("c", 6))
	must(t, w.Meet("b", 5))
	kill(t, w)
	w = mustOpen(t, dir)
	if w.ClusterID() != id || len(w.Peers()) != 2 || w.Peers()["c"] != 6 || w.Identity() != testID {
		t.Fatal(w.ClusterID(), w.Peers())
	}
	var stranger *StrangerError
	if err := w.Meet("b", 9); !errors.As(err, &stranger) || stranger.Known != 5 {
		t.Fatal(err)
	}
	if got, err := Read(dir); err != nil || got != testID {
		t.Fatal(got, err)
	}
}

func TestG7_NothingWrittenWhenRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	must(t, w.Save(hard(2, 7, 1), entries(2, 9, 2, 100)))
	unchanged := func(what string, fn func() error) {
		t.Helper()
		before := tree(t, dir)
		if err := fn(); err == nil {
			t.Fatalf("%s: no error", what)
		}
		after := tree(t, dir)
		for k, v := range before {
			if w, ok := after[k]; !ok || v != w {
				t.Fatalf("%s: %s changed", what, k)
			}
		}
		if len(before) != len(after) {
			t.Fatalf("%s: files appeared", what)
		}
	}
	unchanged("locked", func() error {
		_, err := Open(dir, testOptions())
		if !errors.Is(err, ErrLocked) || strings.Count(err.Error(), "storage: ") != 1 {
			t.Fatal(err)
		}
		return err
	})
	must(t, w.Close())
	for name, change := range map[string]func(*Identity){
		"cluster":     func(id *Identity) { id.Cluster = "x" },
		"member":      func(id *Identity) { id.Member = "x" },
		"id":          func(id *Identity) { id.ID++ },
		"incarnation": func(id *Identity) { id.Incarnation++ },
	} {
		unchanged(name, func() error {
			o := testOptions()
			change(&o.Identity)
			_, err := Open(dir, o)
			if ie := (*IdentityError)(nil); !errors.As(err, &ie) || ie.Have != testID {
				t.Fatal(err)
			}
			return err
		})
	}
	foreign := t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.doc"), []byte("x"), 0o600))
	dir = foreign
	unchanged("foreign", func() error {
		if _, err := Empty(dir); !errors.Is(err, ErrForeign) {
			t.Fatal(err)
		}
		_, err := Open(dir, testOptions())
		if !errors.Is(err, ErrForeign) {
			t.Fatal(err)
		}
		return err
	})
}

// A creation that was interrupted after any of its steps is begun again; a member without its identity is not.
func TestG7_InterruptedCreation(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	must(t, mustOpen(t, full).Close())
	steps := [][]string{
		{lockName}, {lockName, creatingName + ".tmp"}, {lockName, creatingName}, {lockName, creatingName, snapName}, {lockName, creatingName, snapName, walName},
		{lockName, creatingName, snapName, walName, markName}, {lockName, creatingName, snapName, walName, markName, identityName},
	}
	for _, names := range steps {
		dir := t.TempDir()
		for _, name := range names {
			if strings.HasPrefix(name, creatingName) {
				must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
			} else {
				must(t, copyInto(filepath.Join(dir, name), filepath.Join(full, name)))
			}
		}
		complete := slices.Contains(names, identityName)
		if empty, err := Empty(dir); err != nil || empty == complete {
			t.Fatalf("%v: %v %v", names, empty, err)
		}
		w := mustOpen(t, dir)
		must(t, w.Save(hard(2, 7, 1), entries(2, 3, 2, 10)))
		must(t, w.Close())
		if _, err := os.Stat(filepath.Join(dir, creatingName)); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for _, name := range []string{identityName, markName} {
		dir := filepath.Join(t.TempDir(), "m")
		must(t, copyInto(dir, full))
		must(t, os.Remove(filepath.Join(dir, name)))
		_, err := Open(dir, testOptions())
		if ce := (*CorruptError)(nil); !errors.As(err, &ce) || filepath.Base(ce.File) != name {
			t.Fatalf("without %s: %v", name, err)
		}
	}
}

func TestUnknownVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	must(t, mustOpen(t, dir).Close())
	name := filepath.Join(dir, identityName)
	b, err := os.ReadFile(name)
	must(t, err)
	b[8] = 2
	reseal(b)
	must(t, os.WriteFile(name, b, 0o600))
	if _, err := Open(dir, testOptions()); err == nil || !strings.Contains(err.Error(), "format version 2") {
		t.Fatal(err)
	}
}

// TestG6_EntriesModel compares Entries with a model through appends, overwrites, cuts, checkpoints, installs, compactions,
// deaths and restarts.
func TestG6_EntriesModel(t *testing.T) { entriesModel(t, filepath.Join(fastDir(t), "m")) }

func entriesModel(t *testing.T, dir string) {
	rnd := testseed.Rand(t)
	w := mustOpen(t, dir)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	last := func() uint64 { return uint64(len(m.ents) + 1) }
	for step := range 600 {
		var err error
		switch k := rnd.IntN(100); {
		case k < 60: // append, now and then over an uncommitted tail
			at := last() + 1
			hs := m.hs
			if rnd.IntN(4) == 0 {
				hs.term, hs.vote = hs.term+1, rnd.Uint64N(3)
				at -= rnd.Uint64N(at - m.hs.commit)
			}
			ents := entries(at, at+1+rnd.Uint64N(6), hs.term, rnd.IntN(3000))
			if hs.commit < at-1 && rnd.IntN(2) == 0 {
				hs.commit += rnd.Uint64N(at - hs.commit)
			}
			m.save(t, w, hs.proto(), ents)
		case k < 70: // commit only
			m.hs.commit += rnd.Uint64N(last() - m.hs.commit + 1)
			m.save(t, w, m.hs.proto(), nil)
		case k < 78: // checkpoint
			if at := m.hs.commit; at > 1 {
				m.snap = at
				err = w.SaveSnapshot(snapshot(at, m.ents[at-2].GetTerm(), "s"), body("state"))
			}
		case k < 80: // a snapshot of a leader, in the middle of the log or far beyond it
			m.hs.term++
			at := m.hs.commit + 1 + rnd.Uint64N(30)
			for uint64(len(m.ents)) < at-1 {
				m.ents = append(m.ents, nil)
			}
			m.ents = m.ents[:at-1]
			m.ents[at-2] = entry(at, m.hs.term, 0)
			m.hs.vote, m.hs.commit, m.snap = 0, at, at
			must(t, w.StageSnapshot(snapshot(at, m.hs.term, "s"), strings.NewReader("leader")))
			err = w.InstallSnapshot(snapshot(at, m.hs.term, "s"), m.hs.proto())
			if w.First() != at+1 {
				t.Fatalf("step %d: first %d after the install of %d", step, w.First(), at)
			}
			m.save(t, w, nil, entries(at+1, at+2, m.hs.term, 10)) // so that the next checkpoint has an entry
			m.hs.commit++
			m.save(t, w, m.hs.proto(), nil)
		case k < 84:
			err = w.Compact(m.snap - min(m.snap, rnd.Uint64N(20)))
		case k < 90:
			must(t, w.Close())
			w = mustOpen(t, dir)
			err = m.check(w)
		case k < 94:
			kill(t, w)
			w = mustOpen(t, dir)
			err = m.check(w)
			if hs, _, _, _ := w.Recovered(); err == nil {
				m.hs.commit = hs.GetCommit()
			}
		default:
			err = compareEntries(w, m, rnd.Uint64N(last()+3)+1, rnd.Uint64N(20), rnd.Uint64N(20000))
		}
		if err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
}

func compareEntries(w *WAL, m *model, lo, n, size uint64) error {
	got, err := w.Entries(lo, lo+n, size)
	last := uint64(len(m.ents) + 1)
	switch {
	case n == 0:
		return err
	case lo < w.First():
		if !errors.Is(err, ErrCompacted) {
			return fmt.Errorf("%d below %d: %v", lo, w.First(), err)
		}
		return nil
	case lo > last:
		if !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("%d beyond %d: %v", lo, last, err)
		}
		return nil
	case err != nil:
		return err
	case len(got) == 0 || uint64(len(got)) > n:
		return fmt.Errorf("%d entries", len(got))
	}
	return sameEntries(got, m.ents[lo-2:lo-2+uint64(len(got))])
}

func TestSaveAndEntriesConcurrently(t *testing.T) {
	w := mustOpen(t, filepath.Join(t.TempDir(), "m"))
	const n = 400
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for lo := uint64(2); ; {
				select {
				case <-done:
					return
				default:
				}
				got, err := w.Entries(lo, math.MaxUint64, 5000)
				if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCompacted) {
					lo = w.First()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				for k, e := range got {
					if e.GetIndex() != lo+uint64(k) || !sameEntry(e, entry(e.GetIndex(), e.GetTerm(), 300)) {
						t.Errorf("entry %v at %d", e.GetIndex(), lo+uint64(k))
					}
				}
				lo += uint64(len(got))
			}
		})
	}
	term, commit := uint64(2), uint64(1)
	for i := uint64(2); i < n; i++ {
		if i%50 == 49 { // a new leader overwrites the last entries
			term++
			must(t, w.Save(hard(term, 1, commit), entries(i-5, i, term, 300)))
		}
		commit = max(commit, i-min(i-1, 20))
		must(t, w.Save(hard(term, 1, commit), entries(i, i+1, term, 300)))
		if i%100 == 60 {
			got, err := w.Entries(i-30, i-29, 1)
			must(t, err)
			must(t, w.SaveSnapshot(snapshot(i-30, got[0].GetTerm(), ""), nil))
			must(t, w.Compact(i-30))
		}
	}
	close(done)
	wg.Wait()
}

// TestWritten: what a Save writes is counted piece by piece, so that it can be seen to get on.
func TestWritten(t *testing.T) {
	w := mustOpen(t, filepath.Join(t.TempDir(), "m"))
	defer w.Close()
	var steps []uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for last := w.Written(); ; {
			if now := w.Written(); now != last {
				steps, last = append(steps, now-last), now
			}
			select {
			case <-stop:
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	before := w.Written()
	must(t, w.Save(hard(2, 0, 1), entries(2, 3, 2, 32<<20)))
	if n := w.Written() - before; n < 32<<20 {
		t.Errorf("%d bytes of more than 32 MiB are counted", n)
	}
	close(stop)
	<-done
	if len(steps) < 2 {
		t.Errorf("32 MiB are written in steps of %d", steps)
	}
}
