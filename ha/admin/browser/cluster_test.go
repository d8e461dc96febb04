package browser

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin"
)

var pictures = flag.String("pictures", "", "a directory to write the pictures of the documentation to")

// A cluster is three real members in this process, whose Active appends all the time, with a page each.
type cluster struct {
	t       *testing.T
	members []ha.Member
	dir     string
	nodes   map[string]*ha.Node
	pages   map[string]string
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), nodes: map[string]*ha.Node{}, pages: map[string]string{}}
	for _, name := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only when all have theirs, so that none is found twice
		c.members = append(c.members, ha.Member{Name: name, Addr: l.Addr().String()})
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.Close()
		}
	})
	return c
}

func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		var n *ha.Node
		var err error
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // its port may be somebody's for a moment
			n, err = ha.Open(ha.Config{
				Name: name, Dir: filepath.Join(c.dir, name), Cluster: "shop", Members: c.members, ElectionTimeout: 2 * time.Second, Version: "v1.4.0",
				CheckpointBytes: 256 << 10, RetainBytes: 512 << 10, ObeyMembers: true, Logger: slog.New(slog.DiscardHandler), OnActive: appendAlways,
			})
			if err == nil || time.Now().After(deadline) {
				break
			}
		}
		if err != nil {
			c.t.Fatal(err)
		}
		c.nodes[name] = n
		c.pages[name] = serve(c.t, n, admin.Config{Authorize: admin.FromLoopback, PageOf: func(m ha.MemberStatus) string { return c.pages[m.Name] }})
	}
}

