package session

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

const (
	// Version is the version of the protocol that this package speaks. It talks to all down to MinVersion.
	Version = 5
	// MinVersion is the oldest version that this package still speaks.
	MinVersion = 3

	// MaxHello bounds the body of a hello.
	MaxHello   = 64 << 10
	maxMembers = 4096
	maxList    = 128 // a member that is being replaced is listed twice
)

// Purpose says what a connection is for.
type Purpose byte

// The purposes of a connection; see the package comment.
const (
	PurposeControl  Purpose = 1
	PurposeBulk     Purpose = 2
	PurposeSnapshot Purpose = 3
	PurposeProbe    Purpose = 4 // the handshake and nothing else
	PurposeStream   Purpose = 5 // see [Mux]; since version 4
)

func (p Purpose) String() string {
	switch p {
	case PurposeControl:
		return "control"
	case PurposeBulk:
		return "bulk"
	case PurposeSnapshot:
		return "snapshot"
	case PurposeProbe:
		return "probe"
	case PurposeStream:
		return "stream"
	}
	return fmt.Sprintf("purpose(%d)", byte(p))
}

// Hello is what one side says of itself in the handshake. Fields unknown to the reader are skipped.
type Hello struct {
	Version     uint16   `codec:"v"` // set by the transport
	Cluster     string   `codec:"c"`
	ClusterID   []byte   `codec:"ci"` // empty until known; compared when both know one
	Name        string   `codec:"n"`  // set by the transport
	ID          uint64   `codec:"id"` // set by the transport
	Incarnation uint64   `codec:"in"` // passed on to Admit
	Instance    uint64   `codec:"is"` // set by the transport: random for each Listen, tells a process from its successor
	Members     []string `codec:"m"`  // sorted names of the initial voters; compared when both have some
	Purpose     Purpose  `codec:"p"`  // set by the transport
	To          string   `codec:"to"` // set by the transport: the member the dialler wants to talk to
	Role        Role     `codec:"r"`  // set by the transport: what it wants to be; 0 is RoleMember
	Extra       []byte   `codec:"x"`  // passed on to Admit

	Born  bool              `codec:"b"`  // it takes part in its cluster; false: it is new and waits for its birth
	Birth map[string]uint64 `codec:"bi"` // incarnations of those who were born together with it, its own included
	Known map[string]uint64 `codec:"k"`  // incarnations of the members, its own included, as far as it has met them

	Joining bool   `codec:"j,omitempty"`  // it waits to be added to a cluster that is there
	Heal    bool   `codec:"h,omitempty"`  // and may take the place of the member of its name without anybody asking for it
	Roster  uint64 `codec:"ro,omitempty"` // version of the list of the members that it has, 0 for none
	List    []Peer `codec:"l,omitempty"`  // that list: where to find whom
}

// toStrangers is what is told to those who are no members: where they are, and nothing about the others.
func (h Hello) toStrangers() Hello {
	return Hello{Version: h.Version, Cluster: h.Cluster, ClusterID: h.ClusterID, Name: h.Name, ID: h.ID, Instance: h.Instance, Purpose: h.Purpose, Role: h.Role, Born: h.Born}
}

// msgpackHandle is read only after initialisation, so it is shared.
var msgpackHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MaxInitLen = 64
	h.MaxDepth = 8
	return h
}()

func EncodeHello(h Hello) ([]byte, error) {
	var b []byte
	if err := codec.NewEncoderBytes(&b, msgpackHandle).Encode(h); err != nil {
		return nil, fmt.Errorf("encode hello: %w", err)
	}
	if len(b) > MaxHello {
		return nil, fmt.Errorf("encode hello: %d bytes, the limit is %d", len(b), MaxHello)
	}
	return b, nil
}

