package httpfence_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/httpfence"
)

func token(epoch uint64) fence.Token { return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: "a"} }

func guard() *fence.Guard { return fence.NewGuard("jobs", new(fence.MemoryStore)) }

func client(t fence.Token) *http.Client {
	return &http.Client{Transport: &httpfence.Transport{Token: t}}
}

// put sends a body and returns the status and what Check says.
func put(c *http.Client, url string, body io.Reader) (int, error) {
	req, err := http.NewRequest(http.MethodPut, url, body)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	err = httpfence.Check(resp)
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func TestHandler(t *testing.T) {
	g := guard()
	served := 0
	h := &httpfence.Handler{Guard: g, Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served++
		fmt.Fprint(w, httpfence.TokenOf(r.Context()))
	})}
	reads := &httpfence.Handler{Guard: g, Next: h.Next, Reads: true}
	if err := g.Admit(t.Context(), token(7)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		h        http.Handler
		method   string
		tokens   []string
		status   int
		problem  string
		has      string
		servedBy int
	}{
		{h, "PUT", []string{"jobs/7/a"}, 200, "", "jobs/7/a", 1},
		{h, "PUT", nil, 428, "about:blank", "Precondition Required", 0},
		{h, "GET", nil, 428, "about:blank", "", 0},
		{reads, "GET", nil, 200, "", "none", 1},
		{reads, "GET", []string{"jobs/6/a"}, 412, httpfence.TypeStale, "", 0},
		{reads, "PUT", nil, 428, "about:blank", "", 0},
		{h, "PUT", []string{"jobs/0/a"}, 400, "about:blank", "", 0},
		{h, "PUT", []string{"jobs/7/a", "jobs/8/a"}, 400, "about:blank", "", 0},
		{h, "PUT", []string{"jobs/6/z"}, 412, httpfence.TypeStale, `"token":"jobs/6/z","known":"jobs/7/a"`, 0},
		{h, "PUT", []string{"work/9/a"}, 412, httpfence.TypeForeign, `"cluster":"jobs"`, 0},
	} {
		r := httptest.NewRequest(c.method, "/", strings.NewReader("body"))
		for _, tok := range c.tokens {
			r.Header.Add(httpfence.Header, tok)
		}
		w, before := httptest.NewRecorder(), served
		c.h.ServeHTTP(w, r)
		body := w.Body.String()
		if w.Code != c.status || !strings.Contains(body, c.has) || !strings.Contains(body, c.problem) || served-before != c.servedBy {
			t.Errorf("%s with %v: %d %s", c.method, c.tokens, w.Code, body)
		}
		if c.problem != "" && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s with %v: %v", c.method, c.tokens, w.Header())
		}
		var stale *fence.StaleError
		var foreign *fence.ForeignError
		err := httpfence.Check(w.Result())
		if errors.As(err, &stale) != (c.problem == httpfence.TypeStale) || stale != nil && stale.Known != token(7) ||
			errors.As(err, &foreign) != (c.problem == httpfence.TypeForeign) || foreign != nil && foreign.Cluster != "jobs" {
			t.Errorf("%s with %v: Check says %v", c.method, c.tokens, err)
		}
	}
}

func TestTransport(t *testing.T) {
	got := make(chan []string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Values(httpfence.Header)
		w.WriteHeader(http.StatusPreconditionFailed) // not a fence's
	}))
	defer s.Close()
	if status, err := put(client(token(7)), s.URL, nil); status != 412 || err != nil {
		t.Errorf("somebody else's 412: %d, %v", status, err)
	}
	if f := <-got; len(f) != 1 || f[0] != "jobs/7/a" {
		t.Errorf("the server got %q", f)
	}
	if _, err := put(client(fence.Token{}), s.URL, nil); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("without a token: %v", err)
	}
}

