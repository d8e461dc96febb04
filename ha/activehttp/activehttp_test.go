package activehttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activehttp"
	"github.com/baton-ha/baton/internal/loopback"
)

const patience = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A site is three members with an HTTP service on each.
type site struct {
	t       *testing.T
	members []ha.Member
	dir     string
	nodes   map[string]*ha.Node
	servers map[string]*httptest.Server
	gates   map[string]*atomic.Pointer[activehttp.Handler]
}

func newSite(t *testing.T, next http.Handler) *site {
	s := &site{t: t, dir: t.TempDir(), nodes: map[string]*ha.Node{}, servers: map[string]*httptest.Server{}, gates: map[string]*atomic.Pointer[activehttp.Handler]{}}
	for _, name := range []string{"a", "b", "c"} {
		s.members = append(s.members, ha.Member{Name: name, Addr: loopback.Addr(t)})
	}
	for _, m := range s.members {
		gate := new(atomic.Pointer[activehttp.Handler])
		s.gates[m.Name] = gate
		s.servers[m.Name] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { gate.Load().ServeHTTP(w, r) }))
		gate.Store(&activehttp.Handler{Node: s.open(m.Name), Next: next, Logger: slog.New(slog.DiscardHandler)})
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		for _, srv := range s.servers {
			srv.CloseClientConnections()
			srv.Close()
		}
		for _, n := range s.nodes {
			n.Close()
		}
		goleak.VerifyNone(t)
	})
	return s
}

func (s *site) open(name string) *ha.Node {
	s.t.Helper()
	n, err := ha.Open(ha.Config{
		Name: name, Dir: filepath.Join(s.dir, name), Cluster: "test", Members: s.members, Advertise: s.servers[name].URL,
		Heartbeat: 25 * time.Millisecond, ElectionTimeout: 750 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.nodes[name] = n
	return n
}

// gate changes what is in front of each member.
func (s *site) gate(change func(h *activehttp.Handler)) {
	for _, g := range s.gates {
		old := g.Load()
		h := &activehttp.Handler{Node: old.Node, Next: old.Next, Logger: old.Logger}
		change(h)
		g.Store(h)
	}
}

// settled waits until all know the same Active and where its service is, and returns its name and another one's.
func (s *site) settled() (active, other string) {
	s.t.Helper()
	eventually(s.t, "all know the Active and its service", func() bool {
		active = ""
		for name, n := range s.nodes {
			st := n.Status()
			if active == "" {
				active = st.Active
			}
			if st.Active == "" || st.Active != active || st.ActiveAdvertise != s.servers[active].URL {
				return false
			}
			if name != active {
				other = name
			}
		}
		return s.nodes[active].Status().State == ha.Active
	})
	return active, other
}

// do makes one request and follows nothing.
func do(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}

// say answers with what it was asked, by whom it was carried, and under which token.
func say(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	if activehttp.Token(r.Context()).String() != r.Header.Get(httpfence.Header) && r.Header.Get(httpfence.Header) != "" {
		http.Error(w, "the token of the ctx is another than that of the header", http.StatusTeapot)
		return
	}
	fmt.Fprintf(w, "%s %s %s by %q under %s", r.Method, r.URL.RequestURI(), b, r.Header.Get(activehttp.Via), activehttp.Token(r.Context()))
}

// refused fails the test unless an answer says to come again.
func refused(t *testing.T, resp *http.Response, body, why string) {
	t.Helper()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, why) {
		t.Errorf("%v %v %q, want 503 with %q", resp.Status, resp.Header, body, why)
	}
}

func TestHandler(t *testing.T) {
	streams := make(chan error, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/say", say)
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		streams <- context.Cause(r.Context())
	})
	mux.HandleFunc("/talk", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		line, _ := rw.ReadString('\n')
		fmt.Fprintf(rw, "heard %s", line)
		rw.Flush()
	})
	s := newSite(t, mux)
	active, other := s.settled()
	here, there := s.servers[active].URL, s.servers[other].URL
	token := s.nodes[active].Status().Token.String()

	t.Run("served", func(t *testing.T) {
		resp, body := do(t, "POST", here+"/say?x=1", httpfence.Header, "forged/1/x")
		if want := "POST /say?x=1 body by \"\" under " + token; body != want || resp.Header.Get(httpfence.Header) != token {
			t.Errorf("%v %q, want %q", resp.Header, body, want)
		}
	})
	t.Run("sent", func(t *testing.T) {
		resp, _ := do(t, "POST", there+"/say?x=1")
		if resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Location") != here+"/say?x=1" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v %v", resp.Status, resp.Header)
		}
	})
	t.Run("anywhere", func(t *testing.T) {
		s.gate(func(h *activehttp.Handler) { h.Anywhere = func(r *http.Request) bool { return r.Method == "GET" } })
		if _, body := do(t, "GET", there+"/say", httpfence.Header, token); body != `GET /say body by "" under none` {
			t.Errorf("%q", body)
		}
		if resp, _ := do(t, "POST", there+"/say"); resp.StatusCode != http.StatusTemporaryRedirect {
			t.Errorf("%v", resp.Status)
		}
	})
	s.gate(func(h *activehttp.Handler) { h.Carry = true })
	t.Run("carried", func(t *testing.T) {
		resp, body := do(t, "POST", there+"/say?x=1", httpfence.Header, "forged/1/x")
		if want := fmt.Sprintf("POST /say?x=1 body by %q under %s", other, token); body != want || resp.Header.Get(httpfence.Header) != token {
			t.Errorf("%v %q, want %q", resp.Header, body, want)
		}
	})
	t.Run("in a circle", func(t *testing.T) {
		resp, body := do(t, "POST", there+"/say", activehttp.Via, "x", activehttp.Via, "y")
		refused(t, resp, body, "do not agree")
	})
	t.Run("lost", func(t *testing.T) {
		if resp, body := do(t, "POST", there+"/hang"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "not known") {
			t.Errorf("%v %q", resp.Status, body)
		}
	})
	t.Run("upgraded", func(t *testing.T) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(there, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "GET /talk HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
		r := bufio.NewReader(conn)
		if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", resp, err)
		}
		fmt.Fprintln(conn, "hello")
		if line, err := r.ReadString('\n'); line != "heard hello\n" {
			t.Errorf("%q, %v", line, err)
		}
	})
	t.Run("streamed until the role ends", func(t *testing.T) {
		resp, err := http.Get(there + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		if line, err := r.ReadString('\n'); line != "first\n" {
			t.Fatalf("%q, %v", line, err) // it has come before the end
		}
		eventually(t, "the role is handed over", func() bool {
			_ = s.nodes[active].Become(t.Context(), ha.Standby)
			_, now, err := s.nodes[active].Tenure()
			return err != nil || now.String() != token
		})
		select {
		case cause := <-streams:
			if cause == nil || cause == context.Canceled {
				t.Errorf("the request has ended by %v", cause)
			}
		case <-time.After(patience):
			t.Fatal("the request goes on after the role")
		}
	})
}

