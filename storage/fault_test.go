package storage

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/testseed"
)

// endure does what live does while calls fail. A step that fails and leaves the storage usable is done again, and then succeeds
// unless failures last. It returns what ended the life, nil if nothing did; the second error is a broken promise.
func (l *life) endure(script string, lasting bool) (ended, broken error) {
	if err := l.open(); err != nil {
		return err, nil
	}
	for _, step := range script {
		err := l.step(step)
		if err == nil {
			continue
		}
		if ended = l.w.usable(); ended == nil {
			if err = l.again(step, err, lasting); err != nil {
				broken = fmt.Errorf("step %c again: %w", step, err)
				break
			}
			continue
		}
		for _, next := range "avimp" {
			before := l.known()
			if err := l.step(next); err != ended {
				broken = errors.Join(broken, fmt.Errorf("step %c after %w: %w", next, ended, err))
			}
			l.set(*before) // it was refused
		}
		break
	}
	err := l.w.Close()
	switch {
	case ended == nil:
		ended = err
	case err != ended:
		broken = errors.Join(broken, fmt.Errorf("close after %w: %w", ended, err))
	}
	return ended, broken
}

// again does a step again that has failed with err and has left the storage usable.
func (l *life) again(step rune, err error, lasting bool) error {
	if !slices.Contains([]rune("SimpCk"), step) {
		return fmt.Errorf("it failed, and the storage is usable: %w", err)
	}
	p := *l.known()
	if (step == 'S' || step == 'k') && l.w.newest().index == p.next.snap { // it came into force and something after that has failed
		return fmt.Errorf("in force, and it failed: %w", err)
	}
	p.next = p.m
	l.set(p)
	if err := l.step(step); err == nil || !lasting {
		return err
	}
	p.then = l.known().then
	l.set(p)
	return nil
}

// after returns the states in which the next process may find everything when this one has ended: as it is, and after a power
// cut.
func (l *life) after(what string) []state {
	out := []state{{what + ", next start", l.fs.Kill(), l.known()}}
	for _, loss := range []faultfs.Loss{{}, {Names: faultfs.All, Data: faultfs.All}, {Names: faultfs.Some, Data: faultfs.Some, Rand: l.rnd}} {
		out = append(out, state{what + ", names " + loss.Names.String() + ", data " + loss.Data.String(), l.fs.Crash(loss), l.known()})
	}
	return out
}

// TestFailures: each change of a life fails, one at a time, wholly or in part, with EIO or ENOSPC. The storage does without what was
// to fail, or whoever asked learns it and can ask again, or it ends with that error and says it from then on. Whatever was
// acknowledged is there at the next start, and after a power cut.
func TestFailures(t *testing.T) {
	rnd, v := testseed.Rand(t), newVerifier()
	ends := map[bool]int{}
	first, step := 0, 1
	if few() {
		first, step = rnd.IntN(2), 2
	}
	for n, done := first, false; !done; n += step {
		kinds := rnd.Perm(8)
		if few() {
			kinds = kinds[:1]
		}
		for _, kind := range kinds {
			done = failAt(t, rnd, v, script, n, kind, ends)
		}
	}
	must(t, v.wait())
	t.Logf("%d of %d failures ended the storage", ends[true], ends[true]+ends[false])
}

// TestFailures_AnyLife: likewise, one change of each of many lives in which anything comes after anything.
func TestFailures_AnyLife(t *testing.T) {
	rnd, v := testseed.Rand(t), newVerifier()
	ends := map[bool]int{}
	for range 60 * *statesFlag {
		failAt(t, rnd, v, anyLife(rnd, 100), rnd.IntN(1000), rnd.IntN(8), ends)
	}
	must(t, v.wait())
	t.Logf("%d of %d failures ended the storage", ends[true], ends[true]+ends[false])
}

// failAt lives a life with the n-th change failing, in one of 8 ways. It reports whether there is none.
func failAt(t *testing.T, rnd *rand.Rand, v *verifier, script string, n, kind int, ends map[bool]int) (done bool) {
	errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[kind&1]
	l := newLife(rnd, faultfs.New())
	if kind&2 > 0 {
		l.fs.NoDirect()
	}
	what := ""
	l.watch(func(k int, op *faultfs.Op, _ *progress) (f faultfs.Fault) {
		if k == n {
			what = fmt.Sprintf("%s of %s, %v", op.Kind, op.Name, errno)
			f.Err = errno
			if kind&4 > 0 {
				f.Written = int(op.Size / 2 &^ 511)
			}
		}
		return f
	})
	ended, broken := l.endure(script, false)
	if broken != nil || ended != nil && !errors.Is(ended, errno) {
		t.Fatalf("%s: change %d, %s: %v; %v", script, n, what, ended, broken)
	}
	l.fs.Inject(nil)
	ends[ended != nil]++
	for _, s := range l.after(what) {
		v.add(s.verify)
	}
	return what == ""
}

// TestFullDisk: the disk is full at any point of a life. Nothing that was acknowledged is lost, and when there is space again the
// next start goes on.
func TestFullDisk(t *testing.T) {
	rnd, v := testseed.Rand(t), newVerifier()
	for capacity := int64(blockSize); ; capacity += blockSize {
		l := newLife(rnd, faultfs.New())
		l.fs.SetCapacity(capacity)
		ended, broken := l.endure(script, true)
		if broken != nil || ended != nil && !errors.Is(ended, syscall.ENOSPC) {
			t.Fatalf("%d bytes: %v; %v", capacity, ended, broken)
		}
		l.fs.SetCapacity(0)
		for _, s := range l.after(fmt.Sprint(capacity, " bytes")) {
			s.fs.SetCapacity(0)
			v.add(s.verify)
		}
		if ended == nil && l.fs.Used()+10*bedSegment < capacity {
			break
		}
	}
	must(t, v.wait())
}

