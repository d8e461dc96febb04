package session

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Kinds of failed handshakes with somebody who has not said who he is. They are few, as they are the keys under which it is
// counted how often each happens.
const (
	causeTLS       = "tls"       // we have no TLS, he has
	causePlain     = "plain"     // we have TLS, he does not
	causeHTTP      = "http"      // an HTTP request
	causeBytes     = "bytes"     // anything else that is not ours
	causeCert      = "cert"      // we do not accept his certificate
	causeOwnCert   = "own cert"  // he does not accept ours
	CauseEnded     = "ended"     // he hung up in the middle
	CauseSilent    = "silent"    // he says nothing
	CauseElsewhere = "elsewhere" // anything else
)

// CauseError is a failed handshake in words: what is at the other end, and what either side is to do about it. The text has
// nothing that is different each time, such as ports and the time of day, so that the same failure has the same text.
type CauseError struct {
	Kind string
	text string
	err  error
}

func (e *CauseError) Error() string { return e.text }
func (e *CauseError) Unwrap() error { return e.err }

// Is matches ErrUnauthorized where a certificate is the cause.
func (e *CauseError) Is(target error) bool {
	return target == ErrUnauthorized && (e.Kind == causeCert || e.Kind == causeOwnCert)
}

// strangerError says how somebody began who does not speak our protocol.
type strangerError struct{ begin []byte }

func (e *strangerError) Error() string {
	return fmt.Sprintf("not a baton member: begins with %q", e.begin)
}
func (e *strangerError) Is(target error) bool { return target == ErrStranger }

// Explain says what a handshake has failed of. dialled tells the dialler's side from the listener's, ours whether we have TLS.
func Explain(err error, dialled, ours bool) error {
	cause := func(kind, format string, args ...any) error {
		return &CauseError{Kind: kind, text: fmt.Sprintf(format, args...), err: err}
	}
	var stranger *strangerError
	var header tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	var authority x509.UnknownAuthorityError
	var verify *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &stranger) && (stranger.begin[0] == 22 || stranger.begin[0] == 21):
		return cause(causeTLS, "it speaks TLS, and this member has none: set Config.TLS on both sides or on neither")
	case errors.As(err, &stranger) && looksLikeHTTP(stranger.begin):
		return cause(causeHTTP, "it speaks HTTP: a health check, a proxy or a browser was given this port, which is for members only")
	case errors.As(err, &stranger):
		return cause(causeBytes, "%v", stranger)
	case errors.As(err, &header) && header.RecordHeader[0] == openingMagic[0]:
		return cause(causePlain, "it has no TLS, and this member has: set Config.TLS on both sides or on neither")
	case errors.As(err, &header) && looksLikeHTTP(header.RecordHeader[:]):
		return cause(causeHTTP, "it speaks HTTP without TLS: a health check, a proxy or a browser was given this port, which is for members only")
	case errors.As(err, &header):
		return cause(causeBytes, "it does not speak TLS, and this member does: it begins with %q", header.RecordHeader[:])
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return cause(causeCert, "its certificate %s is valid from %s to %s only, which is not now by the clock of this host",
			certName(invalid.Cert), invalid.Cert.NotBefore.UTC().Format(dateTime), invalid.Cert.NotAfter.UTC().Format(dateTime))
	case errors.As(err, &authority):
		return cause(causeCert, "its certificate %s is of an authority that this member does not know: each side must have the other's in RootCAs", certName(authority.Cert))
	case errors.As(err, &verify):
		return cause(causeCert, "its certificate is not accepted: %v", verify.Err)
	case errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate"):
		return cause(causeOwnCert, "it does not accept this member's certificate, and its own log says why: %v", op.Err)
	case errors.As(err, &op) && op.Op == "remote error":
		return cause(CauseElsewhere, "it does not accept this member's way of TLS: %v", op.Err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return cause(CauseSilent, "it takes connections, and says nothing in time")
	case dialled && ours && HungUp(err):
		return cause(CauseEnded, "it ends the connection in the TLS handshake: it may have no TLS (Config.TLS must be set on both sides or on neither), or just stop")
	case dialled && HungUp(err):
		return cause(CauseEnded, "it ends the connection before it has said who it is: it may want TLS (Config.TLS must be set on both sides or on neither), or just stop")
	}
	return cause(CauseElsewhere, "%s", StableText(err))
}

const dateTime = "2006-01-02 15:04:05 MST"

func certName(c *x509.Certificate) string {
	if c == nil {
		return "(none)"
	}
	return fmt.Sprintf("(%s, serial %v)", c.Subject, c.SerialNumber)
}

func looksLikeHTTP(b []byte) bool {
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "OPTIONS ", "CONNECT ", "DELETE ", "PRI "} {
		n := min(len(method), len(b))
		if n >= 3 && string(b[:n]) == method[:n] {
			return true
		}
	}
	return false
}

// StableText is an error's text without the addresses of a connection, whose ports are different each time.
func StableText(err error) string {
	var op *net.OpError
	var cause *CauseError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &cause):
		return cause.text
	case errors.As(err, &op) && op.Op != "dial":
		return op.Op + ": " + op.Err.Error()
	}
	return err.Error()
}

// HungUp says whether err is the other side's end of the connection, and not ours, a timeout, or a damaged frame.
func HungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// RefusalText is the text of a refusal without its address, which is another one for each connection that comes in.
func RefusalText(r *RefusedError) string {
	return strings.Join([]string{r.Code.String(), r.Text}, ": ")
}
