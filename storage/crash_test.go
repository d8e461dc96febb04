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
	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
)

var statesFlag = flag.Int("crash.states", 1, "random states that are tried for each point at which the power is cut")

// few reports whether the tests that cut the power, or let a change fail, at each point of a life do so in one or two ways, and some only at every
// second point: all of them would be half of what go test takes.
func few() bool { return *statesFlag == 1 }

// losses are what may be left of that which is not durable, at the n-th point.
func losses(n int, rnd *rand.Rand, random int) []faultfs.Loss {
	out := []faultfs.Loss{{}, {Names: faultfs.All, Data: faultfs.All}, {Names: faultfs.All}, {Data: faultfs.All}, {Names: faultfs.Last}}
	torn := []faultfs.Loss{
		{Names: faultfs.Some, Data: faultfs.Some, Tear: 512, Rand: rnd},
		{Names: faultfs.First, Data: faultfs.Some, Tear: 512, Rand: rnd},
		{Names: faultfs.Some, Data: faultfs.Some, Tear: 4096, Rand: rnd},
	}
	for i := range random {
		out = append(out, torn[(n+i)%len(torn)])
	}
	return out
}

// watch asks fn at each change, the n-th, what happens.
func (l *life) watch(fn func(n int, op *faultfs.Op, p *progress) faultfs.Fault) {
	n := -1
	l.fs.Inject(func(op *faultfs.Op) faultfs.Fault {
		if !op.Changes() {
			return faultfs.Fault{}
		}
		n++
		return fn(n, op, l.known())
	})
}

// TestCrashStates: the power is cut at every point of a member's life: in its creation, its work, its close and its next
// start. Of what is not durable nothing is there then, or all, or only names or only contents, or any parts. The member starts
// with everything that was acknowledged, and with nothing that was never asked for, and has it after another cut still.
func TestCrashStates(t *testing.T) {
	rnd := testseed.Rand(t)
	for i, direct := range []bool{true, false, true} {
		size := int64(bedSegment)
		if i == 2 {
			size = 64 << 10 // zeros are written ahead of the log
		}
		torn := rand.New(rand.NewPCG(rnd.Uint64(), 0)) // used by whoever makes a change, one at a time
		l := newLife(rnd, faultfs.New())
		if l.size = size; !direct {
			l.fs.NoDirect()
		}
		v := newVerifier()
		l.watch(func(n int, op *faultfs.Op, p *progress) faultfs.Fault {
			kinds := losses(n, torn, *statesFlag)
			if few() {
				if i > 0 && n%2 > 0 { // most is as it was the first time
					return faultfs.Fault{}
				}
				kinds = []faultfs.Loss{kinds[0], kinds[1+n%(len(kinds)-1)]}
			}
			for _, loss := range kinds {
				what := fmt.Sprintf("direct %v, segments of %d, change %d, %s of %s, names %s, data %s by %d", direct, size, n, op.Kind, op.Name, loss.Names, loss.Data, loss.Tear)
				s := state{what, op.Crash(loss), p}
				if loss.Names == faultfs.All || loss.Data == faultfs.All {
					v.add(s.verify)
				} else {
					v.add(s.verifyTwice)
				}
			}
			return faultfs.Fault{}
		})
		err := errors.Join(l.live(script), l.live("as"), v.wait())
		t.Logf("direct %v, segments of %d: %d states", direct, size, v.n)
		must(t, err)
	}
}

// TestKilledStates: the process is killed at every point of a member's life, and the power is cut once the next one has started:
// what that one has found is there.
func TestKilledStates(t *testing.T) {
	for _, direct := range []bool{true, false} {
		l := newLife(testseed.Rand(t), faultfs.New())
		if !direct {
			l.fs.NoDirect()
		}
		v := newVerifier()
		l.watch(func(n int, op *faultfs.Op, p *progress) faultfs.Fault {
			if few() && !direct && n%2 > 0 {
				return faultfs.Fault{}
			}
			what := fmt.Sprintf("direct %v, killed at change %d, %s of %s", direct, n, op.Kind, op.Name)
			v.add(state{what, op.Kill(), p}.verifyTwice)
			return faultfs.Fault{}
		})
		must(t, errors.Join(l.live(script), l.live("as"), v.wait()))
	}
}

