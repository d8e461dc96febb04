package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// TestCluster: every member's page shows the whole cluster, a hand-over is asked for by a form, and why it came is on every page.
func TestCluster(t *testing.T) {
	defer goleak.VerifyNone(t)
	var members []ha.Member
	for _, name := range []string{"a", "b", "c"} {
		members = append(members, ha.Member{Name: name, Addr: loopback.Addr(t)})
	}
	dir, nodes, pages := t.TempDir(), map[string]*ha.Node{}, map[string]*Handler{}
	for _, m := range members {
		n, err := ha.Open(ha.Config{
			Name: m.Name, Dir: filepath.Join(dir, m.Name), Cluster: "shop", Members: members, ElectionTimeout: time.Second,
			Logger:   slog.New(slog.DiscardHandler),
			OnActive: func(ctx context.Context, _ fence.Token) error { <-ctx.Done(); return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		nodes[m.Name], pages[m.Name] = n, New(n, Config{Authorize: func(*http.Request) error { return nil }, Logger: slog.New(slog.DiscardHandler)})
		defer pages[m.Name].Close()
	}
	active := func() (name string) {
		for name, h := range pages {
			if ask(h, "GET", "/active", "").Code == http.StatusOK {
				return name
			}
		}
		return ""
	}
	ready := func() bool {
		for _, h := range pages {
			if ask(h, "GET", "/readyz", "").Code != http.StatusOK {
				return false
			}
		}
		return active() != ""
	}
	eventually(t, "all are ready and one is Active", ready)
	asked := time.Time{}
	handOver := func() { // under load the others may be too slow to take over, or the role ends by itself first: then it is asked again
		if from := active(); from != "" && time.Since(asked) > 3*time.Second {
			ask(pages[from], "POST", "/handover", "")
			asked = time.Now()
		}
	}
	eventually(t, "each has heard from all what has happened", func() bool {
		for name, h := range pages {
			var out eventsReport
			if err := json.Unmarshal(ask(h, "GET", "/events", "").Body.Bytes(), &out); err != nil {
				t.Fatal(err)
			}
			heard := map[string]bool{}
			for _, e := range out.Events {
				heard[e.Member] = true
			}
			if !slices.ContainsFunc(out.Failovers, func(f failoverReport) bool { return f.Cause == ha.CauseAsked }) {
				handOver()
				return false
			}
			page := ask(h, "GET", "/", "").Body.String()
			sound(t, page)
			if len(heard) != 3 || !strings.Contains(page, "All 3 members are there") || !strings.Contains(page, `<span class="cause">asked</span>`) {
				return false
			}
			var r report
			if err := json.Unmarshal(ask(h, "GET", "/status", "").Body.Bytes(), &struct {
				Member *string `json:"member"`
				Log    any     `json:"log"`
				Epochs any     `json:"epochs"`
			}{&r.Member, &r.Log, &r.Epochs}); err != nil || r.Member != name || r.Log.First != 1 || len(r.Epochs) < 2 {
				t.Fatalf("%v: %+v", err, r)
			}
		}
		return true
	})
	for name, n := range nodes {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if code := ask(pages[name], "GET", "/healthz", "").Code; code != http.StatusServiceUnavailable {
			t.Errorf("%s is closed and says %d", name, code)
		}
		pages[name].Close()
	}
}
