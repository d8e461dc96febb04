// Package raftfsm runs the state machine of a program that was written for hashicorp/raft, a raft.FSM or raft.BatchingFSM with its
// raft.FSMSnapshot, as it is.
//
//	m := raftfsm.New(fsm, raftfsm.Config{})
//	node, err := ha.Open(ha.Config{..., StateMachine: m})
//	...
//	result, index, err := m.Append(ctx, node, token, command) // on the Active: what fsm.Apply has returned there
//	result, err = raftfsm.Call(ctx, node, command)            // on any member, or with a client.Client anywhere; takes effect once
//
// docs/migrating.md has what else changes, side by side.
//
// # What the FSM is told
//
// Of a raft.Log: Index is the record's, 1, 2, 3 … without the holes that raft's own entries leave; Term is the epoch; Type is LogCommand always; AppendedAt is
// zero, since the log keeps no times, and Extensions nil. Data is shared with the log, as it is there, and must not be written to. Its methods are called as raft calls
// them: Apply, ApplyBatch, Snapshot and Restore one at a time, Persist beside Apply, Release once after each Snapshot, at the latest with the next one (or never, for the last one before the
// process ends). A panic stops the member, and not the process. A raft.ConfigurationStore is not told who the members are: see [ha.Node.Members].
//
// A snapshot is the bytes that Persist writes and nothing else. One whose Persist fails, or whose sink is cancelled, is tried again after a pause.
//
// # Results
//
// What Apply returns is the result of [Machine.Append] on the Active, as it is. To other processes it travels as bytes, and the cluster remembers it for
// calls that are repeated, so it must be the same on every member, as the state must: no times, no addresses, and no text that names a file. [Encode] says which results have bytes by
// themselves; for others set [Config.Encode].
//
// It is a module of its own, so that hashicorp/raft does not enter everybody's go.sum.
package raftfsm
