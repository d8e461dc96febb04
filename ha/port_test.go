package ha_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// The program's own server is behind the member's port, which may be a listener of the program's.
func TestSharePort(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	l, err := net.Listen("tcp", c.members[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	c.edit = func(cfg *ha.Config) {
		quick(cfg)
		cfg.Listener, cfg.SharePort = l, true
	}
	c.startAll()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(c.nodes["a"].Others()) }()
	h := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := h.Get("http://" + c.members[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "served" {
		t.Errorf("%q", body)
	}
	c.put(number(1))
	c.closeAll()
	<-served
	srv.Close()

	wrong := c.config("a")
	wrong.Bind, wrong.Heal = "127.0.0.1:1", true
	if err := wrong.Validate(); err == nil || !strings.Contains(err.Error(), "Bind is set") || !strings.Contains(err.Error(), "Heal is set") {
		t.Errorf("%v", err)
	}
}
