package storage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sys/unix"
)

// A power cut under load, on a real file system, leaves everything that Save has acknowledged, and any prefix of the Save that
// was under way. The cut: ext4 forgets what it has not written, its journal too, and is mounted anew.
func TestT14_PowerCut(t *testing.T) {
	img, mnt := extImage(t)
	o := testOptions()
	o.SegmentSize = 2 << 20
	m := model{hs: hardState{1, 0, 1}, snap: 1}
	l := &load{rnd: testseed.Rand(t), m: m, next: m, commit: 1}
	for cuts := 0; ; cuts++ {
		command(t, "mount", "-o", "loop", img, mnt)
		w, err := Open(filepath.Join(mnt, "m"), o)
		if err == nil {
			t.Cleanup(func() { w.Close() })
			err = l.recover(w)
		}
		if err != nil {
			t.Fatalf("after %d cuts: %v", cuts, err)
		}
		if cuts == 8 {
			t.Logf("%d saves, %d segments; found of what was under way, each time: %s", l.saves, w.segs[len(w.segs)-1].seq+1, l.found)
			return
		}
		l.compact = cuts%2 == 1
		at := time.After(time.Duration(100+l.rnd.IntN(300)) * time.Millisecond)
		stopped := make(chan error, 1)
		go func() { stopped <- l.run() }()
		select {
		case err := <-stopped:
			t.Fatalf("before the cut: %v", err)
		case <-at:
		}
		root, err := os.Open(mnt)
		must(t, err)
		must(t, unix.IoctlSetPointerInt(int(root.Fd()), 0x8004587D, 2)) // EXT4_IOC_SHUTDOWN, without a flush of the journal
		must(t, root.Close())
		select {
		case err := <-stopped:
			if !errors.As(err, new(unix.Errno)) {
				t.Fatal(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no error after the cut")
		}
		w.Close()
		must(t, unix.Unmount(mnt, 0))
		detached(t, img)
	}
}

// load saves as raft does, as fast as it can, and remembers what it was told.
type load struct {
	rnd    *rand.Rand
	w      *WAL
	m      model
	commit uint64          // so much of m.hs.commit is durable: a mere change of it is not synced
	next   model           // m when what is under way is acknowledged
	ents   []*raftpb.Entry // of the Save that is
	saves  int
	found  []string // of what was under way

	compact bool // so that files are used again; else all segments are new ones
}

// run returns the first error.
func (l *load) run() (err error) {
	for last := len(l.w.segs); err == nil; last = len(l.w.segs) {
		l.next, l.ents = l.m, nil
		if l.m.snap < l.m.hs.commit && l.rnd.IntN(50) == 0 {
			err = l.checkpoint()
		} else {
			err = l.save()
		}
		if err == nil && l.compact && len(l.w.segs) > last { // at once, before another file is made
			err = l.w.Compact(l.m.snap)
		}
	}
	return err
}

func (l *load) save() error {
	hs, first, n := l.m.hs, uint64(len(l.m.ents)+2), l.rnd.Uint64N(4)
	switch l.rnd.IntN(10) {
	case 0: // a new leader overwrites what is not committed
		hs.term, hs.vote = hs.term+1, l.rnd.Uint64N(3)
		first -= l.rnd.Uint64N(first - hs.commit)
	case 1:
		hs.vote = max(hs.vote, 1)
	}
	for i := first; i < first+n; i++ {
		l.ents = append(l.ents, entry(i, hs.term, int(10*math.Pow(20<<10, l.rnd.Float64()))))
	}
	if l.rnd.IntN(2) == 0 {
		hs.commit += l.rnd.Uint64N(first + n - hs.commit)
	}
	l.next.note(hs.proto(), l.ents)
	if err := l.w.Save(hs.proto(), l.ents); err != nil {
		return err
	}
	if n > 0 || hs.term != l.m.hs.term || hs.vote != l.m.hs.vote {
		l.commit = hs.commit
	}
	l.m, l.ents, l.saves = l.next, nil, l.saves+1
	return nil
}

func (l *load) checkpoint() error {
	at := l.m.hs.commit - l.rnd.Uint64N(l.m.hs.commit-l.m.snap)
	l.next.snap = at
	if err := l.w.SaveSnapshot(snapshot(at, l.m.ents[at-2].GetTerm(), "s"), body(payload(at, 0, l.rnd.IntN(100<<10)))); err != nil {
		return err
	}
	l.m, l.commit = l.next, l.m.hs.commit
	return nil
}

// recover verifies what w holds, and goes on with it.
func (l *load) recover(w *WAL) error {
	allowed := []model{l.next}
	for n := len(l.ents); n >= 0; n-- { // the hard state comes after the entries
		m := l.m
		if m.note(nil, l.ents[:n]); n > 0 && l.ents[0].GetTerm() > m.hs.term {
			m.hs.term, m.hs.vote = l.ents[0].GetTerm(), 0
		}
		allowed = append(allowed, m)
	}
	var errs error
	for i, m := range allowed {
		found := fmt.Sprintf("%d/%d", len(allowed)-1-i, len(allowed)-1)
		if err := m.check(w); err != nil {
			errs = errors.Join(errs, fmt.Errorf("with %s of what was under way: %w", found, err))
			continue
		}
		hs, _, _, _ := w.Recovered()
		if m.hs.commit = hs.GetCommit(); m.hs.commit < l.commit {
			return fmt.Errorf("commit %d, want %d", m.hs.commit, l.commit)
		}
		l.w, l.m, l.commit, l.found = w, m, m.hs.commit, append(l.found, found)
		return nil
	}
	return errs
}

// extImage makes an image of an ext4 file system, and a directory to mount it on.
func extImage(t *testing.T) (img, mnt string) {
	if testing.Short() || os.Geteuid() != 0 {
		t.Skip("takes seconds, and only root can mount a file system")
	}
	if out, err := exec.Command("sh", "-c", "mkfs.ext4 -V && losetup -f").CombinedOutput(); err != nil {
		t.Skipf("no mkfs.ext4, or no loop device: %v: %s", err, out)
	}
	dir := t.TempDir()
	img, mnt = filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	command(t, "truncate", "-s", "256M", img)
	command(t, "mkfs.ext4", "-q", "-F", img)
	if out, err := exec.Command("mount", "-o", "loop", img, mnt).CombinedOutput(); err != nil {
		t.Skipf("root may not mount here, as in most containers: %v: %s", err, out)
	}
	must(t, unix.Unmount(mnt, 0))
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil && err != unix.EINVAL { // EINVAL: it is not mounted
			t.Error(err, unix.Unmount(mnt, unix.MNT_DETACH))
		}
	})
	return img, mnt
}

// detached waits until nobody has the file system of an image any more. Somebody with mounts of his own, as ip netns exec makes them, may have: then it
// would not be mounted anew, but be the one again that has forgotten.
func detached(t *testing.T, img string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("losetup", "-j", img).Output()
		must(t, err)
		if len(out) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Skipf("somebody else holds the file system: %s", out)
		}
	}
}

func command(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", args, err, out)
	}
}
