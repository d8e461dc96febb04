package storage

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/testseed"
)

// together lives between an open and a close with three that use the storage at the same time: one saves, and meanwhile one makes
// checkpoints and compacts, and one meets others. Each stops at its first error. It returns what ended the life.
func (l *life) together(saves int) error {
	if err := l.open(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, 3)
	saved := []chan bool{make(chan bool, 1), make(chan bool, 1)} // 1: there is something to do
	for i, do := range []func(*rand.Rand) error{l.checkpoint, l.meet} {
		rnd := rand.New(rand.NewPCG(l.rnd.Uint64(), 0))
		wg.Go(func() {
			for range saved[i] {
				if errs[i] == nil {
					errs[i] = do(rnd)
				}
			}
		})
	}
	for n := 0; n < saves && errs[2] == nil; n++ {
		errs[2] = l.save(l.rnd)
		for _, c := range saved {
			select {
			case c <- true:
			default:
			}
		}
		runtime.Gosched()
	}
	for _, c := range saved {
		close(c)
	}
	wg.Wait()
	return errors.Join(append(errs, l.w.Close())...)
}

// update changes what is known.
func (l *life) update(fn func(p *progress)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := *l.now
	fn(&p)
	l.now = &p
}

func (l *life) save(rnd *rand.Rand) error {
	p := l.known()
	hs, first := p.m.hs, uint64(len(p.m.ents)+2)
	switch rnd.IntN(8) {
	case 0: // a new leader overwrites what is not committed
		hs.term, hs.vote = hs.term+1, rnd.Uint64N(3)
		first -= rnd.Uint64N(first - hs.commit)
	case 1:
		hs.vote = max(hs.vote, 1)
	}
	n := 1 + rnd.Uint64N(4)
	ents := entries(first, first+n, hs.term, rnd.IntN(1500))
	hs.commit += rnd.Uint64N(first + n - hs.commit)
	l.update(func(p *progress) {
		p.ents = ents
		p.next.note(hs.proto(), ents)
	})
	if err := l.w.Save(hs.proto(), ents); err != nil {
		return err
	}
	l.update(func(p *progress) {
		p.m.note(hs.proto(), ents)
		p.next, p.ents, p.commit = p.m, nil, max(p.commit, hs.commit)
	})
	return nil
}

func (l *life) checkpoint(rnd *rand.Rand) error {
	p := l.known()
	if p.m.snap >= p.m.hs.commit {
		return nil
	}
	at := p.m.hs.commit - rnd.Uint64N(p.m.hs.commit-p.m.snap)
	l.update(func(p *progress) { p.beside = at })
	if err := l.w.SaveSnapshot(snapshot(at, p.m.ents[at-2].GetTerm(), "s"), body(payload(at, 0, rnd.IntN(4<<10)))); err != nil {
		return err
	}
	l.update(func(p *progress) {
		p.m.snap, p.next.snap, p.beside, p.commit = at, at, 0, max(p.commit, at)
	})
	return l.w.Compact(at)
}

func (l *life) meet(*rand.Rand) error {
	p := l.known()
	met := maps.Clone(p.who.met)
	if met == nil {
		met = map[string]uint64{}
	}
	name := fmt.Sprint("m", len(met))
	met[name] = 5
	l.update(func(p *progress) { p.then.met = met })
	if err := l.w.Meet(name, 5); err != nil {
		return err
	}
	l.update(func(p *progress) { p.who.met = met })
	return nil
}

// TestCrashStatesTogether: the power is cut, or the process is killed, at every change that several make at the same time.
func TestCrashStatesTogether(t *testing.T) {
	rnd := testseed.Rand(t)
	for range *statesFlag {
		torn := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		l, v := newLife(rnd, faultfs.New()), newVerifier()
		l.watch(func(n int, op *faultfs.Op, p *progress) faultfs.Fault {
			if few() && n%2 > 0 {
				return faultfs.Fault{}
			}
			for _, loss := range []faultfs.Loss{{}, {Names: faultfs.Some, Data: faultfs.Some, Rand: torn}} {
				what := fmt.Sprintf("change %d, %s of %s, names %s, data %s", n, op.Kind, op.Name, loss.Names, loss.Data)
				v.add(state{what, op.Crash(loss), p}.verifyTwice)
			}
			v.add(state{fmt.Sprintf("killed at change %d, %s of %s", n, op.Kind, op.Name), op.Kill(), p}.verifyTwice)
			return faultfs.Fault{}
		})
		must(t, errors.Join(l.together(20), v.wait()))
		s := l.w.Stats()
		t.Logf("%d states, %d checkpoints, %d segments given up, %d met", v.n, s.Checkpoints, s.Dropped, len(l.known().who.met))
	}
}

// TestFailuresTogether: a change fails while several make some.
func TestFailuresTogether(t *testing.T) {
	rnd, v := testseed.Rand(t), newVerifier()
	for range 60 * *statesFlag {
		l, at, what := newLife(rnd, faultfs.New()), rnd.IntN(300), ""
		l.watch(func(n int, op *faultfs.Op, _ *progress) (f faultfs.Fault) {
			if n == at {
				what, f.Err = fmt.Sprintf("change %d, %s of %s", n, op.Kind, op.Name), syscall.EIO
			}
			return f
		})
		if err := l.together(20); err != nil && !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", what, err)
		}
		l.fs.Inject(nil)
		for _, s := range l.after(what) {
			v.add(s.verifyTwice)
		}
	}
	must(t, v.wait())
}
