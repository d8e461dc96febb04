// Package core is one member's replicated, fenced log as a pure state machine: Step(now, events) → [Effects]. It has no
// goroutine, no clock, no input or output of its own and no randomness but its seed; a test reads its source for that.
//
// A [Core] wraps raft's RawNode with asynchronous storage writes and adds elections on the clock, the promises of voters
// that make a lease (promise.go, lease.go), epochs, fencing when an entry is applied (position.go), and the fate of every
// proposal (propose.go). It reads the log that the member holds through a [Source] and asks, by its effects, for what is to
// be written, sent, fetched and applied. An [Observer] is stepped with whatever changes, so that log and role are one
// machine with one mailbox ([Drive]).
//
// The log package is its driver, the simulator another.
package core
