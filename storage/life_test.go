package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/baton-ha/baton/internal/faultfs"
	"go.etcd.io/raft/v3/raftpb"
)

const lifeDir = "/new/too/m"

// progress is what a member was told, and what it has asked for since.
type progress struct {
	m, next   model
	who, then whoami          // the identity file, likewise
	ents      []*raftpb.Entry // of the Save that is under way
	commit    uint64          // so much of m.hs.commit is durable: a mere change of it is not synced
	beside    uint64          // a checkpoint that is being made beside a Save; 0: none
}

// whoami is what the identity file keeps.
type whoami struct {
	cluster  byte
	met      map[string]uint64
	promised int64
}

func (p *progress) checkIdentity(w *WAL) (whoami, error) {
	got := whoami{w.ClusterID()[0], w.Peers(), int64(w.Promised())}
	for _, want := range []whoami{p.who, p.then} {
		if got.cluster == want.cluster && got.promised == want.promised && maps.Equal(got.met, want.met) {
			return got, nil
		}
	}
	return got, fmt.Errorf("identity %v, want %v or %v", got, p.who, p.then)
}

// check returns what of that which is allowed w holds, as the progress of a member that goes on with it.
func (p *progress) check(w *WAL) (*progress, error) {
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
	if p.beside > 0 {
		for _, m := range allowed {
			m.snap = p.beside
			allowed = append(allowed, m)
		}
	}
	who, errs := p.checkIdentity(w)
	if errs != nil {
		return nil, errs
	}
	for _, m := range allowed {
		if err := m.check(w); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		hs, _, _, _ := w.Recovered()
		if m.hs.commit = hs.GetCommit(); m.hs.commit < p.commit {
			return nil, fmt.Errorf("commit %d, want %d", m.hs.commit, p.commit)
		}
		return &progress{m: m, next: m, who: who, then: who, commit: m.hs.commit}, nil
	}
	return nil, errs
}

// A life is a member on a file system, and what it was told there.
type life struct {
	rnd  *rand.Rand
	fs   *faultfs.FS
	w    *WAL
	size int64 // of its segments

	mu    sync.Mutex // guards now, which is replaced, never changed
	now   *progress
	saved int
}

func newLife(rnd *rand.Rand, s *faultfs.FS) *life {
	first := model{hs: hardState{1, 0, 1}, snap: 1}
	return &life{rnd: rnd, fs: s, size: bedSegment, now: &progress{m: first, next: first}}
}

func (l *life) known() *progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *life) set(p progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = &p
}

func openLife(s *faultfs.FS) (*WAL, error) { return openSegments(s, bedSegment) }

func openSegments(s *faultfs.FS, size int64) (*WAL, error) {
	o := testOptions()
	o.SegmentSize, o.FS = size, s
	return Open(lifeDir, o)
}

// open starts the member, and verifies that it has what it should.
func (l *life) open() (err error) {
	if l.w, err = openSegments(l.fs, l.size); err != nil {
		return err
	}
	p, err := l.known().check(l.w)
	if err != nil {
		return errors.Join(err, l.w.Close())
	}
	l.set(*p)
	return nil
}

// script is a life in which everything comes about. What the letters mean says [life.step].
const script = "veSaseoaabSamaSCaaSCaaiaaseCiopvaabaaSCanaaSaCaaSsaaaaaaaaSCevankCe"

// live does what a script says, between an open and a close. It returns the first error.
func (l *life) live(script string) error {
	err := l.open()
	if err != nil {
		return err
	}
	for _, step := range script {
		if err = l.step(step); err != nil {
			break
		}
	}
	return errors.Join(err, l.w.Close())
}