// Without an Active a request is told when to come again, or waits as long as it may; and it is told so where the Active's service is gone.
func TestHandler_NobodyThere(t *testing.T) {
	s := newSite(t, http.HandlerFunc(say))
	s.gate(func(h *activehttp.Handler) { h.Carry = true })
	active, other := s.settled()

	s.servers[active].Close()
	resp, body := do(t, "POST", s.servers[other].URL)
	refused(t, resp, body, "cannot be reached")

	for name, n := range s.nodes {
		if name != other {
			n.Close()
		}
	}
	eventually(t, "nobody is active", func() bool { return s.nodes[other].Status().Active == "" })
	s.gate(func(h *activehttp.Handler) { h.RetryAfter = 2500 * time.Millisecond })
	resp, body = do(t, "POST", s.servers[other].URL)
	refused(t, resp, body, "no member is active")
	if after := resp.Header.Get("Retry-After"); after != "3" {
		t.Errorf("Retry-After: %s", after)
	}

	s.gate(func(h *activehttp.Handler) { h.Wait, h.Carry = patience, true })
	answers := make(chan string)
	go func() {
		r, _ := http.NewRequest("POST", s.servers[other].URL, nil)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		answers <- resp.Status
	}()
	for _, m := range s.members {
		if m.Name != other && m.Name != active {
			s.gates[m.Name].Store(&activehttp.Handler{Node: s.open(m.Name), Next: http.HandlerFunc(say)})
		}
	}
	if got := <-answers; got != "200 OK" {
		t.Errorf("who has waited is told %s", got)
	}
}