// anyLife is a script of so many steps in any order.
func anyLife(rnd *rand.Rand, steps int) string {
	const often = "aaeesooobbbSSSSCCCvnikmp"
	life := make([]byte, steps)
	for i := range life {
		life[i] = often[rnd.IntN(len(often))]
	}
	return string(life)
}

// TestCrashStates_AnyLife: likewise, at some points of lives in which anything comes after anything.
func TestCrashStates_AnyLife(t *testing.T) {
	rnd := testseed.Rand(t)
	lives := 1
	if !few() {
		lives = 4 * *statesFlag
	}
	for n := range lives {
		torn := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		l, v := newLife(rnd, faultfs.New()), newVerifier()
		if n%2 > 0 {
			l.fs.NoDirect()
		}
		steps := anyLife(rnd, 200)
		l.watch(func(n int, op *faultfs.Op, p *progress) faultfs.Fault {
			if op.Kind != faultfs.OpRemove && op.Kind != faultfs.OpRename && torn.IntN(12) > 0 { // most of the others are much alike
				return faultfs.Fault{}
			}
			what := fmt.Sprintf("%s: change %d, %s of %s", steps, n, op.Kind, op.Name)
			v.add(state{what + ", killed", op.Kill(), p}.verifyTwice)
			loss := losses(n, torn, 3)
			v.add(state{what + ", a cut", op.Crash(loss[torn.IntN(len(loss))]), p}.verifyTwice)
			return faultfs.Fault{}
		})
		must(t, errors.Join(l.live(steps), v.wait()))
		t.Logf("%d states", v.n)
	}
}

// TestCopiedDirectory: a copy that nobody has synced is durable once a member has started on it.
func TestCopiedDirectory(t *testing.T) {
	l := newLife(testseed.Rand(t), faultfs.New())
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

// TestG7_VoteAlone: a vote that is saved alone is in the mark, whatever becomes of it in the log: it is recovered, and found again by the next start, or the damage is
// found, where the mark knows already that the log was durable.
func TestG7_VoteAlone(t *testing.T) {
	for _, hs := range []hardState{{3, 0, 1}, {3, 7, 1}, {2, 9, 1}} {
		for _, between := range []bool{true, false} { // a crash comes between the mark and the log, or both were written and the log is damaged
			s := faultfs.New()
			w, err := openLife(s)
			must(t, err)
			must(t, w.Save(hard(2, 0, 1), entries(2, 5, 2, 50)))
			at, tail := w.out.end(), w.segs[len(w.segs)-1].path
			if between {
				m := w.markStateLocked()
				m.hs = hs
				must(t, errors.Join(w.mark.write(m), w.mark.sync()))
			} else {
				must(t, w.Save(hs.proto(), nil))
			}
			after := s.Crash(faultfs.Loss{}) // of the mark, what was synced
			must(t, w.Close())
			f, err := after.OpenFile(tail, os.O_RDWR, 0)
			must(t, err)
			_, err = f.WriteAt(make([]byte, blockSize), at)
			must(t, err)
			for range 2 {
				w, err := openLife(after)
				if !between && errors.As(err, new(*CorruptError)) {
					break
				}
				must(t, err)
				got, _, last, _ := w.Recovered()
				if got.GetTerm() != hs.term || got.GetVote() != hs.vote || last != 4 {
					t.Errorf("recovered %v and %d entries, want %+v and 4", got, last, hs)
				}
				must(t, w.Close())
			}
		}
	}
}

// TestG7_VoteTakenBack: a mark that knows less than the log promised before it is damaged, or one that knows another vote.
func TestG7_VoteTakenBack(t *testing.T) {
	for _, hs := range []hardState{{1, 0, 1}, {2, 8, 1}, {2, 0, 1}} {
		s := faultfs.New()
		w, err := openLife(s)
		must(t, err)
		must(t, w.Save(hard(2, 9, 1), entries(2, 5, 2, 50)))
		m := w.markStateLocked()
		m.hs = hs
		must(t, w.mark.write(m))
		killed := s.Kill()
		must(t, w.Close())
		if _, err := openLife(killed); !errors.As(err, new(*CorruptError)) {
			t.Errorf("%+v: %v", hs, err)
		}
	}
}