// An older token's body that is still on its way when a newer one comes breaks off, though its sender
// says nothing, and nobody reads it to its end. The connection serves the newer request.
func TestStreamingBody(t *testing.T) {
	reading := make(chan struct{})
	var whole atomic.Int64
	s := httptest.NewServer(&httpfence.Handler{Guard: guard(), Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 4)
		if _, err := io.ReadFull(r.Body, first); err != nil {
			t.Error(err)
		}
		if httpfence.TokenOf(r.Context()) == token(1) {
			close(reading)
		}
		_, err := io.Copy(io.Discard, r.Body)
		var stale *fence.StaleError
		switch {
		case err == nil:
			whole.Add(1)
			w.WriteHeader(http.StatusNoContent)
		case !errors.As(err, &stale):
			t.Errorf("the body broke off with %v", err)
		}
	})})
	defer s.Close()
	pr, pw := io.Pipe()
	old := make(chan error)
	go func() {
		_, err := put(client(token(1)), s.URL, pr)
		old <- err
	}()
	if _, err := pw.Write([]byte("half of it")); err != nil {
		t.Fatal(err)
	}
	<-reading
	if status, err := put(client(token(2)), s.URL, strings.NewReader("the newer one's")); status != http.StatusNoContent || err != nil {
		t.Errorf("the newer one: %d, %v", status, err)
	}
	var stale *fence.StaleError
	if err := <-old; !errors.As(err, &stale) || stale.Known != token(2) {
		t.Errorf("the older one: %v", err)
	}
	pw.Close()
	if n := whole.Load(); n != 1 {
		t.Errorf("%d bodies were read to their ends", n)
	}
}

// An answer that its client does not read holds the newer token up for a second, not for ever.
func TestAnswerNotRead(t *testing.T) {
	writing := make(chan struct{})
	s := httptest.NewServer(&httpfence.Handler{Guard: guard(), Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if httpfence.TokenOf(r.Context()) == token(1) {
			close(writing)
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}
	})})
	defer s.Close()
	req, err := http.NewRequest(http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client(token(1)).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-writing
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ = http.NewRequestWithContext(ctx, http.MethodPut, s.URL, nil)
	if resp, err := client(token(2)).Do(req); err != nil || resp.StatusCode != 200 {
		t.Errorf("the newer one: %v, %v", resp, err)
	}
}

// Two writers race; the server is restarted in between. What it does never goes back.
func TestRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	var newest, last atomic.Uint64
	newest.Store(1)
	for range 4 {
		store, err := fence.OpenFileStore(path)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(&httpfence.Handler{Guard: fence.NewGuard("jobs", store), Next: http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) {
				epoch := httpfence.TokenOf(r.Context()).Epoch
				if was := last.Swap(epoch); was > epoch {
					t.Errorf("%d after %d", epoch, was)
				}
				w.WriteHeader(http.StatusNoContent)
			})})
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				base := new(http.Transport)
				defer base.CloseIdleConnections()
				mine := newest.Add(1)
				for range 2500 {
					if rand.IntN(100) == 0 {
						mine = newest.Add(1)
					}
					c := &http.Client{Transport: &httpfence.Transport{Token: token(mine), Base: base}}
					_, err := put(c, s.URL, strings.NewReader("body"))
					var stale *fence.StaleError
					if err != nil && !errors.As(err, &stale) {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		s.Close()
		store.Close()
	}
}

func ExampleHandler() {
	store := new(fence.MemoryStore) // of a server that outlives its Actives: fence.OpenFileStore
	server := httptest.NewServer(&httpfence.Handler{
		Guard: fence.NewGuard("jobs", store),
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "done for", httpfence.TokenOf(r.Context()))
		}),
	})
	defer server.Close()

	ask := func(t fence.Token) {
		client := &http.Client{Transport: &httpfence.Transport{Token: t}}
		resp, err := client.Post(server.URL, "text/plain", strings.NewReader("work"))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer resp.Body.Close()
		if err := httpfence.Check(resp); err != nil {
			fmt.Println(resp.StatusCode, err)
			return
		}
		io.Copy(os.Stdout, resp.Body)
	}
	ask(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"})
	ask(fence.Token{Cluster: "jobs", Epoch: 8, Holder: "b"})
	ask(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}) // a was asleep
	// Output:
	// done for jobs/7/a
	// done for jobs/8/b
	// 412 fence: token jobs/7/a is stale: jobs/8/b has been here
}

// What the token costs a request on loopback.
func BenchmarkRequest(b *testing.B) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	})
	for _, c := range []struct {
		name    string
		handler http.Handler
		client  *http.Client
	}{
		{"token=no", next, http.DefaultClient},
		{"token=yes", &httpfence.Handler{Guard: guard(), Next: next}, client(token(7))},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := httptest.NewServer(c.handler)
			defer s.Close()
			body := make([]byte, 1024)
			for b.Loop() {
				if status, err := put(c.client, s.URL, bytes.NewReader(body)); err != nil || status != http.StatusNoContent {
					b.Fatal(status, err)
				}
			}
		})
	}
}
