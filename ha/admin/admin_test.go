package admin

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

// patience bounds every wait of these tests; it is only ever used up by a failure.
const patience = time.Minute

// serving makes a handler of a fake member.
func serving(t *testing.T, said fake.Said, cfg Config) (*fake.Node, *Handler) {
	t.Helper()
	n := fake.New(said)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	h := New(n, cfg)
	t.Cleanup(h.Close)
	return n, h
}

// ask makes a request and returns the answer.
func ask(h http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// odd is what nobody should be called.
const odd = `</title><script>alert("1")</script><img src=x onerror='alert(2)'>&amp;" ünï ‮`

// strange is a member that says the oddest things.
func strange() fake.Said {
	s := fake.Three("b", 7)
	now := time.Now()
	s.Status.Problems = []ha.Problem{{Kind: odd, Peer: "c", Err: errors.New(odd), Since: now}, {Kind: "peers", Err: errors.New(odd), Since: now}}
	s.Status.Snapshots = []ha.Underway{{Peer: "c", Sends: true, Bytes: 5 << 20, Size: 50 << 20, Since: now}, {Peer: "b", Bytes: 1, Size: -1, Since: now}}
	s.Status.Err = errors.New(odd)
	s.Members[1].Advertise, s.Members[1].Program = odd, odd
	s.Members[2].Obstacles = []ha.Obstacle{{Kind: ha.ObstacleAway, Text: odd, Since: now, Until: now.Add(time.Minute)}}
	s.Workers = []ha.WorkerStatus{{Name: odd, Addr: odd, Text: odd, Liveness: ha.Suspect, Since: now, Heard: now}}
	s.Events["a"] = []ha.Event{
		{Time: now, Member: "a", Run: 1, Seq: 1, Kind: ha.EventActive, Epoch: 6, Text: odd},
		{Time: now, Member: "a", Run: 1, Seq: 2, Kind: ha.EventEnded, Epoch: 6, Cause: odd, Text: odd},
	}
	s.Events["b"] = []ha.Event{{Time: now, Member: "b", Run: 1, Seq: 1, Kind: ha.EventActive, Epoch: 7, Phases: &ha.Phases{Detect: time.Second, Epoch: time.Millisecond}}}
	return s
}

// sound fails the test unless a page is well-formed, gives each id once, labels what can be filled in, and has no code or style in it.
func sound(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	ids, labels, open := map[string]bool{}, 0, []string{}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			open = append(open, e.Name.Local)
			if e.Name.Local == "label" {
				labels++
			}
			attrs := map[string]string{}
			for _, a := range e.Attr {
				name := strings.ToLower(a.Name.Local)
				attrs[name] = a.Value
				if name == "style" || strings.HasPrefix(name, "on") {
					t.Errorf("<%s> has %s=%q", e.Name.Local, name, a.Value)
				}
			}
			if id := attrs["id"]; id != "" {
				if ids[id] {
					t.Errorf("the id %q is there twice", id)
				}
				ids[id] = true
			}
			switch e.Name.Local {
			case "script":
				if attrs["src"] != "script.js" {
					t.Errorf("a script from %q", attrs["src"])
				}
			case "style", "iframe", "object":
				t.Errorf("there is a <%s>", e.Name.Local)
			case "img":
				if _, ok := attrs["alt"]; !ok {
					t.Errorf("the picture %q has no alt", attrs["src"])
				}
			case "input", "select":
				if attrs["type"] != "hidden" && !slices.Contains(open, "label") {
					t.Errorf("the field %q has no label", attrs["name"])
				}
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
}

// TestPages: all pages are sound whatever the members say, and what they say is in them as text.
func TestPages(t *testing.T) {
	_, h := serving(t, strange(), Config{Authorize: func(*http.Request) error { return nil }, PageOf: func(ha.MemberStatus) string { return "javascript:alert(3)" }})
	eventually(t, "the events are there", func() bool { return len(h.explain().Events) == 3 })
	for path, want := range map[string][]string{
		"/":                             {"b is Active", "All 3 members are there", "Standby", "away", "a sends a snapshot to c", "10 %", "noticed 1 s"},
		"/timeline":                     {"Changes of the role", "obstacle", "3 of 3 events"},
		"/timeline?member=a&kind=ended": {"1 of 3 events", "<option selected>ended"},
	} {
		w := ask(h, "GET", path, "")
		page := w.Body.String()
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		sound(t, page)
		for _, not := range []string{"<script>", "<img src=x", `href="javascript`} {
			if strings.Contains(page, not) {
				t.Errorf("%s has %s in it", path, not)
			}
		}
		for _, text := range append(want, "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;") {
			if path == "/timeline" && text == "obstacle" {
				continue
			}
			if !strings.Contains(page, text) {
				t.Errorf("%s does not say %q", path, text)
			}
		}
	}
	for id, part := range h.parts() {
		if strings.Contains(part, "<script") || strings.Contains(part, "<img src=x") {
			t.Errorf("the part %s has code in it", id)
		}
	}
	if w := ask(h, "GET", "/nothing", ""); w.Code != http.StatusNotFound {
		t.Errorf("what there is not: %d", w.Code)
	}
}

// TestHeaders: whatever is asked, the answer says that it is not to be framed, guessed at, kept, or given scripts.
func TestHeaders(t *testing.T) {
	_, h := serving(t, fake.Three("a", 1), Config{Metrics: http.NotFoundHandler()})
	for pattern := range h.routes() {
		method, path, _ := strings.Cut(pattern, " ")
		if path == "/stream" {
			continue
		}
		hd := ask(h, method, strings.TrimSuffix(path, "{$}"), "").Header()
		if hd.Get("Content-Security-Policy") != policy || hd.Get("X-Content-Type-Options") != "nosniff" || hd.Get("X-Frame-Options") != "DENY" || hd.Get("Cache-Control") == "" {
			t.Errorf("%s: %v", pattern, hd)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'") {
		t.Error(policy)
	}
}

// TestBanner: the first sentence says what matters most.
func TestBanner(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fake.Said)
		want   banner
	}{
		"well":     {func(*fake.Said) {}, banner{"ok", "b is Active", "All 3 members are there."}},
		"one down": {func(s *fake.Said) { s.Members[2].Liveness, s.Members[2].State = ha.Dead, 0 }, banner{"warn", "b is Active", "2 of 3 voters are there, and 2 are needed. The loss of one more would stop the service."}},
		"alone":    {func(s *fake.Said) { s.Members = s.Members[:1] }, banner{"ok", "b is Active", "It is the only member: its loss would stop the service."}},
		"observer down": {func(s *fake.Said) {
			s.Members = append(s.Members, ha.MemberStatus{Name: "d", Kind: ha.KindObserver, Liveness: ha.Dead})
		}, banner{"ok", "b is Active", "All voters are there; of the others some are not."}},
		"no quorum": {func(s *fake.Said) {
			s.Status.State, s.Status.Active, s.Status.Leader = ha.Electing, "", ""
			s.Members[1].Liveness, s.Members[2].Liveness = ha.Dead, ha.Suspect
		}, banner{"bad", "Nobody is Active", "1 of 3 voters are there, and 2 are needed."}},
		"handing over": {func(s *fake.Said) {
			s.Status.State, s.Status.Active = ha.Draining, ""
			s.Members[1].State = ha.Activating
		}, banner{"warn", "Nobody is Active", "b is about to be."}},
		"failed": {func(s *fake.Said) { s.Status.State, s.Status.Err = ha.Failed, errors.New("the disk") }, banner{"bad", "a has failed", "the disk"}},
		"closed": {func(s *fake.Said) { s.Status.State = ha.Failed }, banner{"bad", "a is closed", "It takes part no more. The page shows what it knew last."}},
	} {
		s := fake.Three("b", 3)
		c.change(&s)
		if got := bannerOf(s.Status, s.Members, ha.Explanation{}); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestCards: each state and each way of being there is on the card, and what can be asked for is what makes sense.
func TestCards(t *testing.T) {
	s := fake.Three("a", 3)
	for state := ha.State(0); state <= ha.Arbiter; state++ {
		for l := ha.Alive; l <= ha.Left; l++ {
			s.Members[2].State, s.Members[2].Liveness = state, l
			_, h := serving(t, s, Config{})
			cards := h.cards(time.Now(), s.Status, s.Members)
			c, role := cards[2], state.String()
			switch {
			case l == ha.Left:
				role = "Left"
			case state == 0:
				role = "Not there"
			}
			if c.Liveness != strings.ToLower(l.String()) || c.Role != role || c.Meaning == "" || len(c.Rows) != len(cards[0].Rows) || len(c.Rows) != len(cards[1].Rows) {
				t.Errorf("%v, %v: %+v", state, l, c)
			}
			h.Close()
		}
	}
	offers := func(change func(*fake.Said), i int) string {
		s := fake.Three("a", 3)
		change(&s)
		_, h := serving(t, s, Config{Authorize: FromLoopback})
		c := h.cards(time.Now(), s.Status, s.Members)[i]
		return fmt.Sprint(c.Handover, c.Become, c.Away, c.Back, c.Promote, c.Demote, c.Replace, c.Remove)
	}
	for _, c := range []struct {
		what   string
		change func(*fake.Said)
		i      int
		want   string
	}{
		{"the Active", func(*fake.Said) {}, 0, "true false true false false true false true"},
		{"another", func(*fake.Said) {}, 1, "false false false false false true false true"},
		{"a Standby", func(s *fake.Said) { s.Status.State = ha.Standby }, 0, "false true true false false true false true"},
		{"away", func(s *fake.Said) { s.Members[0].Obstacles = []ha.Obstacle{{Kind: ha.ObstacleAway}} }, 0, "true false false true false true false true"},
		{"an observer", func(s *fake.Said) { s.Members[1].Kind = ha.KindObserver }, 1, "false false false false true false false true"},
		{"a dead one", func(s *fake.Said) { s.Members[1].Liveness = ha.Dead }, 1, "false false false false false true true true"},
		{"an arbiter", func(s *fake.Said) { s.Members[1].Kind = ha.KindArbiter }, 1, "false false false false false false false true"},
		{"another that obeys", func(s *fake.Said) { s.Members[1].Obeys = true }, 1, "false true true false false true false true"},
		{"an Active that obeys", func(s *fake.Said) {
			s.Status.State, s.Members[0].State, s.Members[1].State, s.Members[1].Obeys = ha.Standby, ha.Standby, ha.Active, true
		}, 1, "true false true false false true false true"},
		{"one that obeys and is away", func(s *fake.Said) {
			s.Members[1].Obeys, s.Members[1].Obstacles = true, []ha.Obstacle{{Kind: ha.ObstacleAway}}
		}, 1, "false true false true false true false true"},
		{"one that obeyed and is dead", func(s *fake.Said) { s.Members[1].Obeys, s.Members[1].Liveness = true, ha.Dead }, 1, "false false false false false true true true"},
		{"a failed one", func(s *fake.Said) { s.Status.State = ha.Failed }, 0, "false false false false false true false true"},
	} {
		if got := offers(c.change, c.i); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// TestChecks: the codes of what is asked by load balancers, by state and by what stands in the way.
func TestChecks(t *testing.T) {
	sick := func(kind ha.ObstacleKind) func(*ha.Status) {
		return func(s *ha.Status) { s.Obstacles = []ha.Obstacle{{Kind: kind, Text: "so"}} }
	}
	for _, c := range []struct {
		name                             string
		change                           func(*ha.Status)
		healthz, readyz, active, standby bool
	}{
		{"active", func(s *ha.Status) { s.State = ha.Active }, true, true, true, false},
		{"standby", func(s *ha.Status) {}, true, true, false, true},
		{"observer", func(s *ha.Status) { s.State = ha.Observer }, true, true, false, true},
		{"arbiter", func(s *ha.Status) { s.State = ha.Arbiter }, true, true, false, false},
		{"activating", func(s *ha.Status) { s.State = ha.Activating }, true, true, false, false},
		{"draining", func(s *ha.Status) { s.State = ha.Draining }, true, true, false, false},
		{"electing", func(s *ha.Status) { s.State, s.Leader = ha.Electing, "" }, true, false, false, false},
		{"observer without a leader", func(s *ha.Status) { s.State, s.Leader = ha.Observer, "" }, true, false, false, false},
		{"joining", func(s *ha.Status) { s.State = ha.Joining }, true, false, false, false},
		{"failed", func(s *ha.Status) { s.State, s.Err = ha.Failed, errors.New("no disk") }, false, false, false, false},
		{"closed", func(s *ha.Status) { s.State = ha.Failed }, false, false, false, false},
		{"loop stands", sick(ha.ObstacleLoop), false, false, false, false},
		{"sick", sick(ha.ObstacleSick), true, false, false, false},
		{"lagging", sick(ha.ObstacleLagging), true, false, false, false},
		{"away", sick(ha.ObstacleAway), true, true, false, true},
		{"cooling down", sick(ha.ObstacleCoolDown), true, true, false, true},
	} {
		said := fake.Three("b", 3)
		c.change(&said.Status)
		_, h := serving(t, said, Config{})
		for path, want := range map[string]bool{"healthz": c.healthz, "readyz": c.readyz, "active": c.active, "standby": c.standby} {
			for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
				w := ask(h, method, "/"+path, "")
				var v verdict
				if method != "HEAD" {
					if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.OK != want || (v.Reason == "") != want || v.Member != "a" || v.State != said.Status.State.String() {
						t.Errorf("%s, %s %s: %s", c.name, method, path, w.Body)
					}
				}
				if code := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}[want]; w.Code != code {
					t.Errorf("%s, %s %s: %d, want %d", c.name, method, path, w.Code, code)
				}
			}
		}
		h.Close()
	}
}

// TestChecks_Lag: how far behind is too far is for the one who asks to say.
func TestChecks_Lag(t *testing.T) {
	said := fake.Three("b", 3)
	said.Status.Lag = ha.Lag{Records: 50, Time: 3 * time.Second}
	n, h := serving(t, said, Config{})
	for q, want := range map[string]int{
		"": 200, "?lag=50": 200, "?lag=49": 503, "?lag=0": 503, "?lag=3s": 200, "?lag=2999ms": 503, "?lag=-1s": 503, "?lag=x": 503,
	} {
		for _, path := range []string{"/standby", "/readyz"} {
			if w := ask(h, "GET", path+q, ""); w.Code != want {
				t.Errorf("%s%s: %d, want %d: %s", path, q, w.Code, want, w.Body)
			}
		}
	}
	n.Set(func(s *fake.Said) { s.Status.State, s.Status.Active = ha.Active, "a" })
	if w := ask(h, "GET", "/readyz?lag=0", ""); w.Code != 200 {
		t.Errorf("an Active lags behind nobody: %d", w.Code)
	}
}

// A PageOf that panics or ends its goroutine has no page, and everything else goes on; so does a logger that blocks.
func TestWhatTheProgramHandsIn(t *testing.T) {
	for what, f := range map[string]func(){"panics": func() { panic("no page") }, "exits": runtime.Goexit} {
		said := make(chan struct{})
		_, h := serving(t, fake.Three("b", 3), Config{
			PageOf:    func(ha.MemberStatus) string { f(); return "http://x/" },
			Authorize: func(*http.Request) error { return nil },
			Logger:    slog.New(blocked{slog.DiscardHandler, said}),
		})
		if got := len(h.parts()); got != len(parts) {
			t.Errorf("PageOf %s: %d of %d parts", what, got, len(parts))
		}
		w := ask(h, "GET", "/", "")
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), "http://x/") {
			t.Errorf("PageOf %s: %d", what, w.Code)
		}
		if w := ask(h, "POST", "/stay-away", "reason=x", "Sec-Fetch-Site", "same-origin"); w.Code >= http.StatusInternalServerError {
			t.Errorf("a change while the logger blocks: %d", w.Code)
		}
		close(said)
	}
}

// A blocked handler takes no line before it is told to.
type blocked struct {
	slog.Handler
	until chan struct{}
}

func (b blocked) Enabled(context.Context, slog.Level) bool { <-b.until; return false }

// TestAuthorize: nobody may change anything unless the program says so, and no other site's page may have a browser do it.
func TestAuthorize(t *testing.T) {
	for name, c := range map[string]struct {
		authorize func(*http.Request) error
		header    []string
		code      int
	}{
		"closed by default":   {nil, nil, 403},
		"let in":              {func(*http.Request) error { return nil }, nil, 200},
		"refused":             {func(*http.Request) error { return errors.New("who are you") }, nil, 403},
		"panics":              {func(*http.Request) error { panic("oh") }, nil, 403},
		"from the page":       {func(*http.Request) error { return nil }, []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://example.com"}, 200},
		"from another site":   {func(*http.Request) error { return nil }, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"from a sister site":  {func(*http.Request) error { return nil }, []string{"Sec-Fetch-Site", "same-site"}, 403},
		"of an old browser":   {func(*http.Request) error { return nil }, []string{"Origin", "https://evil.example"}, 403},
		"from a sandbox":      {func(*http.Request) error { return nil }, []string{"Origin", "null"}, 403},
		"as text":             {func(*http.Request) error { return nil }, []string{"Content-Type", "text/plain"}, 415},
		"of an old one, well": {func(*http.Request) error { return nil }, []string{"Origin", "http://example.com"}, 200},
	} {
		n, h := serving(t, fake.Three("b", 3), Config{Authorize: c.authorize})
		for path := range actions {
			before := len(n.Asked())
			w := ask(h, "POST", "http://example.com/"+path, "member=c&confirm=c&addr=h:1&priority=3", c.header...)
			want := c.code
			if path == "handover" && want == 200 {
				want = 400 // it has no role
			}
			if w.Code != want || (len(n.Asked()) > before) != (want == 200) {
				t.Errorf("%s: %s: %d, want %d: %s; it was asked for %v", name, path, w.Code, want, w.Body, n.Asked()[before:])
			}
			if w := ask(h, "GET", "/"+path, ""); w.Code != http.StatusMethodNotAllowed {
				t.Errorf("GET /%s: %d", path, w.Code)
			}
		}
		page := ask(h, "GET", "/", "").Body.String()
		if offers := strings.Contains(page, "<form"); offers != (c.authorize != nil) {
			t.Errorf("%s: the page offers changes: %v", name, offers)
		}
		h.Close()
	}
}

// TestActions: each form does what it says.
func TestActions(t *testing.T) {
	said := fake.Three("a", 3)
	n, h := serving(t, said, Config{Authorize: func(*http.Request) error { return nil }})
	for _, c := range []struct {
		path, form string
		code       int
		asked      string
	}{
		{"handover", "", 200, "become a Standby"},
		{"handover", "member=a", 200, "become a Standby"},
		{"handover", "member=b", 400, ""}, // which is not Active
		{"become", "", 200, "become a Active"},
		{"become", "member=b", 200, "become b Active"},
		{"stay-away", "reason=new+disk", 200, "stay away a new disk"},
		{"stay-away", "member=c&reason=new+disk", 200, "stay away c new disk"},
		{"come-back", "", 200, "come back a"},
		{"come-back", "member=c", 200, "come back c"},
		{"add", "member=d&addr=h:1", 200, "add d h:1 voter 0"},
		{"add", "member=d&addr=h:1&kind=observer&priority=5", 200, "add d h:1 observer 5"},
		{"add", "member=d&addr=h:1&kind=arbiter", 200, "add d h:1 arbiter 0"},
		{"add", "member=d&addr=h:1&kind=king", 400, ""},
		{"add", "member=d&addr=h:1&priority=high", 400, ""},
		{"add", "addr=h:1", 400, ""},
		{"remove", "member=c&confirm=c", 200, "remove c"},
		{"remove", "member=c", 400, ""},
		{"remove", "member=c&confirm=b", 400, ""},
		{"replace", "member=c", 200, "replace c"},
		{"promote", "member=c", 200, "promote c"},
		{"promote", "", 400, ""},
		{"demote", "member=c", 200, "demote c"},
		{"priority", "member=c&priority=-7", 200, "priority c -7"},
		{"priority", "member=c&priority=", 400, ""},
		{"promote", "member=" + strings.Repeat("x", maxForm), 400, ""},
	} {
		before := len(n.Asked())
		w := ask(h, "POST", "/"+c.path, c.form)
		if got := strings.Join(n.Asked()[before:], "; "); w.Code != c.code || got != c.asked {
			t.Errorf("%s %.60s: %d %s, asked for %q, want %d and %q", c.path, c.form, w.Code, w.Body, got, c.code, c.asked)
		}
	}
	if w := ask(h, "POST", "/promote?member=c", ""); w.Code != 400 { // a link is no form
		t.Errorf("fields in the address: %d", w.Code)
	}
	n.Set(func(s *fake.Said) { s.Status.State, s.Status.Active = ha.Standby, "b" })
	before := len(n.Asked())
	for form, code := range map[string]int{"member=b": 200, "member=a": 400, "": 400} {
		if w := ask(h, "POST", "/handover", form); w.Code != code {
			t.Errorf("hand over %q of the Standby a: %d %s", form, w.Code, w.Body)
		}
	}
	if got := strings.Join(n.Asked()[before:], "; "); got != "become b Standby" {
		t.Errorf("asked for %q", got)
	}
}

// TestActions_Answers: a program gets a code and JSON, a person goes back to the page, or is told why not.
func TestActions_Answers(t *testing.T) {
	n, h := serving(t, fake.Three("a", 3), Config{Authorize: func(*http.Request) error { return nil }})
	if w := ask(h, "POST", "/handover", "", "Accept", "text/html,*/*"); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "./" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for _, c := range []struct {
		err  error
		code int
	}{
		{&ha.ObstacleError{Err: ha.ErrNoSuccessor}, 409},
		{&ha.MembershipError{Change: "remove c", Reason: ha.ErrQuorum}, 409},
		{&ha.MembershipError{Change: "remove c", Reason: ha.ErrNoLeader}, 503},
		{ha.ErrClosed, 503},
		{fmt.Errorf("make b Active: %w", ha.ErrNotReached), 503},
		{fmt.Errorf("make b Active: %w", ha.ErrNotObeyed), 409},
		{fmt.Errorf("%w: %w", ha.ErrUnknown, ha.ErrClosed), 504},
		{errors.New(odd), 409},
	} {
		n.Set(func(s *fake.Said) { s.Err = c.err })
		var f failure
		if w := ask(h, "POST", "/promote", "member=c"); w.Code != c.code || json.Unmarshal(w.Body.Bytes(), &f) != nil || f.Error != c.err.Error() {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
		w := ask(h, "POST", "/promote", "member=c", "Accept", "text/html")
		sound(t, w.Body.String())
		if w.Code != c.code || !strings.Contains(w.Body.String(), "It was not done") || strings.Contains(w.Body.String(), "<script") {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
	}
}

// TestFromLoopback: who comes from here, and means here.
func TestFromLoopback(t *testing.T) {
	for _, c := range []struct {
		from, host, header string
		ok                 bool
	}{
		{"127.0.0.1:5", "127.0.0.1:8080", "", true},
		{"127.0.0.1:5", "localhost:8080", "", true},
		{"127.0.0.1:5", "localhost", "", true},
		{"[::1]:5", "[::1]:8080", "", true},
		{"[::1]:5", "[::1]", "", true},
		{"[::ffff:127.0.0.1]:5", "127.0.0.2", "", true},
		{"10.0.0.1:5", "127.0.0.1:8080", "", false},
		{"127.0.0.1:5", "evil.example:8080", "", false}, // whose name leads to this machine now
		{"127.0.0.1:5", "127.0.0.1.evil.example", "", false},
		{"127.0.0.1:5", "", "", false},
		{"127.0.0.1:5", "10.0.0.1", "", false},
		{"127.0.0.1:5", "localhost", "X-Forwarded-For", false},
		{"127.0.0.1:5", "localhost", "Forwarded", false},
		{"127.0.0.1:5", "localhost", "Via", false},
		{"@", "localhost", "", false}, // a socket of the file system
	} {
		r := &http.Request{RemoteAddr: c.from, Host: c.host, Header: http.Header{}, URL: &url.URL{}}
		if c.header != "" {
			r.Header.Set(c.header, "10.1.1.1")
		}
		if err := FromLoopback(r); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