// step does what raft does. What is asked for and cannot be done now is left out.
func (l *life) step(kind rune) error {
	p := *l.known()
	p.next, p.then, p.ents = p.m, p.who, nil
	hs, first := p.m.hs, uint64(len(p.m.ents)+2)
	var do func() error
	save := func(n int) {
		for i := range uint64(n) {
			p.ents = append(p.ents, entry(first+i, hs.term, l.rnd.IntN(1500)))
		}
		p.next.note(hs.proto(), p.ents)
		do = func() error { return l.w.Save(hs.proto(), p.ents) }
	}
	switch kind {
	case 'v': // a vote in a new term
		hs.term, hs.vote = hs.term+1, 1+l.rnd.Uint64N(2)
		save(0)
	case 'a', 'e', 's': // entries, and some commits; a single one; many small ones
		n := map[rune]int{'a': 1 + l.rnd.IntN(3), 'e': 1, 's': 6}[kind]
		hs.commit += l.rnd.Uint64N(first + uint64(n) - hs.commit)
		save(n)
	case 'b': // a large one, by which the segment grows beyond its size
		save(0)
		p.ents = []*raftpb.Entry{entry(first, hs.term, 5*bedSegment)}
		p.next.note(nil, p.ents)
	case 'o': // a new leader overwrites what is not committed
		hs.term, hs.vote = hs.term+1, l.rnd.Uint64N(3)
		first -= l.rnd.Uint64N(first - hs.commit)
		save(1 + l.rnd.IntN(2))
	case 'n': // a commit, and nothing that is synced
		hs.commit = first - 1
		save(0)
	case 'S': // a checkpoint
		if p.m.snap >= p.m.hs.commit {
			return nil
		}
		at := p.m.hs.commit - l.rnd.Uint64N(p.m.hs.commit-p.m.snap)
		p.next.snap = at
		do = func() error {
			return l.w.SaveSnapshot(snapshot(at, p.m.ents[at-2].GetTerm(), "s"), body(payload(at, 0, l.rnd.IntN(4<<10))))
		}
	case 'i': // a leader's snapshot, beyond the log
		at, term := first+l.rnd.Uint64N(5), hs.term+1
		for i := first; i <= at; i++ { // nobody reads these
			p.next.ents = append(p.next.ents[:i-2:i-2], entry(i, term, 0))
		}
		p.next.snap, p.next.hs = at, hardState{term, 0, at}
		do = func() error {
			s := snapshot(at, term, "leader's")
			if err := l.w.StageSnapshot(s, bytes.NewReader(payload(at, 0, l.rnd.IntN(4<<10)))); err != nil {
				return err
			}
			return l.w.InstallSnapshot(s, p.next.hs.proto())
		}
	case 'k': // a leader's snapshot of what is in the log, as a checkpoint; first it breaks off
		if p.m.snap >= p.m.hs.commit {
			return nil
		}
		at, b := p.m.hs.commit, payload(p.m.hs.commit, 0, 6<<10)
		p.next.snap, p.next.adopted = at, at
		do = func() error {
			s := snapshot(at, p.m.ents[at-2].GetTerm(), "leader's")
			if err := l.w.StageSnapshot(s, io.MultiReader(bytes.NewReader(b[:4<<10]), iotest.ErrReader(errBroken))); !errors.Is(err, errBroken) {
				return err
			}
			if err := l.w.StageSnapshot(s, &rest{body: b}); err != nil {
				return err
			}
			return l.w.AdoptSnapshot(snapshot(at, p.m.ents[at-2].GetTerm(), ownHeader))
		}
	case 'C':
		do = func() error { return l.w.Compact(p.m.snap) }
	case 'm': // another member is met; or the cluster gets its id
		if p.then.cluster == 0 {
			p.then.cluster = 7
			do = func() error { return l.w.SetClusterID([16]byte{7}) }
			break
		}
		name := fmt.Sprint("m", len(p.who.met))
		if p.then.met = maps.Clone(p.who.met); p.then.met == nil {
			p.then.met = map[string]uint64{}
		}
		p.then.met[name] = 5
		do = func() error { return l.w.Meet(name, 5) }
	case 'p':
		p.then.promised++
		do = func() error { return l.w.KeepPromised(1 + l.w.Promised()) }
	default:
		panic(kind)
	}
	l.set(p)
	if err := do(); err != nil {
		return err
	}
	done := progress{m: p.next, next: p.next, who: p.then, then: p.then, commit: p.commit}
	if len(p.ents) > 0 || p.next.hs.term != p.m.hs.term || p.next.hs.vote != p.m.hs.vote {
		done.commit = p.next.hs.commit
	} else if p.next.snap > p.m.snap {
		done.commit = max(done.commit, p.next.snap)
	}
	l.set(done)
	l.saved++
	return nil
}

// A state is a file system as it may be after a power cut or a kill, and what must be there.
type state struct {
	what string
	fs   *faultfs.FS
	p    *progress
}

// verify starts a member with it.
func (s state) verify() error {
	_, err := s.start()
	return err
}

// verifyTwice does so, and again after a power cut of which nothing is left that is not durable.
func (s state) verifyTwice() error {
	found, err := s.start()
	if err != nil {
		return err
	}
	return state{s.what + ", then a cut", found.fs.Crash(faultfs.Loss{}), found.p}.verify()
}

// start starts a member with it, and returns what is there while it is up.
func (s state) start() (state, error) {
	l := &life{fs: s.fs, size: bedSegment, now: s.p}
	if err := l.open(); err != nil {
		return s, fmt.Errorf("%s: %w", s.what, err)
	}
	found := state{s.what, s.fs.Kill(), l.now}
	if err := l.w.Close(); err != nil {
		return s, fmt.Errorf("%s: %w", s.what, err)
	}
	return found, nil
}

// A verifier verifies states, several at a time, while others come about.
type verifier struct {
	states  chan func() error // 64: so many states are in memory at a time
	workers sync.WaitGroup
	failed  atomic.Pointer[error]
	n       int
}

func newVerifier() *verifier {
	v := &verifier{states: make(chan func() error, 64)}
	for range runtime.GOMAXPROCS(0) {
		v.workers.Go(func() {
			for verify := range v.states {
				if v.failed.Load() != nil {
					continue
				}
				if err := verify(); err != nil {
					v.failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	return v
}

func (v *verifier) add(verify func() error) {
	v.n++
	v.states <- verify
}

// wait returns the first error.
func (v *verifier) wait() error {
	close(v.states)
	v.workers.Wait()
	if err := v.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func mustLive(t *testing.T, l *life, script string) {
	t.Helper()
	if err := l.live(script); err != nil {
		t.Fatal(err)
	}
}