// TestFullDisk_New: on a disk that is too small for a new directory the error says by how much, and with room it is made.
func TestFullDisk_New(t *testing.T) {
	fs := faultfs.New()
	fs.SetCapacity(bedSegment) // which is too little, with what else there is
	_, err := openLife(fs)
	free, _ := fs.Free(lifeDir)
	if want := fmt.Sprintf("takes %d bytes, and %d are free", bedSegment, free); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	fs.SetCapacity(0)
	w, err := openLife(fs)
	must(t, err)
	must(t, w.Close())
}

// TestReadFailures: each read of a start fails, one at a time. The start fails or does without, and the next one has everything: what
// cannot be read just now is not taken for what was never written.
func TestReadFailures(t *testing.T) {
	l := newLife(testseed.Rand(t), faultfs.New())
	must(t, l.open())
	for _, step := range script {
		must(t, l.step(step))
	}
	images := l.after("")
	must(t, l.w.Close())
	for _, image := range images {
		for n := 0; ; n++ {
			s, reads, what := image.fs.Kill(), 0, ""
			s.Inject(func(op *faultfs.Op) (f faultfs.Fault) {
				if op.Kind == faultfs.OpRead || op.Kind == faultfs.OpOpen {
					if reads == n {
						what, f.Err = fmt.Sprintf("%s of %s at %d", op.Kind, op.Name, op.Off), syscall.EIO
					}
					reads++
				}
				return f
			})
			w, err := openLife(s)
			if err == nil {
				err = w.Close()
			}
			if err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatalf("%s: %v", what, err)
			}
			s.Inject(nil)
			if w, err = openLife(s); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			p := *image.p
			_, snap, _, _ := w.Recovered()
			p.m.snap = snap.GetMetadata().GetIndex() // it may have gone back to the one before
			p.next = p.m
			if _, err := p.check(w); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			must(t, w.Close())
			if what == "" {
				break
			}
		}
	}
}

// TestTailThatCannotBeRead: after a power cut nothing but the last Save itself says that it was there. That it cannot be read once
// is no reason to cut it off.
func TestTailThatCannotBeRead(t *testing.T) {
	s := faultfs.New()
	o := testOptions()
	o.SegmentSize, o.FS = 1<<20, s
	w, err := Open(lifeDir, o)
	must(t, err)
	must(t, w.Save(hard(2, 1, 1), entries(2, 3, 2, 100)))
	must(t, w.Save(nil, entries(3, 4, 2, 300<<10)))
	tail := w.segs[0].path
	after := s.Crash(faultfs.Loss{})
	must(t, w.Close())
	once := false
	after.Inject(func(op *faultfs.Op) (f faultfs.Fault) {
		if op.Kind == faultfs.OpRead && op.Name == tail && op.Off > 200<<10 && !once {
			once, f.Err = true, syscall.EIO
		}
		return f
	})
	o.FS = after
	if _, err := Open(lifeDir, o); !errors.Is(err, syscall.EIO) || !once {
		t.Fatal(err)
	}
	w, err = Open(lifeDir, o)
	must(t, err)
	if _, _, last, _ := w.Recovered(); last != 3 {
		t.Errorf("the last entry is %d, want 3", last)
	}
	must(t, w.Close())
}

// TestStalls: the disk stands still at each sync of a life, one at a time. What needs no disk goes on, and so do reads, and
// everything else does when the disk does.
func TestStalls(t *testing.T) {
	rnd := testseed.Rand(t)
	for n := 0; ; n++ {
		l, syncs := newLife(rnd, faultfs.New()), 0
		stalled, until := make(chan string, 1), make(chan struct{})
		l.watch(func(_ int, op *faultfs.Op, _ *progress) (f faultfs.Fault) {
			if makesDurable(op) {
				syncs++
			}
			if makesDurable(op) && syncs == n+1 {
				stalled <- fmt.Sprintf("%s of %s", op.Kind, op.Name)
				f.Until = until
			}
			return f
		})
		done := make(chan error, 1)
		opened := make(chan *WAL, 1)
		go func() {
			if err := l.open(); err != nil {
				done <- err
				return
			}
			opened <- l.w
			for _, step := range script {
				if err := l.step(step); err != nil {
					done <- err
					return
				}
			}
			done <- l.w.Close()
		}()
		var what string
		select {
		case what = <-stalled:
		case err := <-done:
			must(t, err)
			return // there are no more
		}
		select {
		case w := <-opened:
			free := make(chan error, 1)
			go func() { free <- askAll(w) }()
			select {
			case err := <-free:
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Fatalf("%s: %v", what, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: who asks has to wait", what)
			}
		default: // it stands still in Open
		}
		close(until)
		if err := <-done; err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// askAll asks w for everything that must never wait for a write.
func askAll(w *WAL) error {
	w.Identity()
	w.ClusterID()
	for name, incarnation := range w.Peers() {
		if err := w.Meet(name, incarnation); err != nil {
			return err
		}
	}
	w.Birth()
	w.Promised()
	w.Written()
	w.Stats()
	// Where the sync that stands still is one of the background, the life goes on: it may compact between the two calls.
	first := w.First()
	if _, err := w.Entries(first, first+1, 1<<20); err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrCompacted) {
		return err
	}
	_, r, _, err := w.OpenSnapshot()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
