// Package client is for programs that are no members of a cluster and want something from it: to know who is Active and who
// there is, to call the Active, and to read the log as it grows, from whatever member is there.
//
//	c, err := client.Dial(ctx, client.Config{Cluster: "jobs", Addrs: []string{"a:7000", "b:7000", "c:7000"}})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	for e, err := range c.Subscribe(ctx, 1) {
//		...
//	}
//
// [Dial] needs the address of one member that is up; the list of all members is learnt from it, and followed as it changes.
// Whatever a client is asked for it tries at one member after the other, with growing pauses that no two clients share (10 ms to
// 1 s), until it works or the ctx that came with the question ends: nothing here waits longer than that, and nothing gives up before,
// unless every member refuses for a reason that does not pass.
//
// A client takes part in nothing: it has no vote and no lease, and its certificate, where the cluster has TLS, may be of any
// holder (ha.AuthorizeByCertificate) but not a member's in disguise. Who is Active is what a member has said last; by the
// time that it is used it may be another. What must not be done twice is guarded by the token, not by asking.
//
// # What it relies on
//
// Records come in order, 1, 2, 3 …, without gap or duplicate, the same from every member, and only when they are committed (G6).
// A reader that stops reading costs the cluster nothing but a stream of bounded memory.
//
// A program with this package links neither raft nor a write-ahead log.
//
// # Concurrency
//
// All methods of [Client] may be called from any goroutine.
package client
