package transport

import (
	"context"
	"crypto/tls"
	"net/url"

	"github.com/baton-ha/baton/internal/session"
)

// What a session is made of, from the layer below.
type (
	// SessionConfig is what a member needs to shake hands.
	SessionConfig = session.Config
	// Peer is one member of the cluster.
	Peer = session.Peer
	// Hello is what one side says of itself in the handshake.
	Hello = session.Hello
	// Purpose says what a connection is for.
	Purpose = session.Purpose
	// Role is what a session may do.
	Role = session.Role
	// Claim is what the other side of a session wants to be, and what it has shown for it.
	Claim = session.Claim
	// RefusedError says that one side of a handshake would not talk to the other. It is returned by [Probe], and given to
	// Config.Refused and, for a snapshot, to [Handler.SnapshotSent].
	RefusedError = session.RefusedError
	// Code is the reason of a refusal as it is on the wire.
	Code = session.Code
)

// The purposes of a connection; see the package comment.
const (
	PurposeControl  = session.PurposeControl
	PurposeBulk     = session.PurposeBulk
	PurposeSnapshot = session.PurposeSnapshot
	PurposeProbe    = session.PurposeProbe
	PurposeStream   = session.PurposeStream
)

// The roles of a session.
const (
	RoleMember   = session.RoleMember
	RoleClient   = session.RoleClient
	RoleOperator = session.RoleOperator
)

// Version is the version of the protocol that this package speaks. It talks to all down to MinVersion.
const (
	Version    = session.Version
	MinVersion = session.MinVersion
)

// The reasons of refusals. Each has a sentinel error of the same name for errors.Is.
const (
	CodeProtocol      = session.CodeProtocol
	CodeVersion       = session.CodeVersion
	CodeWrongCluster  = session.CodeWrongCluster
	CodeClusterID     = session.CodeClusterID
	CodeSelf          = session.CodeSelf
	CodeDuplicate     = session.CodeDuplicate
	CodeWrongMember   = session.CodeWrongMember
	CodeUnknownMember = session.CodeUnknownMember
	CodeIDMismatch    = session.CodeIDMismatch
	CodeMemberList    = session.CodeMemberList
	CodeNotAdmitted   = session.CodeNotAdmitted
	CodeNotNow        = session.CodeNotNow
	CodeUnauthorized  = session.CodeUnauthorized
	CodeBusy          = session.CodeBusy
	CodeRemoved       = session.CodeRemoved
)

// Sentinels that a *RefusedError matches with errors.Is, by its code.
var (
	ErrRefused       = session.ErrRefused
	ErrProtocol      = session.ErrProtocol
	ErrVersion       = session.ErrVersion
	ErrWrongCluster  = session.ErrWrongCluster
	ErrClusterID     = session.ErrClusterID
	ErrSelf          = session.ErrSelf
	ErrDuplicate     = session.ErrDuplicate
	ErrWrongMember   = session.ErrWrongMember
	ErrUnknownMember = session.ErrUnknownMember
	ErrIDMismatch    = session.ErrIDMismatch
	ErrMemberList    = session.ErrMemberList
	ErrNotAdmitted   = session.ErrNotAdmitted
	ErrNotNow        = session.ErrNotNow
	ErrBusy          = session.ErrBusy
	ErrRemoved       = session.ErrRemoved
	ErrUnauthorized  = session.ErrUnauthorized
)

// CheckAddr reports what is wrong with a host:port, and returns it in a form in which two that are written differently
// compare equal. It resolves no names. bind says that it is listened on: then the host may be empty or unspecified, and the
// port 0, for any that is free.
func CheckAddr(addr string, bind bool) (canonical string, err error) {
	return session.CheckAddr(addr, bind)
}

// ValidateTLS reports everything for which [Listen] would refuse a TLS configuration, or nil.
func ValidateTLS(c *tls.Config) error { return session.ValidateTLS(c) }

// TLSFiles returns a function for Config.GetTLS that reads a certificate, its key and the authorities that are trusted from
// files in PEM, and reads them again when one of them has changed or was replaced.
func TLSFiles(certificate, key, authorities string) func() (*tls.Config, error) {
	return session.TLSFiles(certificate, key, authorities)
}

// RoleURI returns the URI by which a certificate says what its holder may be.
func RoleURI(role Role, cluster, name string) *url.URL { return session.RoleURI(role, cluster, name) }

// AuthorizeByCertificate is what decides where Config.Authorize is nil.
func AuthorizeByCertificate(ctx context.Context, c Claim) error {
	return session.AuthorizeByCertificate(ctx, c)
}
