package httpfence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/baton-ha/baton/fence"
)

// lastWords is how long a handler whose token was superseded may still write its answer to a client that
// does not read it. The newer token waits for that.
const lastWords = time.Second

// A Handler is middleware that passes on only requests of the newest token. Safe for concurrent use.
type Handler struct {
	// Guard decides. It may stand before several Handlers that share a resource.
	Guard *fence.Guard
	// Next serves what is let through. The context of its request has the token ([TokenOf]), and ends
	// with a *fence.StaleError as the cause when a newer token comes. It should return then. If it has not
	// begun an answer by that time, the answer is 412: so a Next that did its work must have written one, if
	// only the status.
	Next http.Handler
	// Reads lets GET, HEAD and OPTIONS requests pass that carry no token. With one they are guarded like
	// others.
	Reads bool
}

type tokenKey struct{}

// TokenOf returns the token of a request that a [Handler] has let through, the zero Token if it came
// without one.
func TokenOf(ctx context.Context) fence.Token {
	t, _ := ctx.Value(tokenKey{}).(fence.Token)
	return t
}

// ServeHTTP implements [http.Handler]. It answers itself with 428 if there is no token, with 400 if it
// is none, with 412 if it is stale or of another cluster, and with 503 if the Guard's Store fails.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fields := r.Header.Values(Header)
	if len(fields) == 0 && h.Reads && safe(r.Method) {
		h.Next.ServeHTTP(w, r)
		return
	}
	if len(fields) == 0 {
		answer(w, Problem{Status: http.StatusPreconditionRequired, Detail: "the request needs a " + Header})
		return
	}
	token, err := fence.Parse(fields[0])
	if err != nil || len(fields) > 1 {
		answer(w, Problem{Status: http.StatusBadRequest, Detail: "the request needs one valid " + Header})
		return
	}
	began := false
	err = h.Guard.Do(r.Context(), token, func(ctx context.Context) error {
		began = true
		return h.serve(w, r, context.WithValue(ctx, tokenKey{}, token))
	})
	if err == nil {
		return
	}
	p := problemOf(token, err)
	if !began {
		w.Header().Set("Connection", "close") // the body is not read: the client should not go on sending it
	}
	answer(w, p)
}

// serve calls Next. The error is not nil if the token was superseded before Next had begun an answer.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, ctx context.Context) error {
	control := http.NewResponseController(w)
	out := &writer{ResponseWriter: w}
	body := &body{ReadCloser: r.Body, ctx: ctx}
	// A read or a write that waits for the client does not see the context: the deadline of the
	// connection ends it. Not every ResponseWriter has one; there the newer token waits longer.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		if stale(ctx) != nil {
			_ = control.SetReadDeadline(time.Unix(1, 0))
			_ = control.SetWriteDeadline(time.Now().Add(lastWords))
		}
	})
	defer func() {
		if !stop() {
			<-interrupted // so that it does not hit the connection's next request
			_ = control.SetWriteDeadline(time.Time{})
		}
	}()
	r = r.WithContext(ctx)
	if r.Body != nil {
		r.Body = body
	}
	h.Next.ServeHTTP(out, r)
	if err := stale(ctx); err != nil && !out.began() {
		return err
	}
	return nil
}

// stale returns the *fence.StaleError that ended ctx, nil if none has.
func stale(ctx context.Context) error {
	var e *fence.StaleError
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &e) {
		return e
	}
	return nil
}

// A body breaks off when its token is superseded.
type body struct {
	io.ReadCloser
	ctx context.Context
}

func (b *body) Read(p []byte) (int, error) {
	if err := stale(b.ctx); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		if s := stale(b.ctx); s != nil {
			err = s
		}
	}
	return n, err
}

// A writer remembers whether an answer has begun.
type writer struct {
	http.ResponseWriter
	mu      sync.Mutex // guards written: handlers may write from other goroutines
	written bool
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher], which handlers ask for without a ResponseController.
func (w *writer) Flush() {
	w.begin()
	_ = http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *writer) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written = true
}

func (w *writer) began() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

func problemOf(token fence.Token, err error) Problem {
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	switch p := (Problem{Status: http.StatusPreconditionFailed, Token: token, Detail: err.Error()}); {
	case errors.As(err, &stale):
		p.Type, p.Title, p.Known = TypeStale, "The fencing token is stale", stale.Known
		return p
	case errors.As(err, &foreign):
		p.Type, p.Title, p.Cluster = TypeForeign, "The fencing token is of another cluster", foreign.Cluster
		return p
	}
	return Problem{Status: http.StatusServiceUnavailable, Detail: "the fence cannot answer"}
}

// answer writes a problem. The token that the server knows is in the field, too.
func answer(w http.ResponseWriter, p Problem) {
	if p.Type == "" {
		p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	}
	head := w.Header()
	for _, field := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified"} {
		head.Del(field) // of the answer that Next had in mind
	}
	head.Set("Content-Type", problemType)
	head.Set("Cache-Control", "no-store")
	if p.Type == TypeStale {
		head.Set(Header, p.Known.String())
	} else if p.Type == TypeForeign {
		head.Set(Header, p.Token.String())
	}
	w.WriteHeader(p.Status)
	b, err := json.Marshal(p)
	if err != nil {
		b = fmt.Appendf(nil, `{"status":%d}`, p.Status)
	}
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}