func DecodeHello(b []byte) (Hello, error) {
	var h Hello
	if len(b) > MaxHello {
		return h, fmt.Errorf("decode hello: %d bytes, the limit is %d", len(b), MaxHello)
	}
	d := codec.NewDecoderBytes(b, msgpackHandle)
	if err := d.Decode(&h); err != nil {
		return Hello{}, fmt.Errorf("decode hello: %w", err)
	}
	if n := d.NumBytesRead(); n != len(b) {
		return Hello{}, fmt.Errorf("decode hello: %d bytes follow it", len(b)-n)
	}
	if h.Name == "" || len(h.Name) > maxName || len(h.To) > maxName || len(h.Members) > maxMembers || len(h.Birth) > maxMembers || len(h.Known) > maxMembers ||
		len(h.List) > maxList || slices.ContainsFunc(h.List, func(p Peer) bool { return len(p.Name) > maxName || len(p.Addr) > maxName }) {
		return Hello{}, errors.New("decode hello: a name or a list of members is out of bounds")
	}
	return h, nil
}

// judgeStranger makes those where one side is no member.
func judgeStranger(own, other Hello, want string, no func(Code, string, ...any) *RefusedError) *RefusedError {
	if !own.Role.member() && !other.Role.member() {
		return no(CodeProtocol, "%q is a %v, and no member", other.Name, other.Role)
	}
	if want != "" && other.Name != want {
		return no(CodeWrongMember, "%q dialled the address of %q, and %q answers there", own.Name, want, other.Name)
	}
	if other.To != "" && other.To != own.Name {
		return no(CodeWrongMember, "%q dialled the address of %q, and %q answers there", other.Name, other.To, own.Name)
	}
	return nil
}

// judge makes the built-in checks of what the other side said. Both sides make them, so that both can say what is wrong.
// want is the name that was dialled, empty on the listening side. The text is read by both sides and names both.
func judge(own, other Hello, want string) *RefusedError {
	no := refuser(other)
	if other.Version < MinVersion {
		return no(CodeVersion, "%q speaks version %d, %q needs at least %d", other.Name, other.Version, own.Name, MinVersion)
	}
	if other.Cluster != own.Cluster {
		return no(CodeWrongCluster, "%q is of cluster %q, %q of cluster %q", other.Name, other.Cluster, own.Name, own.Cluster)
	}
	if len(own.ClusterID) > 0 && len(other.ClusterID) > 0 && !bytes.Equal(own.ClusterID, other.ClusterID) {
		return no(CodeClusterID, "both clusters are named %q, but %q has cluster id %x, %q has %x",
			own.Cluster, other.Name, other.ClusterID, own.Name, own.ClusterID)
	}
	if other.Instance == own.Instance {
		return no(CodeSelf, "the address of %q leads back to %q itself", cmp.Or(want, other.To), own.Name)
	}
	if !own.Role.member() || !other.Role.member() {
		return judgeStranger(own, other, want, no)
	}
	if other.Name == own.Name {
		return no(CodeDuplicate, "two processes are named %q", own.Name)
	}
	if want != "" && other.Name != want {
		return no(CodeWrongMember, "%q dialled the address of %q, and %q answers there", own.Name, want, other.Name)
	}
	if want == "" && other.To != own.Name {
		return no(CodeWrongMember, "%q dialled the address of %q, and %q answers there", other.Name, other.To, own.Name)
	}
	return nil
}

// judgePeer makes those that ask who the peers are. Who waits to be added is nobody's peer yet, and nobody is its: so it may be asked who it
// is, and may ask, and nothing else.
func judgePeer(own, other Hello, known func(name string) (Peer, bool)) *RefusedError {
	if own.Purpose == PurposeProbe && (own.Joining || other.Joining) {
		return nil
	}
	no := refuser(other)
	p, ok := known(other.Name)
	if !ok {
		return no(CodeUnknownMember, "%q knows no member named %q", own.Name, other.Name)
	}
	if p.ID != other.ID && p.ID != 0 {
		return no(CodeIDMismatch, "%q knows %q with id %x, it says id %x", own.Name, other.Name, p.ID, other.ID)
	}
	if len(own.Members) > 0 && len(other.Members) > 0 && !slices.Equal(own.Members, other.Members) {
		return no(CodeMemberList, "%q was given the members %q, %q was given %q", own.Name, own.Members, other.Name, other.Members)
	}
	return nil
}

// refuser makes our refusals of the other side.
func refuser(other Hello) func(c Code, format string, args ...any) *RefusedError {
	return func(c Code, format string, args ...any) *RefusedError {
		return &RefusedError{Peer: other.Name, Role: other.Role, Code: c, Text: fmt.Sprintf(format, args...), Local: true}
	}
}
