package storage

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

var statesFlag = flag.Int("crash.states", 1, "states that are tried for each point at which the power is cut, and kind of directory")

// progress is what a member was told, and what it has asked for since.
type progress struct {
	m, next model
	ents    []*raftpb.Entry // of the Save that is under way
	commit  uint64          // so much of m.hs.commit is durable: a mere change of it is not synced
}

// check returns which of the models that are allowed w holds.
func (p *progress) check(w *WAL) (model, error) {
	allowed := []model{p.next}
	for n := len(p.ents); n >= 0; n-- { // the hard state comes after the entries
		m := p.m
		if m.note(nil, p.ents[:n]); n > 0 && p.ents[0].GetTerm() > m.hs.term {
			m.hs.term, m.hs.vote = p.ents[0].GetTerm(), 0
		}
		allowed = append(allowed, m)
	}
	if p.next.snap > p.m.snap { // a leader's snapshot: first the term
		m := p.m
		m.hs.term, m.hs.vote = p.next.hs.term, p.next.hs.vote
		allowed = append(allowed, m)
	}
	var errs error
	for _, m := range allowed {
		if err := m.check(w); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		hs, _, _, _ := w.Recovered()
		if m.hs.commit = hs.GetCommit(); m.hs.commit < p.commit {
			return m, fmt.Errorf("commit %d, want %d", m.hs.commit, p.commit)
		}
		return m, nil
	}
	return model{}, errs
}

// work opens a member and does what raft does, telling r of it.
func work(t *testing.T, rnd *rand.Rand, r *recording, dir string, now progress, steps int) {
	r.set(new(now))
	w, err := openBed(dir)
	must(t, err)
	for range steps {
		p := now
		p.next, p.ents = p.m, nil
		hs, first := p.m.hs, uint64(len(p.m.ents)+2)
		var do func() error
		switch k := rnd.IntN(20); {
		case k < 2 && p.m.snap < p.m.hs.commit: // a checkpoint
			at := p.m.hs.commit - rnd.Uint64N(p.m.hs.commit-p.m.snap)
			p.next.snap = at
			do = func() error {
				return w.SaveSnapshot(snapshot(at, p.m.ents[at-2].GetTerm(), "s"), body(payload(at, 0, rnd.IntN(4<<10))))
			}
		case k < 3: // a leader's snapshot, beyond the log
			at, term := first+rnd.Uint64N(5), hs.term+1
			for i := first; i <= at; i++ { // nobody reads these
				p.next.ents = append(p.next.ents[:i-2:i-2], entry(i, term, 0))
			}
			p.next.snap, p.next.hs = at, hardState{term, 0, at}
			do = func() error {
				s := snapshot(at, term, "leader's")
				if err := w.StageSnapshot(s, bytes.NewReader(payload(at, 0, rnd.IntN(4<<10)))); err != nil {
					return err
				}
				return w.InstallSnapshot(s, p.next.hs.proto())
			}
		case k < 5:
			do = func() error { return w.Compact(p.m.snap) }
		default:
			n := rnd.Uint64N(4)
			switch rnd.IntN(8) {
			case 0: // a new leader overwrites what is not committed
				hs.term, hs.vote = hs.term+1, rnd.Uint64N(3)
				first -= rnd.Uint64N(first - hs.commit)
			case 1:
				hs.vote = max(hs.vote, 1)
			}
			for i := first; i < first+n; i++ {
				p.ents = append(p.ents, entry(i, hs.term, rnd.IntN(1500)))
			}
			if rnd.IntN(2) == 0 {
				hs.commit += rnd.Uint64N(first + n - hs.commit)
			}
			p.next.note(hs.proto(), p.ents)
			do = func() error { return w.Save(hs.proto(), p.ents) }
		}
		r.set(&p)
		must(t, do())
		done := progress{m: p.next, next: p.next, commit: p.commit}
		if len(p.ents) > 0 || p.next.hs.term != p.m.hs.term || p.next.hs.vote != p.m.hs.vote {
			done.commit = p.next.hs.commit
		} else if p.next.snap > p.m.snap {
			done.commit = max(done.commit, p.next.snap)
		}
		now = done
		r.set(&done)
	}
	must(t, w.Close())
}

// TestCrashStates: the power is cut at every point of a member's life, in its creation, its work, its close and its next
// starts. Of writes that are not synced any sectors may have reached the disk, and of changes of names either the first ones,
// as where a journal keeps them in order, or any. Whatever is there then, the member starts with everything that was
// acknowledged, and in one of these states the next life begins.
func TestCrashStates(t *testing.T) {
	rnd := newRand(t)
	tried := 0
	for _, ordered := range []bool{true, false} {
		root := filepath.Join(fastDir(t), "life")
		must(t, os.Mkdir(root, 0o700))
		first := model{hs: hardState{1, 0, 1}, snap: 1}
		now := progress{m: first, next: first}
		for life := range 3 {
			r, stop := startRecording(t, root)
			work(t, rnd, r, filepath.Join(root, "new", "too", "m"), now, 30)
			stop()
			p := newReplay(r)
			survivor := rnd.IntN(len(r.ops) * *statesFlag)
			for k, op := range r.ops {
				for range *statesFlag {
					tried++
					survivor--
					state := p.crash(rnd, op, ordered)
					at := filepath.Join(filepath.Dir(root), "crash")
					state.write(t, at)
					w, err := openBed(filepath.Join(at, "new", "too", "m"))
					var m model
					if err == nil {
						m, err = op.known.check(w)
						err = errors.Join(err, w.Close())
					}
					if err != nil {
						t.Fatalf("ordered %v, life %d, at change %d of %d (%s): %v", ordered, life, k, len(r.ops), op, err)
					}
					if must(t, os.RemoveAll(at)); survivor == 0 {
						now = progress{m: m, next: m, commit: m.hs.commit}
						must(t, os.RemoveAll(root))
						state.write(t, root)
					}
				}
				p.next(op)
			}
		}
		must(t, os.RemoveAll(root))
	}
	t.Logf("%d states", tried)
}

func (op fileOp) String() string {
	return fmt.Sprintf("%d of file %d, %s %s, at %d, %d bytes", op.op, op.id, op.path, op.to, op.off, len(op.data))
}

// TestG7_VoteIsNotInTheWindow: a vote is durable in the mark as well, so damage to the last Save cannot lose it.
func TestG7_VoteIsNotInTheWindow(t *testing.T) {
	for _, hs := range []*raftpb.HardState{hard(3, 0, 1), hard(2, 9, 1)} {
		root := fastDir(t)
		r, stop := startRecording(t, root)
		w, err := openBed(filepath.Join(root, "m"))
		must(t, err)
		must(t, w.Save(hard(2, 0, 1), entries(2, 5, 2, 50)))
		at := w.out.end()
		must(t, w.Save(hs, entries(5, 6, 2, 50)))
		w.failed.CompareAndSwap(nil, new(errors.New("power cut")))
		w.Close()
		stop()
		p := newReplay(r)
		for _, op := range r.ops {
			p.next(op)
		}
		p.next(fileOp{change: change{op: opSyncDir, path: "m"}})
		after := fastDir(t)
		p.base.write(t, after) // of the mark, what was synced
		seg := segmentFiles(t, filepath.Join(after, "m"))[0]
		b, err := os.ReadFile(seg)
		must(t, err)
		clear(b[at:])
		must(t, os.WriteFile(seg, b, 0o600))
		if _, err := openBed(filepath.Join(after, "m")); !errors.As(err, new(*CorruptError)) {
			t.Fatal(err)
		}
	}
}
