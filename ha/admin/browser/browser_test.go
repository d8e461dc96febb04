package browser

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/baton-ha/baton/ha/admin"
)

var needed = flag.Bool("browser.needed", false, "fail, instead of skipping, where there is no chromium")

// patience bounds every wait; it is only ever used up by a failure.
const patience = 60 * time.Second

// chrome is the one browser of all tests, a tab for each.
var chrome struct {
	once sync.Once
	ctx  context.Context
	end  func()
	err  error
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if chrome.end != nil {
		chrome.end()
	}
	os.Exit(code)
}

func startChrome() {
	path, err := exec.LookPath("chromium")
	if err != nil {
		chrome.err = err
		return
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience))
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, end := chromedp.NewContext(alloc)
	chrome.ctx, chrome.end = ctx, func() { end(); endAlloc() }
	chrome.err = chromedp.Do(ctx)
}

// A tab is a page in the browser. What its console says is wrong fails the test.
type tab struct {
	t    *testing.T
	ctx  context.Context
	stop func()

	mayFail atomic.Bool // its requests; what they say on the console is none of the page's faults
}

// newTab opens a tab of a size, light or dark.
func newTab(t *testing.T, width, height int64, dark bool) *tab {
	t.Helper()
	chrome.once.Do(startChrome)
	switch {
	case chrome.err != nil && *needed:
		t.Fatal(chrome.err)
	case chrome.err != nil:
		t.Skip(chrome.err)
	}
	ctx, cancel := chromedp.NewContext(chrome.ctx)
	b := &tab{t: t, ctx: ctx}
	if err := chromedp.Do(b.ctx); err != nil { // opens it, for as long as ctx lasts
		t.Fatal(err)
	}
	b.ctx, b.stop = context.WithTimeout(ctx, 3*patience)
	messages := chromedp.Console(ctx)
	var reader sync.WaitGroup
	reader.Go(func() {
		for m, err := range messages { // also what the content security policy has refused
			if err == nil && !(b.mayFail.Load() && m.Source == "network") {
				t.Errorf("the browser's console: %v", m)
			}
		}
	})
	t.Cleanup(func() { b.stop(); cancel(); reader.Wait() })
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 500})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	return b
}

// call runs one command of the protocol.
func call[P, R any](b *tab, cmd cdp.Command[P, R], params P) R {
	b.t.Helper()
	r, err := chromedp.Call(b.ctx, cmd, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// eval returns the value of an expression.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js))
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// until waits until an expression is true. It may fail meanwhile, as while another page is being loaded.
func (b *tab) until(what, js string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+js+")"))
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("not within %v: %s (%v)\n%s", patience, what, err, eval[string](b, "document.body.innerText"))
		}
	}
}

// live waits until the page is being kept up to date.
func (b *tab) live() {
	b.t.Helper()
	b.until("the page is live", `document.getElementById("live")?.dataset.state === "live"`)
}

// shot writes what is seen, of the whole page or of the window.
func (b *tab) shot(file string, whole bool) {
	b.t.Helper()
	r := call(b, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &whole})
	if err := os.WriteFile(file, r.Data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// serve serves a member's page at a place of a mux, and returns its address.
func serve(t *testing.T, n admin.Node, cfg admin.Config) string {
	t.Helper()
	h := admin.New(n, cfg)
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", h))
	return serveHandler(t, h, mux) + "/ops/"
}

func serveHandler(t *testing.T, h *admin.Handler, outer http.Handler) string {
	srv := httptest.NewServer(outer)
	t.Cleanup(func() {
		h.Close()
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// A gate ends and refuses requests while it is shut.
type gate struct {
	mu    sync.Mutex // guards what follows
	ctx   context.Context
	close context.CancelFunc
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.close()
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ctx, g.close = context.WithCancel(context.Background())
}

func serveGated(t *testing.T, n admin.Node) (url string, g *gate) {
	h := admin.New(n, admin.Config{})
	g = new(gate)
	g.open()
	return serveHandler(t, h, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		open := g.ctx
		g.mu.Unlock()
		if open.Err() != nil {
			http.Error(w, "shut", http.StatusBadGateway)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(open, cancel)()
		h.ServeHTTP(w, r.WithContext(ctx))
	})), g
}
