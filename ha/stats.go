package ha

import (
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
	"github.com/baton-ha/baton/transport"
)

// Stats is what a member has done since Open, part by part: its roles, calls, the log, its disk and its connections. It is a plain value.
type Stats struct {
	Roles   RoleStats
	Calls   CallStats
	Log     log.Stats
	Storage storage.Stats
	Net     transport.Stats
}

// Stats returns what the member has done so far, also after it was closed. It takes some tens of microseconds, waits for no
// disk and no other member, and may be called by any goroutine at any time. Two of them, subtracted, are what was done in between.
func (n *Node) Stats() Stats {
	return Stats{Roles: n.roles.stats(), Calls: n.callStats(), Log: n.log.Stats(), Storage: n.disk.Stats(), Net: n.net.Stats()}
}
