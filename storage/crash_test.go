package storage

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
	"go.etcd.io/raft/v3/raftpb"
)

var statesFlag = flag.Int("crash.states", 1, "random states that are tried for each point at which the power is cut")

// losses are what may be left of that which is not durable.
func losses(rnd *rand.Rand, random int) map[string]faultfs.Loss {
	out := map[string]faultfs.Loss{
		"nothing kept": {},
		"all kept":     {Names: faultfs.All, Data: faultfs.All},
		"names kept":   {Names: faultfs.All},
		"data kept":    {Data: faultfs.All},
	}
	for i := range random {
		out[fmt.Sprint("torn by sectors ", i)] = faultfs.Loss{Names: faultfs.Some, Data: faultfs.Some, Tear: 512, Rand: rnd}
		out[fmt.Sprint("torn by blocks ", i)] = faultfs.Loss{Names: faultfs.Some, Data: faultfs.Some, Tear: 4096, Rand: rnd}
		out[fmt.Sprint("names in order ", i)] = faultfs.Loss{Names: faultfs.First, Data: faultfs.Some, Tear: 512, Rand: rnd}
	}
	return out
}

// watch collects states at each change.
func (l *life) watch(collect func(n int, op *faultfs.Op, p *progress)) {
	n := 0
	l.fs.Inject(func(op *faultfs.Op) faultfs.Fault {
		if op.Changes() {
			collect(n, op, l.known())
			n++
		}
		return faultfs.Fault{}
	})
}

// TestCrashStates: the power is cut at every point of a member's life: in its creation, its work, its close and its next
// start. Of what is not durable nothing is there then, or all, or only names or only contents, or any parts. The member starts
// with everything that was acknowledged, and with nothing that was never asked for.
func TestCrashStates(t *testing.T) {
	for _, direct := range []bool{true, false} {
		rnd := newRand(t)
		l := newLife(rnd, faultfs.New())
		if !direct {
			l.fs.NoDirect()
		}
		var states []state
		l.watch(func(n int, op *faultfs.Op, p *progress) {
			for name, loss := range losses(rnd, *statesFlag) {
				states = append(states, state{fmt.Sprintf("direct %v, change %d, %s of %s, %s", direct, n, op.Kind, op.Name, name), op.Crash(loss), p})
			}
		})
		mustLive(t, l, script)
		mustLive(t, l, "as")
		t.Logf("direct %v: %d states", direct, len(states))
		if err := verifyAll(states, state.verify); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledStates: the process is killed at every point of a member's life, and the power is cut once the next one has started:
// what that one has found is there.
func TestKilledStates(t *testing.T) {
	for _, direct := range []bool{true, false} {
		l := newLife(newRand(t), faultfs.New())
		if !direct {
			l.fs.NoDirect()
		}
		var states []state
		l.watch(func(n int, op *faultfs.Op, p *progress) {
			states = append(states, state{fmt.Sprintf("direct %v, killed at change %d, %s of %s", direct, n, op.Kind, op.Name), op.Kill(), p})
		})
		mustLive(t, l, script)
		mustLive(t, l, "as")
		if err := verifyAll(states, state.verifyTwice); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCopiedDirectory: a copy that nobody has synced is durable once a member has started on it.
func TestCopiedDirectory(t *testing.T) {
	l := newLife(newRand(t), faultfs.New())
	mustLive(t, l, script)
	to := faultfs.New()
	must(t, copyFiles(disk{to}, disk{l.fs}, "/"))
	if err := (state{"copied", to, l.known()}).verifyTwice(); err != nil {
		t.Fatal(err)
	}
}

func copyFiles(to, from disk, dir string) error {
	names, err := from.ReadDir(dir)
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = errors.Join(err, to.Mkdir(path, 0o700), copyFiles(to, from, path))
			continue
		}
		b, rerr := from.readFile(path)
		f, werr := to.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err = errors.Join(err, rerr, werr); err != nil {
			return err
		}
		_, werr = f.WriteAt(b, 0)
		err = errors.Join(err, werr, f.Close())
	}
	return err
}

// TestG7_VoteIsNotInTheWindow: a vote is durable in the mark as well, so damage to the last Save cannot lose it.
func TestG7_VoteIsNotInTheWindow(t *testing.T) {
	for _, hs := range []*raftpb.HardState{hard(3, 0, 1), hard(2, 9, 1)} {
		s := faultfs.New()
		w, err := openLife(s)
		must(t, err)
		must(t, w.Save(hard(2, 0, 1), entries(2, 5, 2, 50)))
		at, tail := w.out.end(), w.segs[len(w.segs)-1].path
		must(t, w.Save(hs, entries(5, 6, 2, 50)))
		after := s.Crash(faultfs.Loss{}) // of the mark, what was synced
		must(t, w.Close())
		f, err := after.OpenFile(tail, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt(make([]byte, blockSize), at)
		must(t, err)
		if _, err := openLife(after); !errors.As(err, new(*CorruptError)) {
			t.Fatal(err)
		}
	}
}
