// Package ha makes a Go program highly available: of the processes that [Open] a [Node] of the same
// cluster, one is Active, which another one becomes when it fails, and the others are Standbys that follow its log.
// That no two are Active at a time has conditions, which are below.
//
//	node, err := ha.Open(ha.Config{
//		Name: "a", Dir: "/var/lib/jobs", Cluster: "jobs",
//		Members: []ha.Member{{Name: "a", Addr: "10.0.0.1:7000"}, {Name: "b", Addr: "10.0.0.2:7000"}, {Name: "c", Addr: "10.0.0.3:7000"}},
//		StateMachine: machine,
//		OnActive:     func(ctx context.Context, t fence.Token) error { … },
//	})
//
// [Config.OnActive] is called on the member that becomes Active, with a context that ends with the role
// and with a [fence.Token], whose epoch is higher than that of every Active before. With the token
// [Node.Append] appends to the replicated log; [Node.Subscribe] reads it on every member; a StateMachine is
// built from it on every member. [Node.Become] changes roles on purpose, and [Node.Close] leaves in order.
//
// # Guarantees, in short
//
// An appended record is on stable storage of a majority (G1). No record of an epoch follows the start of a
// later one (G2). Append says what happened, or that it does not know (G3). The context of one OnActive has
// ended, by its own clock, before the next member's OnActive starts, if the rates of the clocks differ by
// no more than [Config.MaxClockDrift] (G4), and before that every older record has been applied (G5).
//
// # What is not guaranteed
//
// A process that is stopped, or a virtual machine that is paused, cannot see its context end: it may go on
// believing that it is Active until it looks. The context is advice. The token is proof, wherever it is
// compared: by Append, by [Node.Check], and by whatever outside the cluster remembers the highest one it has
// seen. Nothing outside that does not compare tokens is protected against a late write.
//
// # Concurrency
//
// All methods may be called by any goroutine at any time. Callbacks run one at a time on each member, on
// goroutines of their own, and can delay nothing but their own member's next role.
package ha
