// Package log is one replicated, fenced log: a raft group, and what makes it a journal that only one
// writer at a time can append to. The ha package builds the roles on it; programs use ha.
//
// # Parts
//
// The package core decides; its [core.Core] is a pure state machine. A [Log] is its driver: the loop that owns the core, a
// writer, a fetcher and an applier, the batches that gather while the one before is under way ([Log.Append]), and the
// [Store], which is what the member holds of the log. An [Observer] is stepped on the same loop with whatever changes, so
// that log and role are one machine with one mailbox.
//
// The disk is a [Storage] and the network a [Transport]; the packages storage and transport implement
// them, and the simulator does in memory.
//
// # Records and entries
//
// A record has an index of its own, 1, 2, 3 … without holes. A raft entry holds a batch of records, the
// start of an epoch, a change of the members, or nothing. A batch counts if the epoch that it carries is the one in force where it
// is applied; every member, and every reader of old entries, decides so by the same rule.
//
// # Guarantees
//
// The package holds up G1 (durable), G2 (fenced), G3 (definite), G5 (caught up), G6 (dense tail), G8
// (bounded) and G9 (monotonic), and gives the lease on which ha rests G4 (exclusive). They are stated in
// the module's root package.
//
// A Log's methods may be called by any goroutine.
package log
