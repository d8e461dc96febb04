package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
)

// A formation is a member to be made: a snapshot at entry 40 of term 3, with the log from entry 21 to 60.
type formation struct {
	state []byte
	ents  []*raftpb.Entry
	fail  error // of the log, in the middle
}

func newFormation() *formation {
	return &formation{payload(1, 1, 9000), append(entries(21, 51, 3, 900), entries(51, 61, 4, 100)...), nil}
}

func (f *formation) content() Content {
	return Content{
		ClusterID: [16]byte{9}, Base: 20, Term: 2, Log: f.log(),
		Body: func(w io.Writer) error { _, err := w.Write(f.state); return err },
	}
}

func (f *formation) log() iter.Seq2[*raftpb.Entry, error] {
	return func(yield func(*raftpb.Entry, error) bool) {
		for i, e := range f.ents {
			if f.fail != nil && i == len(f.ents)/2 {
				yield(nil, f.fail)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (f *formation) options(s *faultfs.FS) Options {
	o := testOptions()
	o.Boot, o.FS = snapshot(40, 3, "made"), s
	return o
}

// check verifies that a member is there as it was to be made.
func (f *formation) check(s *faultfs.FS) error {
	o := f.options(s)
	o.Boot = bootSnapshot() // is not looked at
	w, err := Open(lifeDir, o)
	if err != nil {
		return err
	}
	defer w.Close()
	hs, snap, last, _ := w.Recovered()
	if *hs.Term != 4 || hs.GetVote() != 0 || *hs.Commit != 60 || last != 60 || idOf(snap) != (snapID{40, 3}) || w.First() != 21 || w.ClusterID() != [16]byte{9} {
		return fmt.Errorf("%v, %v, last %d, first %d, cluster %x", hs, snap, last, w.First(), w.ClusterID())
	}
	var got []*raftpb.Entry
	for lo := uint64(21); lo <= 60; lo += uint64(len(got)) - (lo - 21) {
		part, err := w.Entries(lo, 61, 4000)
		if err != nil {
			return err
		}
		got = append(got, part...)
	}
	if err := sameEntries(got, f.ents); err != nil {
		return err
	}
	_, body, _, err := w.OpenSnapshot()
	if err != nil {
		return err
	}
	defer body.Close()
	if b, err := io.ReadAll(body); err != nil || !bytes.Equal(b, f.state) {
		return fmt.Errorf("%d bytes of state, %v", len(b), err)
	}
	return w.Save(hard(5, 1, 60), entries(61, 63, 5, 10))
}

// emptyOrMade verifies that a directory is one or the other, whole.
func (f *formation) emptyOrMade(s *faultfs.FS) error {
	state, err := disk{s}.classify(lifeDir)
	switch {
	case err != nil:
		return err
	case state == dirComplete:
		return f.check(s)
	case state != dirEmpty:
		return errors.New("the identity is lost")
	}
	return errors.Join(Form(lifeDir, f.options(s), f.content()), f.check(s))
}

func TestForm(t *testing.T) {
	s, f := faultfs.New(), newFormation()
	must(t, Form(lifeDir, f.options(s), f.content()))
	must(t, f.check(s.Crash(faultfs.Loss{})))
	if err := Form(lifeDir, f.options(s), f.content()); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a member: %v", err)
	}
}

// The log must lead from the base to the snapshot, without a gap, and what fails in it fails the whole.
func TestFormRefuses(t *testing.T) {
	for what, spoil := range map[string]func(*formation){
		"an error of the log":     func(f *formation) { f.fail = io.ErrUnexpectedEOF },
		"a gap":                   func(f *formation) { f.ents = append(f.ents[:5:5], f.ents[6:]...) },
		"an end that is too soon": func(f *formation) { f.ents = f.ents[:10] },
		"another term":            func(f *formation) { f.ents[19] = entry(40, 4, 1); f.ents = f.ents[:20] },
	} {
		s, f := faultfs.New(), newFormation()
		spoil(f)
		if err := Form(lifeDir, f.options(s), f.content()); err == nil || f.fail != nil && !errors.Is(err, f.fail) {
			t.Errorf("%s: %v", what, err)
		}
		for _, dir := range []string{lifeDir, filepath.Join(lifeDir, snapName), filepath.Join(lifeDir, walName)} {
			names, err := s.ReadDir(dir)
			must(t, err)
			for _, e := range names {
				if name := e.Name(); !e.IsDir() && name != lockName {
					t.Errorf("%s has left %s", what, filepath.Join(dir, name))
				}
			}
		}
		f = newFormation()
		must(t, errors.Join(Form(lifeDir, f.options(s), f.content()), f.check(s)))
	}
}

// At each change of the making of a member the power is cut, or the process killed, or the change fails: the directory counts as
// empty, and a member can be made there, or the member is there, whole.
func TestFormCrashes(t *testing.T) {
	rnd := testseed.Rand(t)
	torn := rand.New(rand.NewPCG(rnd.Uint64(), 0))
	v, f, s := newVerifier(), newFormation(), faultfs.New()
	n := 0
	s.Inject(func(op *faultfs.Op) faultfs.Fault {
		if op.Changes() {
			n++
			for _, loss := range losses(n, torn, *statesFlag) {
				left, what := op.Crash(loss), fmt.Sprintf("cut at change %d, %s of %s, names %s, data %s", n, op.Kind, op.Name, loss.Names, loss.Data)
				v.add(func() error { return inWords(what, f.emptyOrMade(left)) })
			}
			left, what := op.Kill(), fmt.Sprintf("killed at change %d, %s of %s", n, op.Kind, op.Name)
			v.add(func() error { return inWords(what, f.emptyOrMade(left)) })
		}
		return faultfs.Fault{}
	})
	must(t, Form(lifeDir, f.options(s), f.content()))
	changes := n
	for at := range changes {
		s, n := faultfs.New(), -1
		errno := []syscall.Errno{syscall.EIO, syscall.ENOSPC}[at&1]
		s.Inject(func(op *faultfs.Op) faultfs.Fault {
			if op.Changes() {
				switch n++; {
				case n == at:
					return faultfs.Fault{Err: errno}
				case n > at: // what is made is unmade, and the power cut
					left, what := op.Crash(losses(0, nil, 0)[n%5]), fmt.Sprintf("change %d has failed, and the power is cut at %s of %s", at, op.Kind, op.Name)
					v.add(func() error { return inWords(what, f.emptyOrMade(left)) })
				}
			}
			return faultfs.Fault{}
		})
		err := Form(lifeDir, f.options(s), f.content())
		if err != nil && !errors.Is(err, errno) {
			t.Fatalf("change %d fails: %v", at, err)
		}
		s.Inject(nil)
		v.add(func() error {
			return inWords(fmt.Sprintf("change %d failed with %v", at, err), f.emptyOrMade(s.Kill()))
		})
	}
	must(t, v.wait())
	t.Logf("%d changes, %d states", changes, v.n)
}

func inWords(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// What a member has left is read without a change, also what a crash has left unfinished; nobody may have it open.
func TestRemains(t *testing.T) {
	if _, err := OpenRemains(t.Context(), lifeDir, faultfs.New()); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrNoMember) {
		t.Errorf("of nobody: %v", err)
	}
	l := newLife(testseed.Rand(t), faultfs.New())
	must(t, l.open())
	for _, step := range script {
		must(t, l.step(step))
	}
	if _, err := OpenRemains(t.Context(), lifeDir, l.fs); !errors.Is(err, ErrLocked) {
		t.Errorf("of one that runs: %v", err)
	}
	left := l.fs.Kill()
	left.Inject(func(op *faultfs.Op) faultfs.Fault {
		if op.Changes() {
			t.Errorf("%s of %s", op.Kind, op.Name)
		}
		return faultfs.Fault{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := OpenRemains(ctx, lifeDir, left)
	must(t, err)
	if r.Identity() != testID || r.ClusterID() != l.w.ClusterID() {
		t.Errorf("%+v, %x", r.Identity(), r.ClusterID())
	}
	if err := l.known().m.check(r.w); err != nil {
		t.Error(err)
	}
	cancel()
	if _, err := r.Entries(r.First(), r.First()+1, 1); err == nil {
		t.Error("read when ctx was over")
	}
	must(t, r.Close())
	must(t, l.w.Close())
	if _, err := OpenRemains(ctx, lifeDir, left); !errors.Is(err, context.Canceled) {
		t.Errorf("with a ctx that is over: %v", err)
	}
}
