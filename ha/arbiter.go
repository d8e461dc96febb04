package ha

import (
	"fmt"
	"slices"

	"github.com/baton-ha/baton/log"
)

// This file is about arbiters: voters that keep the log without understanding it, so that two members with the state of the program
// survive the loss of either. What an arbiter does in the log is in package log; here it is kept from the role.

// arbiter reports whether this process is one, which only its configuration can say: it has no StateMachine.
func (c Config) arbiter() bool {
	return slices.ContainsFunc(c.Members, func(m Member) bool { return m.Name == c.Name && m.Kind == KindArbiter })
}

// checkKinds reports what is wrong with what the members are there for.
func (c Config) checkKinds(wrong func(format string, args ...any)) {
	able := c.Join || len(c.Members) == 0
	for i, m := range c.Members {
		able = able || m.Kind == KindVoter
		if m.Kind != KindVoter && m.Kind != KindArbiter && !c.Join {
			wrong("Members[%d].Kind: the members of a new cluster are voters and arbiters; add %v %q to it", i, m.Kind, m.Name)
		}
	}
	if !able {
		wrong("Members: are arbiters alone, and none of them would ever be active")
	}
	if c.arbiter() && (c.StateMachine != nil || c.OnActive != nil) {
		wrong("StateMachine, OnActive: %q is an arbiter, and has neither", c.Name)
	}
}

// checkKind tells when the list says of this member that it is an arbiter, and its process is none, or the other way.
func (n *Node) checkKind(r *roster) {
	var err error
	if m, ok := r.Find(n.self.ID); ok && r.Version > 1 && (wanted(m) == KindArbiter) != n.cfg.arbiter() {
		err = fmt.Errorf("the list of the members has this one as %v, and it was started as %v: start it as what it is to be, or remove it and add it again",
			wanted(m), n.cfg.kind())
	}
	n.problem("", problemKind, err)
}

// kind is what this process was started as.
func (c Config) kind() Kind {
	if c.arbiter() {
		return KindArbiter
	}
	return log.KindVoter
}
