// Package wire is what members say to those who are none, and hear from them, on streams: kinds, messages and codes. It is for both
// sides, and brings along neither raft nor storage, so that the program of a client has neither.
//
//	cluster   a client opens it and says nothing; the member says at once who there is and who is Active, and again whenever
//	          that changes. A [Cluster] is one message.
//	members   an operator or a member asks for a [Change] of the list of the members; the answer is a [ChangeAnswer], and the end.
//	worker    a client says what it is, a [Worker], again and again; an empty message answers each.
//	report    anybody asks what a member says of itself: see operate.go, also for what only operators may open:
//	command   an operator wants something of this member itself
//	append    an operator appends a record
//	backup    an operator wants a backup
//	tail      a client says from which record on, a [TailRequest]; the member sends [Records] until one of both ends it.
package wire

import (
	"errors"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The kinds of streams.
const (
	KindCluster = "cluster"
	KindTail    = "tail"
	KindMembers = "members"
	KindWorker  = "worker"
)

// Codes with which a member ends a stream of these kinds. They are above session.FirstOwnCode and never used again. After
// each of them the same can be asked of another member.
const (
	CodeMalformed  = 64 // what was said is none of the messages that are expected
	CodeOutOfTouch = 65 // the member has no more records, and has known no leader for some time: others may know more
	CodeSlow       = 66 // what was being sent was not taken for a while, and was given up; it can be asked for again
	CodeLeaving    = 67 // the member is being closed
)

// ErrMalformed is wrapped by the errors of messages that are none.
var ErrMalformed = errors.New("malformed message")

// MaxCluster bounds the message of a [Cluster], in bytes.
const MaxCluster = 256 << 10

// Cluster is who there is, as one member knows it. Fields unknown to the reader are skipped.
type Cluster struct {
	From    string   `codec:"f"` // the member that says it
	Epoch   uint64   `codec:"e"` // in force as far as it knows
	Active  string   `codec:"a"` // who holds it now; empty: nobody is known
	InTouch bool     `codec:"t"` // it leads, or hears a leader
	Version uint64   `codec:"v"` // of the list of members: a greater one is newer
	Members []Member `codec:"m"`
}

// Member is one member of a [Cluster].
type Member struct {
	Name      string `codec:"n"`
	Addr      string `codec:"a"`
	Advertise string `codec:"v,omitempty"` // where its program is reached
	Kind      string `codec:"k,omitempty"` // what it is there for
	State     string `codec:"s,omitempty"` // its role, for people and for the order in which members are tried
	Liveness  string `codec:"l,omitempty"`
}

const maxMembers = 4096

// msgpack is read only after initialisation, so it is shared.
var msgpack = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MaxInitLen = 64
	h.MaxDepth = 8
	return h
}()

// Encode returns c as one message.
func (c *Cluster) Encode() ([]byte, error) {
	var b []byte
	if err := codec.NewEncoderBytes(&b, msgpack).Encode(c); err != nil {
		return nil, fmt.Errorf("encode the members: %w", err)
	}
	if len(b) > MaxCluster {
		return nil, fmt.Errorf("encode the members: %d bytes, the limit is %d", len(b), MaxCluster)
	}
	return b, nil
}

// DecodeCluster reads what Encode wrote.
func DecodeCluster(b []byte) (Cluster, error) {
	var c Cluster
	if err := codec.NewDecoderBytes(b, msgpack).Decode(&c); err != nil {
		return Cluster{}, fmt.Errorf("%w: the members: %w", ErrMalformed, err)
	}
	if len(c.Members) > maxMembers {
		return Cluster{}, fmt.Errorf("%w: %d members", ErrMalformed, len(c.Members))
	}
	return c, nil
}
