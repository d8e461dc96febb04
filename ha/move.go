package ha

import (
	"context"
	"time"

	"github.com/baton-ha/baton/internal/wire"
)

// move has the list name where this member is reached, if it was started with another address than the list has: so a member moves by
// being started elsewhere. It knows what the list is once it has caught up, and then leaves it to ChangeAddr; who is looked for at
// another place does not catch up, so it does not wait for that with what it knows already.
func (n *Node) move(ctx context.Context) {
	for {
		changed := *n.changed.Load()
		addr, listed := n.listedAt()
		if addr != "" && !sameAddr(addr, n.self.Addr) {
			err := n.change(ctx, wire.Change{Op: wire.OpAddr, Name: n.cfg.Name, Addr: n.self.Addr})
			n.problem("", problemMoved, err)
			if err == nil || ctx.Err() != nil {
				return
			} // what is refused now may be allowed later
		} else if s := n.Status(); listed && s.Leader != "" && s.Lag.Records == 0 {
			return
		}
		pause := time.NewTimer(n.cfg.ElectionTimeout)
		select {
		case <-changed:
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		pause.Stop()
	}
}

// listedAt returns where this member is by the latest list that it knows of, its own or, as long as it has not caught up, another member's.
func (n *Node) listedAt() (addr string, listed bool) {
	r := n.roster()
	e := &n.elsewhere
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.version > r.Version {
		for _, p := range e.list {
			if p.ID == n.self.ID {
				return p.Addr, true
			}
		}
	}
	m, listed := r.Find(n.self.ID)
	return m.Addr, listed
}
