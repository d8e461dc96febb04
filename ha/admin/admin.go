package admin

import (
	"context"
	"embed"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/calls"
	"github.com/baton-ha/baton/internal/lines"
)

// A Node is what a handler shows and changes: an *[ha.Node], whose methods say what these do. It may grow.
type Node interface {
	Cluster() string
	Status() ha.Status
	Members() []ha.MemberStatus
	Workers() []ha.WorkerStatus
	Epochs() []ha.Epoch
	EventsOf(ctx context.Context, member string, follow bool) iter.Seq2[ha.Event, error]
	Stats() ha.Stats
	Watch(ctx context.Context) iter.Seq[ha.Status]

	BecomeOf(ctx context.Context, member string, s ha.State) error
	StayAwayOf(ctx context.Context, member, reason string) error
	ComeBackOf(ctx context.Context, member string) error
	AddMember(ctx context.Context, m ha.Member) error
	RemoveMember(ctx context.Context, name string) error
	ReplaceMember(ctx context.Context, name string) error
	Promote(ctx context.Context, name string) error
	Demote(ctx context.Context, name string) error
	SetPriority(ctx context.Context, name string, priority int) error
}

var _ Node = (*ha.Node)(nil)

// Config says what a [Handler] does besides showing. The zero value changes nothing and is safe.
type Config struct {
	// Authorize decides who may change something. It is asked for each such request, and nil lets it through; the text of an
	// error is told to whoever asked, with status 403. [FromLoopback] is one. Nil: nobody may, and the page offers nothing. Who may, may
	// command the other members, too, that have [ha.Config.ObeyMembers].
	Authorize func(r *http.Request) error
	// Metrics is served at /metrics: promhttp's handler of the registry in which ha/metrics is. Nil: there is no such path.
	Metrics http.Handler
	// PageOf is where another member's page is, an http or https URL or a path; "" if there is none. Nil: there are none. It must not block; one that panics has no page.
	PageOf func(m ha.MemberStatus) string
	// MaxStreams bounds how many pages are kept up to date at a time; one more gets status 503 and is as good as without JavaScript. 0: 64.
	MaxStreams int
	// Logger gets a line for each change that somebody has asked for, from a goroutine of its own: one that is slow delays
	// nothing, and loses lines. Nil: slog.Default().
	Logger *slog.Logger
}

// Bounds of what is served.
const (
	defaultStreams = 64
	maxForm        = 16 << 10         // bytes of a request that changes something
	actTime        = 30 * time.Second // that a change is waited for
)

//go:embed assets
var assets embed.FS

// A Handler serves a member's page. It is made by [New] and ended by Close.
type Handler struct {
	node   Node
	cfg    Config
	log    *slog.Logger // of lines
	lines  *lines.Queue // between us and the program's logger
	mux    *http.ServeMux
	guard  *http.CrossOriginProtection
	past   history
	told   chronicle
	live   hub
	calls  calls.Set   // of PageOf
	failed atomic.Bool // PageOf has, which was said
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New returns a handler for a member. It looks at the member every two seconds until Close, or until the node is closed, which takes
// about a tenth of a millisecond, so that the page has the last ten minutes to show.
func New(n Node, cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	queue := lines.New(cfg.Logger.Handler())
	h := &Handler{node: n, cfg: cfg, log: queue.Logger(), lines: queue, mux: http.NewServeMux(), guard: http.NewCrossOriginProtection(), cancel: cancel}
	h.live.init(ctx, cfg.MaxStreams)
	for pattern, f := range h.routes() {
		h.mux.HandleFunc(pattern, f)
	}
	h.past.take(n, time.Now())
	h.work.Go(func() { h.look(ctx) })
	h.work.Go(func() { h.follow(ctx) })
	return h
}

// Close ends the pages that are being kept up to date, and waits for the handler's goroutines. What the handler is asked
// afterwards it answers as before, but for those. It is idempotent.
func (h *Handler) Close() {
	h.cancel()
	h.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), lastLines)
	defer cancel()
	h.lines.Flush(ctx)
}

// lastLines is how long Close waits for the program's logger to take the last lines.
const lastLines = time.Second

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hd := w.Header()
	hd.Set("Content-Security-Policy", policy)
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("X-Frame-Options", "DENY")
	hd.Set("Referrer-Policy", "same-origin")
	hd.Set("Cross-Origin-Resource-Policy", "same-origin")
	hd.Set("Cross-Origin-Opener-Policy", "same-origin")
	hd.Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(w, r)
}

// policy lets a page have what comes from here, and nothing else; no script or style in the page itself, and no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// routes returns what there is, by pattern of the mux.
func (h *Handler) routes() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{
		"GET /{$}": h.servePage, "GET /timeline": h.serveTimeline, "GET /stream": h.serveStream, "GET /status": h.serveStatus, "GET /events": h.serveEvents,
	}
	for path, judge := range checks {
		all["GET /"+path] = h.check(judge)
		all["OPTIONS /"+path] = h.check(judge) // HAProxy asks so
	}
	for path, a := range actions {
		all["POST /"+path] = h.act(path, a)
	}
	if h.cfg.Metrics != nil {
		all["GET /metrics"] = h.cfg.Metrics.ServeHTTP
	}
	for _, name := range []string{"style.css", "script.js", "icon.svg"} {
		all["GET /"+name] = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, assets, "assets/"+name)
		}
	}
	return all
}

// look keeps the history, and the pages up to date that are looked at.
func (h *Handler) look(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	for ticks := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-h.live.nudged:
			pause.Reset(leastPause)
			continue
		case <-pause.C:
		case now := <-tick.C:
			if ticks++; ticks%int(sampleEvery/time.Second) == 0 {
				h.past.take(h.node, now)
			}
		}
		h.told.tend(ctx, h.node, &h.work)
		if h.live.wanted() {
			h.live.publish(h.parts())
		}
	}
}

// follow has the pages look again as soon as the member is something else, and ends with the node.
func (h *Handler) follow(ctx context.Context) {
	for range h.node.Watch(ctx) {
		h.live.nudge()
	}
	h.cancel() // the node is closed
}

// FromLoopback is a [Config.Authorize] for a machine of one's own: it lets those through who come from this machine and ask for it by a
// loopback address or as "localhost", which another site's page cannot make a browser do. A request that came through a proxy is
// refused, as far as the proxy says so; do not use it behind one.
func FromLoopback(r *http.Request) error {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return errLoopback
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return errLoopback
		}
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host == "localhost" {
		return nil
	}
	if to, err := netip.ParseAddr(trimBrackets(host)); err != nil || !to.Unmap().IsLoopback() {
		return errLoopback
	}
	return nil
}

var errLoopback = errors.New("changes are taken from this machine only, under a loopback address")

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
