// Package baton is documentation only. The library is in the packages below it; a program imports
// [github.com/baton-ha/baton/ha], and often [github.com/baton-ha/baton/fence].
//
// # What it is
//
// Embed baton, run three or five copies of your program, and they become one service that survives the
// loss of a minority of them. One copy is Active and does the work. The others are Standbys: they hold
// the same replicated log and the same state, and one of them takes over when the Active dies, stops,
// is cut off, or hands over. Nothing else is to be installed: the copies talk to each other over TCP
// and keep their log in their own directories.
//
// Three things come out of one raft group: an election, an epoch that serves as a fencing token, and a
// replicated log whose records are fenced by it. The model is that of the HDFS NameNode: active and
// standby, quorum journal, epochs.
//
// # Packages
//
//	ha         what programs use: Config, Open, Node, the roles. Imports the four below
//	log        the replicated log: a pure core on raft's RawNode, and the loop that drives it
//	storage    one member's disk: a WAL in etcd's format behind a durable mark, snapshot files, identity
//	transport  TCP or mutual TLS between the members, crash evidence
//	ha/client  for programs that are no members: who is Active, and the log as it grows
//	fence      Token; imports nothing of ours, so that workers and clients may use it alone
//
// # Guarantees
//
// Comments in the code, tests, and the faults that the simulator reports name them by these numbers.
//
// G1, durable. When Append has returned nil, the record is on the synced disks of a majority of the
// members and applied on this one, and stays at its index in every member's log. Condition: a majority of
// the disks survives, and disks that say "synced" have synced. A member that came back from an older copy
// of its directory counts as a disk that has not survived.
//
// G2, fenced. Behind the start of an epoch the log has no record of an earlier one. Every member checks it
// when it applies a record, by the same rule, whatever the proposer believed.
//
// G3, definite. Append returns nil; or an error that means that the record is not in the log and never
// will be; or ErrUnknown, which says that ctx ended, or the node closed or failed, before the fate was
// known. A member that lost its role answers its open appends as soon as it has seen the next epoch start;
// a caller that wants to know waits with a ctx that outlives the role. (One more ErrUnknown there is: after
// a snapshot that is more than 4,096 epochs ahead.)
//
// G4, exclusive. The ctx given to OnActive is done, on its member's own clock, before OnActive starts on
// another member. Conditions: the rates of the members' clocks differ by no more than Config.MaxClockDrift;
// the machine's clock counts the time in which the machine sleeps (Linux; elsewhere, no sleep) or is paused, which
// that of a virtual machine may not do: then the role ends as soon as its clock on the wall is set; and
// connections to and from the leader end at its own host, and not at a proxy, or
// Config.NoCrashEvidence is set. A ctx that is done is not a callback that has returned. And a process that
// is stopped (SIGSTOP, a paused virtual machine) cannot see its ctx end before it goes on: for that there
// are tokens, and Check, which reads the clock at each call.
//
// G5, caught up. OnActive starts only when this member's StateMachine has applied every record of all
// earlier epochs.
//
// G6, dense. Subscribe yields the committed records 1, 2, 3 … without gap or duplicate, the same on every
// member, across failovers, restarts and snapshots. A record that is no longer held is ErrCompacted, with
// the number of the first that is.
//
// G7, honest disk. Damage is found, not served. A torn end of bytes that were never acknowledged is cut
// off. Anything else stops the member, or does not let it start, with the file and the offset in the
// error; with Config.Heal it comes back by itself, as another directory whose member votes once it has everything.
// After a failed write or fsync nothing is acknowledged until the member is started again.
// Conditions: right after a power cut, damage that takes the last synced write, and whatever came after
// it as well, can look like a torn one (no vote is ever in such a write); and checksums have 32 bits.
//
// G8, bounded. Queues are bounded in bytes. More appends than Config.MaxPending are ErrBusy, at once. A
// peer that is dead, slow or silent delays no other, and a slow subscriber delays nobody.
//
// G9, monotonic. Epochs grow for the life of the cluster, through failovers, restarts and snapshots.
//
// G10, exactly once. A request that [ha.Node.Call] carries, on whichever member, takes effect once and has one answer, however often it is
// repeated on the way. Conditions: a handler appends with its ctx what the request shall bring about; the request's session is
// still known, else the caller is told so, and that nobody knows any more.
//
// G11, read what was written. After [ha.Node.ReadBarrier] has returned nil, on whichever member, that member's
// StateMachine has been given every record that any Append had acknowledged, or that was read behind another barrier, before the
// call. Condition: that of G4.
//
// # Not guaranteed
//
// That exactly one member is Active at every moment: there may be none, and G4 has conditions. That a
// request which was answered with ErrUnknown happened or did not. Exactly-once effects of retries
// that do not come by Call, as over HTTP: give requests an id and let the StateMachine recognise it, as examples/counter does. Progress
// without a majority. Protection from members that lie. Anything about other systems that do not check
// tokens.
//
// # Concurrency
//
// All methods of a Node may be called from any goroutine. OnActive and OnStandby run one at a time, on a
// goroutine of their own; the methods of a StateMachine on another one. None of them can block the
// member's loop.
//
// Start with [github.com/baton-ha/baton/ha.Open]. The README has a quick start, docs/ what a user and an operator need;
// DESIGN.md explains how it works inside, with formats, failure matrix and reasons.
package baton
