package activehttp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/tenure"
)

// Via is the field that names the members that have carried a request, in order.
const Via = "Baton-Via"

// maxVia is how many members may carry a request: one that does not know yet who is Active, and one that did not either.
const maxVia = 2

// A Handler serves requests on the Active. Its fields must not be changed once it is used. Safe for concurrent use.
type Handler struct {
	// Node is this process's member. Required.
	Node *ha.Node
	// Next is the service. Required.
	Next http.Handler

	// Anywhere says which requests this member serves whether it is Active or not: reads that may be stale, health checks. Such a
	// request has no token. It is called for each request. Nil: none.
	Anywhere func(r *http.Request) bool

	// Carry carries requests to the Active and the answers back, instead of sending the client there. The client needs to reach
	// only one member then, and each request goes through two.
	Carry bool
	// Transport does that. Nil: a clone of http.DefaultTransport without a proxy.
	Transport http.RoundTripper

	// Wait is how long a request waits for an Active when there is none, as in a failover. 0: it does not.
	Wait time.Duration
	// RetryAfter is what a client is told to wait before it tries again, in whole seconds, at least 1. 0: 1 s.
	RetryAfter time.Duration

	// Logger gets, at level warn, what is wrong between the members, such as an Active that does not say where it is reached.
	// Nil: slog.Default().
	Logger *slog.Logger

	carrier carrier
}

type tokenKey struct{}

// Token returns the token of the role in which a request is served. It is the zero Token for one that is served anywhere.
func Token(ctx context.Context) fence.Token {
	t, _ := ctx.Value(tokenKey{}).(fence.Token)
	return t
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.Anywhere != nil && h.Anywhere(r) {
		h.Next.ServeHTTP(w, with(r, r.Context(), ""))
		return
	}
	role, token, err := tenure.Await(r.Context(), h.Node, h.Wait)
	if err == nil {
		h.serve(w, r, role, token)
	} else if active := tenure.Elsewhere(h.Node, err); active != nil {
		h.pass(w, r, active)
	} else if errors.Is(err, ha.ErrNotActive) {
		h.unavailable(w, "no member is active")
	} else {
		h.unavailable(w, err.Error())
	}
}

// serve serves a request here, in the role of a token.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, role context.Context, token fence.Token) {
	ctx, cancel := tenure.Within(context.WithValue(r.Context(), tokenKey{}, token), role)
	defer cancel()
	w.Header().Set(httpfence.Header, token.String())
	h.Next.ServeHTTP(w, with(r, ctx, token.String()))
}

// with returns a request with another ctx and this token, whatever it has come with.
func with(r *http.Request, ctx context.Context, token string) *http.Request {
	r = r.WithContext(ctx)
	r.Header = maps.Clone(r.Header)
	r.Header.Del(httpfence.Header)
	if token != "" {
		r.Header.Set(httpfence.Header, token)
	}
	return r
}

// pass sends or carries a request to the Active.
func (h *Handler) pass(w http.ResponseWriter, r *http.Request, to *ha.NotActiveError) {
	target, err := target(to.Advertise)
	if err != nil {
		h.logger().Warn("the active does not say where its service is reached", "active", to.Active, "advertise", to.Advertise, "err", err)
		h.unavailable(w, fmt.Sprintf("%s is active, and does not say where it is reached", to.Active))
		return
	}
	via := r.Header.Values(Via)
	if len(via) >= maxVia {
		h.unavailable(w, "the members do not agree yet who is active: carried by "+strings.Join(via, ", "))
		return
	}
	if h.Carry {
		h.carry(w, r, target)
		return
	}
	// Not 308: that may be remembered, and the next Active is another.
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", strings.TrimSuffix(target.String(), "/")+r.URL.RequestURI())
	w.WriteHeader(http.StatusTemporaryRedirect)
}

// target is where requests for a member go.
func target(advertise string) (*url.URL, error) {
	if advertise == "" {
		return nil, errors.New("it is empty")
	}
	if !strings.Contains(advertise, "://") {
		advertise = "http://" + advertise
	}
	u, err := url.Parse(advertise)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("it is not the URL of an HTTP service")
	}
	return u, nil
}

// unavailable says that the client should try again later, since nothing has happened.
func (h *Handler) unavailable(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int((h.RetryAfter+time.Second-1)/time.Second))))
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, why, http.StatusServiceUnavailable)
}

func (h *Handler) logger() *slog.Logger {
	if h.Logger == nil {
		return slog.Default()
	}
	return h.Logger
}
