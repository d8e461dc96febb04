package ha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
	"github.com/baton-ha/baton/transport"
)

// This file decides when a new member may take part.
//
// Directories that are empty cannot tell a cluster that has never been from one that they have forgotten,
// and two of three would outvote the one that remembers. So a new directory is unborn: its member hears
// nobody, votes for nobody and does not campaign. It asks all others, again and again, who they are. It is
// born with them once each has said that it is new as well, and has heard of the same directories of
// everybody; or it joins those who were born with its very directory. One that is born never forgets with
// whom, and refuses whoever comes with another directory, so survivors always win over newcomers.
//
// Invariant: of the members of the first list no two are born with different directories of a third. Each
// would need, at one moment, the word of the other that it has heard of that third what it has heard itself.

// ErrUnborn is the error of [ObstacleUnborn] in Status: the member is new, and the cluster cannot
// begin before all members have said that they are new as well. Its text says who is missing.
var ErrUnborn = errors.New("baton: the cluster is not born")

// A word is what a member says of itself.
type word struct {
	err         error // why it could not be heard; then nothing else counts
	incarnation uint64
	born        bool
	birth       map[string]uint64 // incarnations of those who were born together with it, its own included
	known       map[string]uint64 // of those it has met, its own included
}

func wordOf(h transport.Hello) word {
	return word{incarnation: h.Incarnation, born: h.Born, birth: h.Birth, known: h.Known}
}

func (w word) equal(o word) bool {
	return w.incarnation == o.incarnation && w.born == o.born && maps.Equal(w.birth, o.birth) && maps.Equal(w.known, o.known)
}

// A verdict is what follows from what all have said.
type verdict struct {
	born    bool
	birth   map[string]uint64 // of a member that is born: with whom; nil if it joins later
	met     map[string]uint64 // and whom it must remember
	joins   bool              // those who were born before it, with its very directory
	err     error             // it must never be: somebody knows it with another directory
	missing string            // else what is waited for
}

// judgeBirth says whether a new member is born. said is what it has told everybody: the incarnations that
// it has heard of, its own included. words are the answers of the others; those in without may be missing
// as long as nobody is born yet.
func judgeBirth(self string, said map[string]uint64, words map[string]word, without []string) verdict {
	var missing []string
	own := said[self]
	v := verdict{met: map[string]uint64{}, birth: map[string]uint64{self: own}}
	for _, w := range words {
		if errors.Is(w.err, ErrForgotten) {
			return verdict{err: w.err}
		}
		if w.err == nil && w.born && w.birth[self] == own {
			v.born, v.joins, v.birth, v.met = true, true, w.birth, maps.Clone(w.birth)
			delete(v.met, self)
			return v
		}
		if w.err == nil && w.born {
			without, v.birth = nil, nil
		}
	}
	names := slices.Sorted(maps.Keys(words))
	for _, name := range names {
		w := words[name]
		switch {
		case mayMiss(name, w, without):
		case w.err != nil:
			missing = append(missing, name+" ("+reason(w.err)+")")
		case w.born && w.known[self] != own:
			missing = append(missing, name+" (has not met this member)")
		case !w.born && !agrees(w, said, words, without):
			missing = append(missing, name+" (has not heard of the same directories)")
		default:
			v.met[name] = w.incarnation
			if v.birth != nil {
				v.birth[name] = w.incarnation
			}
		}
	}
	if v.missing = strings.Join(missing, ", "); v.missing == "" {
		v.born = true
	}
	return v
}

// agrees reports whether an unborn member has heard of everybody what this one has said, but for those
// whom nobody waits for.
func agrees(w word, said map[string]uint64, words map[string]word, without []string) bool {
	for name, incarnation := range said {
		if mayMiss(name, words[name], without) {
			continue
		}
		if w.known[name] != incarnation {
			return false
		}
	}
	return true
}

// mayMiss reports whether nobody waits for a member: somebody has said so, and it cannot be reached. One that
// refuses is there.
func mayMiss(name string, w word, without []string) bool {
	return w.err != nil && !errors.Is(w.err, transport.ErrRefused) && slices.Contains(without, name)
}

// reason is what an operator needs of an error, without what differs each time.
func reason(err error) string {
	var refused *transport.RefusedError
	switch {
	case errors.Is(err, transport.ErrUnauthorized): // which is a problem of its own, with the whole text
		return "its certificate or this member's is not accepted"
	case errors.As(err, &refused):
		return "refused: " + refused.Text
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return "unreachable: " + op.Err.Error()
	}
	return "unreachable: " + err.Error()
}

