package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

// site serves a handler under a path of its own, over real connections.
func site(t *testing.T, h *Handler) *httptest.Server {
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", h))
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		h.Close()
		http.DefaultClient.CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv
}

// A listener reads along with a stream.
type listener struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Reader
}

func listen(t *testing.T, srv *httptest.Server) *listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/ops/stream", nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	return &listener{t, resp.Body, bufio.NewReader(resp.Body)}
}

// next returns the parts that have changed, or an error at the end.
func (l *listener) next() (parts map[string]string, err error) {
	l.t.Helper()
	for {
		text, err := l.in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if data, ok := strings.CutPrefix(text, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &parts); err != nil {
				l.t.Fatal(err)
			}
			return parts, nil
		}
	}
}

// TestStream: whoever looks gets everything, and then what changes as soon as it does, and no more.
func TestStream(t *testing.T) {
	defer goleak.VerifyNone(t)
	n, h := serving(t, fake.Three("b", 3), Config{})
	srv := site(t, h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	defer h.Close()
	l := listen(t, srv)
	first, err := l.next()
	if err != nil || len(first) != len(parts) || !strings.Contains(first["now"], "b is Active") {
		t.Fatalf("%v, %v", err, first)
	}
	n.Set(func(s *fake.Said) { s.Status.Active, s.Status.Leader, s.Status.Epoch = "c", "c", 4 })
	for {
		changed, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := changed["workers"]; ok {
			t.Errorf("the workers have not changed")
		}
		if strings.Contains(changed["now"], "c is Active") {
			break
		}
	}
	n.Close() // and the stream ends with the node
	for err == nil {
		_, err = l.next()
	}
	if resp, err := http.Get(srv.URL + "/ops/stream"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the end: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if w := ask(h, "GET", "/", ""); w.Code != http.StatusOK {
		t.Errorf("the page after the end: %d", w.Code)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestStream_Bounded: so many and no more, and a place is free again when one goes.
func TestStream_Bounded(t *testing.T) {
	_, h := serving(t, fake.Three("b", 3), Config{MaxStreams: 2})
	srv := site(t, h)
	first := listen(t, srv)
	listen(t, srv)
	resp, err := http.Get(srv.URL + "/ops/stream")
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("a third one: %v, %v", resp, err)
	}
	resp.Body.Close()
	first.body.Close()
	eventually(t, "there is a place again", func() bool {
		h.live.mu.Lock()
		defer h.live.mu.Unlock()
		return h.live.streams == 1
	})
	listen(t, srv)
}

// TestStream_Hung: one that reads nothing holds its place for the time of one message, and holds up nobody.
func TestStream_Hung(t *testing.T) {
	t.Parallel() // it waits
	said := fake.Three("b", 3)
	for i := range 400 { // so that the page is larger than what the system takes for a connection that is not read
		said.Workers = append(said.Workers, ha.WorkerStatus{Name: fmt.Sprint("w", i), Text: strings.Repeat("x", 20_000)})
	}
	n, h := serving(t, said, Config{})
	h.live.writeTime = 4 * time.Second // one that reads takes far less, whatever the machine does
	srv := site(t, h)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprint(conn, "GET /ops/stream HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "it has a place", func() bool { return h.live.wanted() })
	l := listen(t, srv)
	done := make(chan struct{})
	go func() { // reads along
		defer close(done)
		io.Copy(io.Discard, l.body)
	}()
	for i := 0; ; i++ {
		n.Set(func(s *fake.Said) { s.Workers[0].Text = strings.Repeat(fmt.Sprint(i), 20_000) })
		h.live.mu.Lock()
		streams := h.live.streams
		h.live.mu.Unlock()
		if streams == 1 {
			break
		}
		if i > int(patience/(200*time.Millisecond)) {
			t.Fatal("it still has its place")
		}
		time.Sleep(200 * time.Millisecond)
	}
	select {
	case <-done:
		t.Error("and so the one that reads has ended")
	default:
	}
	l.body.Close()
	<-done
}

// TestPublish: a version is made of what has changed, and whoever has missed some gets all of it.
func TestPublish(t *testing.T) {
	var b hub
	b.init(t.Context(), 0)
	b.publish(map[string]string{"x": "1", "y": "1"})
	changed, one, more := b.since(0)
	if len(changed) != 2 {
		t.Fatal(changed)
	}
	b.publish(map[string]string{"x": "1", "y": "1"})
	select {
	case <-more:
		t.Error("nothing has changed")
	default:
	}
	b.publish(map[string]string{"x": "2", "y": "1"})
	<-more
	b.publish(map[string]string{"x": "2", "y": "3"})
	if changed, _, _ = b.since(one); len(changed) != 2 || changed["x"] != "2" || changed["y"] != "3" {
		t.Errorf("after the first version: %v", changed)
	}
	_, now, _ := b.since(one)
	if changed, _, _ = b.since(now); len(changed) != 0 {
		t.Errorf("nothing is new: %v", changed)
	}
}
