package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/wire"
)

// This file keeps in touch with the cluster: it listens to one member, whichever it is, and to another one when that has ended or
// knows no more than we do.

const (
	minPause = 10 * time.Millisecond
	maxPause = time.Second

	// touchPatience is how long a member is listened to that does not get on itself.
	touchPatience = time.Second
	// askNext is how long a member has to answer before the next one is asked, too: one that is stopped takes connections and says nothing.
	askNext = 250 * time.Millisecond
)

// A backoff is a growing pause, a different one for each client.
type backoff struct{ last time.Duration }

// wait waits, and says whether ctx has not ended.
func (b *backoff) wait(ctx context.Context) bool {
	b.last = min(max(2*b.last, minPause), maxPause)
	t := time.NewTimer(b.last/2 + rand.N(b.last/2))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// places returns where members may be, in the order in which they are to be tried: in any, but with spare the Active after the
// other members, since it has most to do; and last those addresses that were configured and are no member's.
func (c *Client) places(spare bool) []place {
	now := c.Cluster()
	var all []place
	for _, m := range now.Members {
		all = append(all, place{m.Addr, m.Name})
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if i := slices.IndexFunc(all, func(p place) bool { return p.name == now.Active }); spare && i >= 0 {
		active := all[i]
		all = append(slices.Delete(all, i, i+1), active)
	}
	seeds := len(all)
	for _, a := range c.cfg.Addrs {
		if !slices.ContainsFunc(all, func(p place) bool { return p.addr == a }) {
			all = append(all, place{addr: a})
		}
	}
	rand.Shuffle(len(all)-seeds, func(i, j int) { all[seeds+i], all[seeds+j] = all[seeds+j], all[seeds+i] })
	return all
}

// together is places for who reads much: first comes one that is not Active and with which there is a session already, unless it was just left. So the tails of a client are
// at one member, which reads and encodes once what they all want, and only that one rests from the appends while it does; those of other clients are at another.
func (c *Client) together(left place) []place {
	all, active := c.places(true), c.Cluster().Active
	i := slices.IndexFunc(all, func(p place) bool { return p.name != "" && p.name != active && p != left && c.sessions.alive(p.addr) })
	if i > 0 {
		at := all[i]
		all = slices.Insert(slices.Delete(all, i, i+1), 0, at)
	}
	return all
}

// follow listens to one member after the other until ctx ends.
func (c *Client) follow(ctx context.Context) {
	for pause := (backoff{}); ; {
		all := c.places(true) // what an Active does not say any more, another member does
		heard, refusals, last := c.round(ctx, all)
		if heard {
			pause = backoff{}
		}
		if refusals == len(all) {
			c.giveUp(last)
		}
		if ctx.Err() != nil || last != errRather && !pause.wait(ctx) {
			return
		}
	}
}

// An utterance is what has come of listening to one member: it is of use, or says nothing more.
type utterance struct {
	from  int
	over  bool
	heard bool // something, before it was over
	err   error
}

// round listens to one member after the other, to each as long as it is of use, until none is left. While none is, the next one is asked
// after a moment, too. heard is whether any has said anything, and refusals how many never will; last is why the last one that was listened
// to is not any more, or errRather, with which the round ends.
func (c *Client) round(ctx context.Context, all []place) (heard bool, refusals int, last error) {
	var asked sync.WaitGroup
	defer asked.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make(chan utterance, 2*len(all)) // two of each
	stop := make([]context.CancelFunc, 0, len(all))
	ask := func() {
		i := len(stop)
		ctx, cancel := context.WithCancel(ctx)
		stop = append(stop, cancel)
		asked.Go(func() {
			defer cancel()
			heard, err := c.listen(ctx, all[i], i == 0, func() { said <- utterance{from: i} })
			said <- utterance{i, true, heard, err}
		})
	}
	next := time.NewTimer(0)
	defer next.Stop()
	for open, speaker := 0, -1; len(stop) < len(all) || open > 0; {
		select {
		case <-next.C:
			if speaker < 0 && len(stop) < len(all) {
				ask()
				open++
				next.Reset(askNext)
			}
		case u := <-said:
			switch {
			case !u.over && speaker < 0:
				speaker = u.from
				for i, stop := range stop {
					if i != speaker {
						stop()
					}
				}
				continue
			case !u.over:
				continue
			}
			if open--; speaker >= 0 && u.from != speaker || ctx.Err() != nil {
				continue // we have ended it
			}
			speaker, last = -1, u.err
			c.cfg.Logger.Debug("a member is not listened to any more", "cluster", c.cfg.Cluster, "at", all[u.from].String(), "err", u.err)
			if heard = heard || u.heard; u.err == errRather {
				return heard, refusals, last
			}
			if !u.heard {
				if c.fail(all[u.from], u.err); forGood(u.err) {
					refusals++
				}
			}
			next.Reset(0)
		case <-ctx.Done():
			return heard, refusals, last
		}
	}
	return heard, refusals, last
}

var (
	errSilent = errors.New("it has said nothing in time")
	errRather = errors.New("it is the Active, and another member will do")
)

// listen takes what one member says of the cluster until it says nothing more, or nothing that is of use. heard is whether it has said anything, and
// speaks is called once what it says is of use. A member that becomes the Active, which is the one that is missed most when it falls silent, is left if another one will
// do; leave: also one that is when it is asked.
func (c *Client) listen(ctx context.Context, at place, leave bool, speaks func()) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(4*c.cfg.DialTimeout+touchPatience, func() { cancel(errSilent) })
	defer late.Stop()
	st, err := c.sessions.open(ctx, at, wire.KindCluster)
	if err != nil {
		return false, err
	}
	defer st.Close()
	for waits := true; ; {
		b, err := st.Recv(wire.MaxCluster)
		if err != nil {
			return heard, err
		}
		said, err := wire.DecodeCluster(b)
		if err != nil {
			return heard, err
		}
		useful := c.learn(said)
		if useful && speaks != nil {
			speaks()
			speaks = nil
		}
		leave = leave || said.Active != said.From
		if leave && said.Active == said.From && slices.ContainsFunc(said.Members, func(m wire.Member) bool { return m.Name != said.From && m.Liveness == "Alive" }) {
			return true, errRather
		}
		switch {
		case useful:
			late.Stop()
			heard, waits = true, false
		case !waits || !heard:
			late.Reset(touchPatience)
			heard, waits = true, true
		}
	}
}

// learn takes what a member has said, and reports whether it gets on itself, as far as we know.
func (c *Client) learn(said wire.Cluster) (useful bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.now
	next.InTouch = said.InTouch
	if said.Epoch >= next.Epoch {
		next.Epoch, next.Active = said.Epoch, said.Active
	}
	if said.Version >= c.version {
		c.version, next.Members = said.Version, nil
		addrs := map[string]bool{}
		for _, a := range c.cfg.Addrs {
			addrs[a] = true
		}
		for _, m := range said.Members {
			next.Members = append(next.Members, Member(m))
			addrs[m.Addr] = true
		}
		c.sessions.keep(addrs)
	}
	useful = said.InTouch && said.Epoch >= c.now.Epoch
	if news := !c.known || !next.equal(c.now); news || len(c.failed) > 0 {
		c.known, c.now, c.refused = true, next, nil
		clear(c.failed)
		if news {
			c.tellLocked()
		}
	}
	return useful
}

// tellLocked wakes who waits for a change.
func (c *Client) tellLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// fail notes why a member cannot be reached.
func (c *Client) fail(at place, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[at.String()] = err
}

// giveUp notes that every member has refused us for good.
func (c *Client) giveUp(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = err
	c.tellLocked()
}