// birth is the state of a node that may not be born yet.
type birth struct {
	wake chan struct{} // size 1: a token says that something new was heard

	mu    sync.Mutex // guards everything below, and that nothing new is heard while the member is being born
	born  bool
	heard map[string]uint64 // incarnations, the own included
	last  map[string]word   // what each has said last
}

func newBirth(self string, incarnation uint64, born bool) *birth {
	return &birth{
		wake: make(chan struct{}, 1), born: born,
		heard: map[string]uint64{self: incarnation}, last: map[string]word{},
	}
}

// hear takes note of what another member says, unless this one is born already.
func (b *birth) hear(name string, w word) (unborn bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.born {
		return false
	}
	if old, ok := b.last[name]; !ok || !old.equal(w) {
		poke(b.wake)
	}
	b.last[name], b.heard[name] = w, w.incarnation
	return true
}

// says returns what is told to everybody as long as the member is unborn.
func (b *birth) says() (said map[string]uint64, unborn bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.heard), !b.born
}

// awaits reports whether this member is not born, and its obstacle says for whom it waits, and why.
func (n *Node) awaits() bool {
	if n.birth == nil {
		return false
	}
	_, unborn := n.birth.says()
	return unborn
}

// Pauses between two rounds of asking, and how long nothing is said of what is missing: members are not
// started at the same moment.
const (
	minBirthPause = 10 * time.Millisecond
	maxBirthPause = time.Second
	birthPatience = time.Second
)

// awaitBirth asks the others until this member is born, and then lets it take part.
func (n *Node) awaitBirth(ctx context.Context) {
	began, told, pause := time.Now(), "", minBirthPause
	for ctx.Err() == nil {
		said, _ := n.birth.says()
		v := judgeBirth(n.cfg.Name, said, n.ask(ctx), n.cfg.FormWithout)
		switch {
		case ctx.Err() != nil:
			return
		case v.err != nil:
			n.log.Fail(v.err)
			return
		case v.born:
			done, err := n.bear(said, v)
			if done {
				if told != "" {
					n.log.Post(unborn{})
				}
				return
			}
			if err == nil {
				continue // something else was heard meanwhile
			}
			told = err.Error()
			n.log.Post(unborn{fmt.Errorf("baton: keep the birth: %w", err)}) // and try again
			v.missing = told
		}
		if v.missing != told && time.Since(began) > birthPatience {
			told = v.missing
			n.log.Post(unborn{fmt.Errorf("%w: waiting for %s", ErrUnborn, v.missing)})
		}
		t := time.NewTimer(pause)
		select {
		case <-n.birth.wake:
			pause = minBirthPause
		case <-t.C:
			pause = min(2*pause, maxBirthPause)
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// ask asks all other members once.
func (n *Node) ask(ctx context.Context) map[string]word {
	words := make(map[string]word)
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, m := range n.cfg.Members {
		if m.Name == n.cfg.Name {
			continue
		}
		asked.Go(func() {
			h, err := n.net.Probe(ctx, transport.Peer{Name: m.Name, Addr: m.Addr})
			w := wordOf(h)
			if h.Joining {
				w.err = errors.New("it waits to be added to a cluster")
			}
			if err != nil {
				var refused *transport.RefusedError
				if errors.As(err, &refused) {
					err = refusal(m.Name, refused)
				}
				w = word{err: err}
			}
			mu.Lock()
			defer mu.Unlock()
			words[m.Name] = w
		})
	}
	asked.Wait()
	return words
}

// bear makes the birth durable and lets the log take part, unless something else was heard than what the
// others were told.
func (n *Node) bear(said map[string]uint64, v verdict) (done bool, err error) {
	n.birth.mu.Lock()
	defer n.birth.mu.Unlock()
	if !v.joins && !maps.Equal(said, n.birth.heard) {
		return false, nil
	}
	if err := n.disk.Bear(v.birth, v.met); err != nil && !errors.Is(err, storage.ErrClosed) {
		return false, err
	}
	n.birth.born = true
	n.log.Post(log.Born{})
	n.cfg.Logger.Info("born", "member", n.cfg.Name, "with", slices.Sorted(maps.Keys(v.met)))
	return true, nil
}
