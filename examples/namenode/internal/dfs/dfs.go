// Package dfs is what NameNodes, DataNodes and clients of the file system have in common: blocks and files, what a client
// asks the Active, how bytes go to DataNodes and come from them, and the client itself.
package dfs

import (
	"fmt"
	"hash/crc32"
	"time"
)

// A Block is a piece of a file. Its bytes are at DataNodes, everything else is in the namespace.
type Block struct {
	ID uint64 `json:"id"`
	// Gen is its generation stamp. It grows whenever a replica is left behind, because its DataNode has failed or because the writer
	// was given up: a replica of an older generation may lack bytes, and a writer of one is late.
	Gen uint64 `json:"gen"`
	Len int64  `json:"len"`
	Sum uint32 `json:"sum"` // CRC-32C of its bytes
}

// Sum adds bytes to a block's checksum, which begins at 0.
func Sum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Node is a DataNode.
type Node struct {
	Name string `json:"name"`
	Addr string `json:"addr"` // host:port
}

// A Located is a block and where it is.
type Located struct {
	Block
	Nodes []Node `json:"nodes"`
}

// A File is what the namespace knows of one. While it is being written its last block is not among Blocks.
type File struct {
	Path        string    `json:"path"`
	Replication int       `json:"replication"`
	Blocks      []Located `json:"blocks,omitempty"`
	Open        bool      `json:"open,omitempty"` // being written, or its writer is being given up
}

// Len is its length in bytes.
func (f *File) Len() (n int64) {
	for _, b := range f.Blocks {
		n += b.Len
	}
	return n
}

// An Op says what a request asks for.
type Op string

// The edits. They are records of the log, and the namespace answers them, on every NameNode.
const (
	Create     Op = "create"     // Path, Holder, Replication: begin a file
	Add        Op = "add"        // Path, Holder, Block: the last block is this; begin another, which is answered
	Generation Op = "generation" // Path, Holder: a new generation stamp for the last block, which is answered
	Pipeline   Op = "pipeline"   // Path, Holder, Block, Nodes: the last block goes on in this generation, at these DataNodes
	Abandon    Op = "abandon"    // Path, Holder: the last block has no byte; drop it
	Complete   Op = "complete"   // Path, Holder, Block: the last block is this, and the file is complete
	Rename     Op = "rename"     // Path, To: of a file, or of all below a path
	Remove     Op = "remove"     // Path: a file, or all below a path
	Recover    Op = "recover"    // Path, Holder: the file is taken from the writer that held it. From clients it is no edit, but asks for one
)

// What is no edit.
const (
	List  Op = "list"  // Path, To: the files at or below Path that come after To
	Renew Op = "renew" // Holder: this writer lives
)

// A Request is what a client asks the Active. One that is an edit goes into the log as it is.
type Request struct {
	Op          Op       `json:"op"`
	Path        string   `json:"path,omitempty"`
	To          string   `json:"to,omitempty"`
	Holder      string   `json:"holder,omitempty"` // the writer: whoever holds the file's lease
	Replication int      `json:"replication,omitempty"`
	Block       *Block   `json:"block,omitempty"`
	Nodes       []string `json:"nodes,omitempty"` // names; of Add, to the log: those that the Active has chosen
	Avoid       []string `json:"avoid,omitempty"` // of Add: names of those that have failed
}

// An Answer is that to a Request.
type Answer struct {
	Refused string   `json:"refused,omitempty"` // why, with Code; then there is nothing else
	Code    Code     `json:"code,omitempty"`
	Block   *Located `json:"block,omitempty"`
	// Lease, of Create, is how long a writer may keep silent.
	Lease time.Duration `json:"lease,omitempty"`
	// Recovery, of Recover, is the generation that the last block shall have.
	Recovery uint64 `json:"recovery,omitempty"`
	Files    []File `json:"files,omitempty"` // of List
	More     bool   `json:"more,omitempty"`  // there are files after the last one
}

// A Code is what a refusal is about.
type Code uint32

const (
	BadRequest Code = iota + 1
	NotFound
	Exists
	NotHolder   // somebody else writes the file, or nobody does any more
	Unavailable // no DataNode to write to, at present
)

func (c Code) String() string {
	switch c {
	case BadRequest:
		return "bad request"
	case NotFound:
		return "no such file"
	case Exists:
		return "the file exists"
	case NotHolder:
		return "the writer does not hold the file"
	case Unavailable:
		return "no DataNode is there"
	}
	return fmt.Sprintf("code %d", uint32(c))
}
