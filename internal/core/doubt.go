package core

import (
	"time"

	"go.etcd.io/raft/v3"
)

// The lease's clock counts the time in which the machine sleeps, but not always that in which a virtual machine
// was paused or moved to another host: to the guest that time may never have been (kvm-clock), until somebody sets
// its clock on the wall, as guest agents and time daemons do. So where the clock on the wall gets ahead of the
// lease's clock, time may have passed that the lease does not know of, and a lease that would have ended in it is
// in doubt. Whoever only has a badly set clock loses a role once, and opens a new epoch.

// Doubt says that up to so much more time may have passed than the lease's clock says.
type Doubt struct{ By time.Duration }

// Asks reports whether this member asks for promises on which a lease rests, or may: what its clock misses then is to be said.
func (c *Core) Asks() bool { return c.state == raft.StateLeader && c.lease.stamps() }

// doubt has what was promised up to now end earlier by what the lease's clock may have missed. A lease that may be over by that is given up.
func (c *Core) doubt(now time.Duration, by time.Duration) {
	if !c.Asks() {
		return
	}
	if until := c.lease.until; until != 0 && now+by >= until {
		c.change(Doubted{By: by})
		c.lease.giveUp()
	} else {
		c.lease.shorten(by)
	}
	c.renew(now)
}
