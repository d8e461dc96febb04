package httpfence

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"

	"github.com/baton-ha/baton/fence"
)

// Header is the field that carries the token.
const Header = "Fencing-Token"

// A Transport is an [http.RoundTripper] that adds a token to each request. Make one for each role that
// OnActive is given. It says nothing about the answers: use [Check]. Safe for concurrent use.
type Transport struct {
	// Token is what each request carries. A request that already has one keeps its own.
	Token fence.Token
	// Base does the work. Nil means [http.DefaultTransport].
	Base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper]. The error is Base's, or wraps [fence.ErrInvalid] if Token is
// not valid.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if len(r.Header.Values(Header)) > 0 {
		return base.RoundTrip(r)
	}
	if err := fence.Check(t.Token, fence.Token{}); err != nil {
		if r.Body != nil {
			r.Body.Close() // as RoundTripper asks for
		}
		return nil, err
	}
	r = r.Clone(r.Context()) // a RoundTripper must not change its request
	r.Header.Set(Header, t.Token.String())
	return base.RoundTrip(r)
}

// Problem is the body of a refusal, "application/problem+json" of RFC 9457.
type Problem struct {
	Type   string `json:"type"` // [TypeStale], [TypeForeign], or "about:blank"
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	Token   fence.Token `json:"token,omitzero"`    // what came
	Known   fence.Token `json:"known,omitzero"`    // of TypeStale: what the server knows
	Cluster string      `json:"cluster,omitempty"` // of TypeForeign: whose the server is
}

// The types of problems that a [Handler] answers a 412 with.
const (
	TypeStale   = "https://pkg.go.dev/github.com/baton-ha/baton/fence#StaleError"
	TypeForeign = "https://pkg.go.dev/github.com/baton-ha/baton/fence#ForeignError"
)

const (
	problemType  = "application/problem+json"
	problemBytes = 4096 // at most this much of a problem is read
)

// Check returns the *[fence.StaleError] or *[fence.ForeignError] that a response tells, and nil for every
// other response. It reads the body only when it returns an error, and does not close it.
func Check(r *http.Response) error {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if r.StatusCode != http.StatusPreconditionFailed || err != nil || media != problemType || r.Header.Get(Header) == "" {
		return nil
	}
	var p Problem
	err = json.NewDecoder(io.LimitReader(r.Body, problemBytes)).Decode(&p)
	if err == nil && p.Type == TypeForeign {
		return &fence.ForeignError{Token: p.Token, Cluster: p.Cluster}
	}
	if err != nil || !p.Known.Valid() { // the field says that it is a fence's answer, the body was cut off
		p.Known, _ = fence.Parse(r.Header.Get(Header))
	}
	return &fence.StaleError{Token: p.Token, Known: p.Known}
}
