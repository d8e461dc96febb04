package session

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Code is the reason of a refusal as it is on the wire. Numbers are never reused.
type Code uint16

// The reasons of refusals. Each has a sentinel error of the same name for errors.Is.
const (
	CodeProtocol      Code = 1
	CodeVersion       Code = 2
	CodeWrongCluster  Code = 3
	CodeClusterID     Code = 4
	CodeSelf          Code = 5
	CodeDuplicate     Code = 6
	CodeWrongMember   Code = 7
	CodeUnknownMember Code = 8
	CodeIDMismatch    Code = 9
	CodeMemberList    Code = 10
	CodeNotAdmitted   Code = 11
	CodeNotNow        Code = 12
	CodeUnauthorized  Code = 13
	CodeBusy          Code = 14
	CodeRemoved       Code = 15
)

// Sentinels that a *RefusedError matches with errors.Is, by its code.
var (
	ErrRefused       = errors.New("refused")                     // every refusal, also of codes unknown here
	ErrProtocol      = errors.New("handshake is malformed")      // the hello could not be read, or asks for what there is not
	ErrVersion       = errors.New("version too old")             // one side's protocol is too old for the other
	ErrWrongCluster  = errors.New("wrong cluster")               // the cluster names differ
	ErrClusterID     = errors.New("wrong cluster id")            // same name, but another cluster
	ErrSelf          = errors.New("address leads to ourselves")  // we dialled ourselves
	ErrDuplicate     = errors.New("two processes with one name") // another process has the name, and is dialled, or connected and at the address
	ErrWrongMember   = errors.New("wrong member at the address") // another member answers than the one dialled
	ErrUnknownMember = errors.New("unknown member")              // the name is not among the peers
	ErrIDMismatch    = errors.New("wrong member id")             // the name is known with another id
	ErrMemberList    = errors.New("member lists differ")         // the initial member lists differ; the text has both
	ErrNotAdmitted   = errors.New("not admitted")                // Config.Admit said no; the text is its error
	ErrNotNow        = errors.New("not now")                     // Config.Admit could not tell: its error wraps ErrNotNow
	ErrBusy          = errors.New("busy")                        // it has as many sessions as it takes
	ErrRemoved       = errors.New("removed")                     // the cluster's members have removed this one: Config.Admit's error wraps ErrRemoved

	// ErrUnauthorized says that a certificate does not do: Config.Authorize refused what it was shown for. It is matched
	// too by the error of a TLS handshake in which one side did not accept the other's certificate at all.
	ErrUnauthorized = errors.New("not authorized")
)

var sentinels = map[Code]error{
	CodeProtocol: ErrProtocol, CodeVersion: ErrVersion, CodeWrongCluster: ErrWrongCluster, CodeClusterID: ErrClusterID,
	CodeSelf: ErrSelf, CodeDuplicate: ErrDuplicate, CodeWrongMember: ErrWrongMember, CodeUnknownMember: ErrUnknownMember,
	CodeIDMismatch: ErrIDMismatch, CodeMemberList: ErrMemberList, CodeNotAdmitted: ErrNotAdmitted,
	CodeNotNow: ErrNotNow, CodeUnauthorized: ErrUnauthorized, CodeBusy: ErrBusy, CodeRemoved: ErrRemoved,
}

func (c Code) String() string {
	if err, ok := sentinels[c]; ok {
		return err.Error()
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// RefusedError says that one side of a handshake would not talk to the other. It is returned by [Probe], and given to
// Config.Refused and, for a snapshot, to [Handler.SnapshotSent].
type RefusedError struct {
	Peer  string // name of the other side: the one dialled, or the one it says; empty if it has said none
	Role  Role   // of the other side, as it says; 0 is a member's
	Addr  string // its address
	Code  Code
	Text  string // says what is wrong, for people; from the refusing side
	Local bool   // we refused the peer; false: the peer refused us
}

func (e *RefusedError) Error() string {
	who := fmt.Sprintf("%v %q", cmp.Or(e.Role, RoleMember), e.Peer)
	if e.Peer == "" {
		who = "somebody"
	}
	if e.Local {
		return fmt.Sprintf("transport: refused %s at %s: %v: %s", who, e.Addr, e.Code, e.Text)
	}
	return fmt.Sprintf("transport: refused by %s at %s: %v: %s", who, e.Addr, e.Code, e.Text)
}

// Is matches ErrRefused and the sentinel of the code.
func (e *RefusedError) Is(target error) bool {
	return target == ErrRefused || target == sentinels[e.Code]
}

const MaxText = 8 << 10

// AppendCoded appends a body of a code and a text, as refuse and ack have it.
func AppendCoded(b []byte, code uint16, text string) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	return append(b, text[:min(len(text), MaxText)]...)
}

func DecodeCoded(body []byte) (code uint16, text string, err error) {
	if len(body) < 2 || len(body) > 2+MaxText {
		return 0, "", fmt.Errorf("%w: code and text of %d bytes", ErrFrame, len(body))
	}
	return binary.BigEndian.Uint16(body), strings.ToValidUTF8(string(body[2:]), "?"), nil
}
