package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/lines"
	"github.com/baton-ha/baton/storage"
	"github.com/baton-ha/baton/transport"
)

// This file decides with which directory a member begins, and what becomes of one that is damaged.

// A beginning is with what a member begins.
type beginning struct {
	id    storage.Identity
	fresh bool // the directory is still to be made
	joins bool // and to begin with nobody, until a cluster adds the member
}

// begin looks at the directory. It writes nothing.
func (c Config) begin(joins bool) (beginning, error) {
	b := beginning{id: storage.Identity{Cluster: c.Cluster, Member: c.Name, ID: memberID(c.Name)}}
	var err error
	if b.fresh, err = storage.Empty(c.Dir); err != nil {
		return b, err
	}
	if !b.fresh {
		have, err := storage.Read(c.Dir)
		b.id.ID, b.id.Incarnation = have.ID, have.Incarnation
		return b, err
	}
	b.id.Incarnation = random64()
	if b.joins = joins; joins {
		b.id.ID = memberIDOf(c.Name, b.id.Incarnation)
	}
	return b, nil
}

// How often the others are asked for a place to come back to, and the pause in between.
const (
	healTries = 5
	healPause = 200 * time.Millisecond
)

// curable reports whether the member may come back with another directory, since this one is damaged, or is not there any more.
func curable(err error) bool {
	return errors.As(err, new(*storage.CorruptError)) || errors.Is(err, ErrForgotten)
}

// heal starts a member anew that could not start with its directory because of why: one that waits to take the place of what it was. It does so only if
// there is a cluster in which it has a place, and whatever is in the directory is kept.
func heal(cfg Config, queue *lines.Queue, why error) (*Node, error) {
	n := newNode(cfg, queue)
	tc := n.transportConfig(beginning{id: storage.Identity{ID: memberIDOf(cfg.Name, random64())}, fresh: true, joins: true})
	for try := 1; ; try++ {
		answers, _ := probe(tc)
		if slices.ContainsFunc(answers, func(h transport.Hello) bool {
			return h.Born && !h.Joining && slices.ContainsFunc(h.List, func(p transport.Peer) bool { return p.Name == cfg.Name })
		}) {
			break
		}
		if try == healTries {
			return nil, fmt.Errorf("%w; it is not healed: of the members that list %q none answers", why, cfg.Name)
		}
		time.Sleep(healPause)
	}
	if empty, err := storage.Empty(cfg.Dir); err != nil || !empty {
		path, err := storage.SetAside(cfg.Dir, time.Now())
		if err != nil {
			return nil, errors.Join(why, fmt.Errorf("baton: heal: %w", err))
		}
		cfg.Logger.Warn("the damaged directory was set aside, and is kept", "member", cfg.Name, "path", path, "err", why)
	}
	cfg.Logger.Warn("this member waits to take the place of what it was", "member", cfg.Name, "err", why)
	return open(cfg, queue, true)
}

// unreadable stops a member that may come back, with Config.Heal, when old records cannot be read: no start would find that.
func (n *Node) unreadable(err error) {
	if n.cfg.Heal && errors.As(err, new(*storage.CorruptError)) {
		n.log.Fail(err)
	}
}

// condemn sees to it, with Config.Heal, that this member does not start again with a directory that was found to be of no use while it ran.
func (n *Node) condemn() {
	<-n.ended
	err := n.Status().Err
	_, unborn := n.birth.says()
	if !errors.As(err, new(*storage.CorruptError)) && !(unborn && errors.Is(err, ErrForgotten)) {
		return
	}
	if err := n.disk.Condemn(err); err != nil {
		n.cfg.Logger.Error("the damaged directory will be used again", "member", n.cfg.Name, "err", err)
	}
}

// probe asks the other members, before a fresh member writes its first byte, who they are and whether they would have it. It returns the
// answers, and the refusals. Members that are not reached are not waited for: they refuse it later, if they have to. Who takes the connection is there,
// and gets more time to say who it is, as it may be busy.
func probe(tc transport.Config) (answers []transport.Hello, refusals error) {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout+probePatience)
	defer cancel()
	tc.DialTimeout, tc.HandshakeTimeout = min(tc.DialTimeout, probeTimeout), probePatience
	tc.Refused = nil
	tc.Admit = nil
	tc.Problem = nil
	var mu sync.Mutex
	var errs []error
	var asked sync.WaitGroup
	for _, p := range tc.Peers {
		asked.Go(func() {
			p.ID = 0 // it may have another than it had at first
			h, err := transport.Probe(ctx, tc, p)
			mu.Lock()
			defer mu.Unlock()
			var refused *transport.RefusedError
			switch {
			case err == nil:
				answers = append(answers, h)
			case errors.As(err, &refused) && !(refused.Local && errors.Is(err, transport.ErrUnauthorized)): // that is an impostor, who says nothing of us
				errs = append(errs, refusal(p.Name, refused))
			}
		})
	}
	asked.Wait()
	return answers, errors.Join(errs...)
}
