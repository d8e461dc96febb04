package dfs

import "github.com/baton-ha/baton/fence"

// This file is what DataNodes tell every NameNode, and what the Active tells them to do.
//
//	POST /report     to a NameNode: a Report; 204, or 409: send all
//	POST /delete     to a DataNode: a Delete, answered by a Deleted
//	POST /copy       to a DataNode: a Copy
//	POST /prepare    to a DataNode: a Prepare, answered by a Prepared
//	POST /settle     to a DataNode: a Settle, answered by the Block
//
// The last four are commands: they carry the Active's token, and a DataNode obeys only the newest.

// A Replica is a block at a DataNode.
type Replica struct {
	Block
	Complete bool `json:"complete"` // otherwise Len and Sum mean nothing
	Gone     bool `json:"gone,omitempty"`
}

// A Report is what has changed at a DataNode since the report before it. The changes of one run of a DataNode are numbered.
type Report struct {
	Node string `json:"node"`
	Boot uint64 `json:"boot"` // another one with each start
	All  bool   `json:"all"`  // the replicas are all there are
	From uint64 `json:"from"` // if not All: the last change of the report before
	To   uint64 `json:"to"`   // the last change in this one
	// Obeys is the newest token of which a command was carried out since the start. All that was done for older ones is in this report
	// or in one before, and nothing will be done for them any more.
	Obeys    fence.Token `json:"obeys,omitzero"`
	Replicas []Replica   `json:"replicas"`
}

// A Delete tells a DataNode to drop replicas, of a generation or an older one. Without any it asks for obedience.
type Delete struct {
	// Number is one more with each command of a token: one that comes after a later one is refused, so that the Active, which
	// did not get an answer, knows by the answer to the next command that this one will not be carried out any more.
	Number uint64  `json:"number"`
	Blocks []Block `json:"blocks"`
}

// Deleted says that the replicas are gone. Change is the last one that this has made: who knows it knows that they are gone.
type Deleted struct {
	Boot   uint64 `json:"boot"`
	Change uint64 `json:"change"`
}

// A Copy tells a DataNode to fetch a replica from another one.
type Copy struct {
	Block Block  `json:"block"`
	From  string `json:"from"` // host:port
}

// A Prepare begins to settle a block whose writer was given up: from then on no writer can go on with it in a generation before Recovery.
type Prepare struct {
	Block    Block  `json:"block"` // replicas of an older generation do not count
	Recovery uint64 `json:"recovery"`
}

// Prepared says how much a DataNode has of the block.
type Prepared struct {
	There bool  `json:"there"`
	Len   int64 `json:"len"`
}

// A Settle completes a replica that was prepared: it keeps Len bytes, in generation Recovery.
type Settle struct {
	ID       uint64 `json:"id"`
	Recovery uint64 `json:"recovery"`
	Len      int64  `json:"len"`
}