// appendAlways is the work of an Active.
func appendAlways(ctx context.Context, token fence.Token) error {
	n, record := ha.FromContext(ctx), make([]byte, 100)
	for ctx.Err() == nil {
		if _, err := n.Append(ctx, token, record); err != nil {
			return nil
		}
		select {
		case <-time.After(4 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

func (c *cluster) active() string {
	c.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for name, n := range c.nodes {
			if n.Status().State == ha.Active {
				return name
			}
		}
	}
	c.t.Fatal("nobody becomes Active")
	return ""
}

// TestFailover: whoever looks at the page of a Standby sees the Active go and another come, without loading the page anew; sees
// the member that is down; and, when another is lost, that nobody can be Active.
func TestFailover(t *testing.T) {
	c := newCluster(t)
	c.start("a", "b", "c")
	b := newTab(t, 1280, 900, false)
	var first, seer, other string
	for c.nodes[first] == nil || first == seer { // on a busy machine the role may move meanwhile
		first = c.active()
		rest := slices.DeleteFunc([]string{"a", "b", "c"}, func(name string) bool { return name == first })
		seer = rest[0]
		b.open(c.pages[seer])
		b.live()
		b.until("who is Active", `(h => h.endsWith(" is Active") && !h.startsWith("Nobody"))(document.querySelector("h1").innerText)`)
		first = strings.TrimSuffix(eval[string](b, `document.querySelector("h1").innerText`), " is Active")
	}
	for _, name := range []string{"a", "b", "c"} {
		if name != first && name != seer {
			other = name
		}
	}
	b.until("rates are drawn", `document.querySelector("#plot-records .main").getAttribute("d").length > 20`)
	eval[bool](b, "(window.same = true)")

	c.nodes[first].Close()
	delete(c.nodes, first)
	b.until("another is Active, and one is missing", fmt.Sprintf(`["%s is Active", "%s is Active"].includes(document.querySelector("h1").innerText) && document.getElementById("now").innerText.includes("2 of 3 voters are there")`, seer, other))
	b.until("the member that left is shown as that", fmt.Sprintf(`[...document.querySelectorAll(".card")].some(c => c.querySelector("h3").innerText.startsWith("%s") && ["left", "dead"].includes(c.querySelector(".liveness").innerText))`, first))
	b.until("it says why", `document.querySelector("#history .failovers").innerText.includes("closed") || document.querySelector("#history .failovers").innerText.includes("handed")`)

	// Two of three are gone: nobody is Active, and the page that is looked at says so.
	c.nodes[other].Close()
	delete(c.nodes, other)
	b.until("nobody is Active", `document.querySelector("h1").innerText === "Nobody is Active" && document.getElementById("now").innerText.includes("1 of 3 voters are there, and 2 are needed")`)

	c.start(other)
	b.until("somebody is Active again", `document.querySelector("h1").innerText.endsWith("is Active") && !document.querySelector("h1").innerText.startsWith("Nobody")`)
	if !eval[bool](b, "window.same === true") {
		t.Error("the page was loaded anew")
	}
}

// TestCommandAnother: the page of one member hands over from another, keeps it away and brings it back.
func TestCommandAnother(t *testing.T) {
	c := newCluster(t)
	c.start("a", "b", "c")
	first := c.active()
	rest := slices.DeleteFunc([]string{"a", "b", "c"}, func(name string) bool { return name == first })
	b := newTab(t, 1280, 900, false)
	b.mayFail.Store(true) // an answer of 409 is on the console
	b.open(c.pages[rest[0]])
	b.live()
	is := func(js string) bool { // false while another page is being loaded
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+js+")"))
		return err == nil && ok
	}
	// Under load the others may be too slow to take over, or the role ends by itself first: then it is asked again.
	press := func(what, member, action, done string) {
		t.Helper()
		for deadline := time.Now().Add(patience); !is(done); time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within %v: %s\n%s", patience, what, eval[string](b, "document.body.innerText"))
			}
			if is(`document.querySelector("h1").innerText === "It was not done"`) {
				b.open(c.pages[rest[0]])
			}
			if !is(fmt.Sprintf(`(f => f && (f.requestSubmit(f.querySelector("button")), true))(document.querySelector('#member-%s form[action="%s"]'))`, member, action)) {
				continue // it is not offered: not yet, or no more
			}
			b.until("it is answered", `document.querySelector("h1").innerText === "It was not done" || document.getElementById("live").dataset.state === "live"`)
		}
	}
	press("the role has left", first, "handover", fmt.Sprintf(`(h => h.endsWith(" is Active") && h !== "%s is Active")(document.querySelector("h1").innerText)`, first))
	other := rest[1]
	press("another stays away", other, "stay-away", fmt.Sprintf(`document.querySelector('#member-%s form[action="come-back"]')`, other))
	if s := c.nodes[other].Status(); !slices.ContainsFunc(s.Obstacles, func(o ha.Obstacle) bool { return o.Kind == ha.ObstacleAway }) {
		t.Errorf("%s says %v", other, s.Obstacles)
	}
	press("it has come back", other, "come-back", fmt.Sprintf(`document.querySelector('#member-%s form[action="stay-away"]')`, other))
}

// TestPictures makes the pictures of the documentation, of a real cluster some minutes after it began.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("see -pictures")
	}
	c := newCluster(t)
	c.start("a", "b", "c")
	wait := func(d time.Duration) { time.Sleep(d) }
	c.active()
	wait(75 * time.Second)
	if err := c.nodes[c.active()].Become(t.Context(), ha.Standby); err != nil {
		t.Log(err)
	}
	wait(80 * time.Second)
	gone := c.active()
	c.nodes[gone].Close()
	wait(20 * time.Second)
	c.start(gone)
	wait(60 * time.Second)
	page := c.pages[c.active()]
	for _, p := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"status-light", 1180, 1240, false}, {"status-dark", 1180, 1240, true}, {"status-phone", 390, 844, false}} {
		b := newTab(t, p.width, p.height, p.dark)
		b.open(page)
		b.live()
		wait(3 * time.Second)
		b.shot(filepath.Join(*pictures, p.name+".png"), false)
		b.shot(filepath.Join(t.ArtifactDir(), p.name+"-whole.png"), true)
	}
}
