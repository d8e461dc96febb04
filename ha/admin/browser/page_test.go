package browser

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin"
	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

// odd is what nobody should be called.
const odd = `</title><script>document.title="broken"</script><img src=x onerror='document.title="broken"'>&amp;" ünï ‮`

// zoo is a cluster with a member in each state, of each way of being there, and with everything that can be wrong.
func zoo() fake.Said {
	s, now := fake.Three("a", 7), time.Now()
	for state := ha.Electing; state <= ha.Arbiter; state++ {
		s.Members = append(s.Members, ha.MemberStatus{
			Name: "is-" + state.String(), Addr: "10.0.1.1:7000", Kind: ha.KindVoter, Liveness: ha.Alive, State: state, Epoch: 7, Heard: now, RoundTrip: time.Millisecond,
			Obstacles: []ha.Obstacle{{Kind: ha.ObstacleSick, Text: "the check has failed three times: " + odd, Since: now, Until: now.Add(time.Minute)}},
		})
	}
	for l := ha.Suspect; l <= ha.Left; l++ {
		s.Members = append(s.Members, ha.MemberStatus{Name: "is-" + l.String(), Addr: "10.0.1.2:7000", Kind: ha.KindObserver, Joining: true, Becomes: ha.KindVoter, Liveness: l, Heard: now.Add(-time.Minute)})
	}
	s.Members = append(s.Members, ha.MemberStatus{Name: strings.Repeat("very-long-name-", 8) + "12345678", Addr: strings.Repeat("very.long.name.", 8) + "example:7000",
		Advertise: odd + strings.Repeat("x", 150), Program: odd, Kind: ha.KindArbiter, Liveness: ha.Alive, State: ha.Arbiter, Priority: 1_000_000, Heard: now, Epoch: 1 << 60})
	s.Status.Problems = []ha.Problem{{Kind: "peers", Peer: "b", Err: errors.New(odd), Since: now}, {Kind: "disk", Err: errors.New(odd), Since: now}}
	s.Status.Snapshots = []ha.Underway{{Peer: "c", Sends: true, Bytes: 5 << 20, Size: 50 << 20, Since: now}, {Peer: "b", Bytes: 1, Size: -1, Since: now}}
	s.Workers = []ha.WorkerStatus{{Name: odd, Addr: odd, Text: strings.Repeat("report ", 40), Liveness: ha.Alive, Since: now, Heard: now}, {Name: "w2", Liveness: ha.Dead, Since: now, Heard: now}}
	s.Events["a"] = history("a", 1, 12)
	s.Events["b"] = append(s.Events["b"], ha.Event{Time: now, Member: "b", Run: 1, Seq: 1, Kind: ha.EventProblem, Text: odd})
	return s
}

// history is what a member says that was Active for many times.
func history(member string, run int64, events int) (all []ha.Event) {
	began := time.Now().Add(-time.Duration(events) * time.Second)
	for i := range events {
		e := ha.Event{Time: began.Add(time.Duration(i) * time.Second), Member: member, Run: run, Seq: uint64(i + 1), Text: fmt.Sprintf("event %d of %s", i+1, member)}
		switch i % 4 {
		case 0:
			e.Kind, e.Peer = ha.EventElected, "b"
		case 1:
			e.Kind, e.Epoch = ha.EventActive, uint64(i)
			e.Phases = &ha.Phases{Detect: 600 * time.Millisecond, Fence: 200 * time.Millisecond, Epoch: 90 * time.Millisecond, Stand: 40 * time.Millisecond}
		case 2:
			e.Kind, e.Epoch, e.Cause = ha.EventEnded, uint64(i-1), ha.CauseLease
		default:
			e.Kind, e.Cause = ha.EventObstacle, string(ha.ObstacleDiskStalled)
		}
		all = append(all, e)
	}
	return all
}

// TestEveryState: each state is on the page in words, and what members say of themselves is text.
func TestEveryState(t *testing.T) {
	b := newTab(t, 1280, 900, false)
	b.open(serve(t, fake.New(zoo()), admin.Config{Authorize: admin.FromLoopback}))
	b.live()
	text := eval[string](b, "document.body.innerText")
	for state := ha.Electing; state <= ha.Arbiter; state++ {
		if !eval[bool](b, fmt.Sprintf(`[...document.querySelectorAll(".card")].some(c => c.querySelector("h3").innerText === "is-%[1]v" && c.querySelector(".badge").innerText === "%[1]v")`, state)) {
			t.Errorf("no card is %v", state)
		}
	}
	for _, want := range []string{"suspect", "dead", "left", "Not there", "observer, to become voter", "sick", "a sends a snapshot to c", "10 %", "the check has failed", odd} {
		if !strings.Contains(strings.ReplaceAll(text, "\u00a0", " "), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if title := eval[string](b, "document.title"); title != "shop on a" {
		t.Errorf("the title is %q", title)
	}
	if n := eval[int](b, `document.querySelectorAll("script:not([src]), [onerror], [style], main img").length`); n != 0 {
		t.Errorf("%d elements of what members said have come alive", n)
	}
}

// TestPhone: nothing is wider than the screen of a phone, and nothing is cut off.
func TestPhone(t *testing.T) {
	for _, width := range []int64{320, 390} {
		b := newTab(t, width, 800, false)
		url := serve(t, fake.New(zoo()), admin.Config{Authorize: admin.FromLoopback})
		for _, path := range []string{"", "timeline"} {
			b.open(url + path)
			eval[bool](b, `document.querySelectorAll("details").forEach(d => d.open = true), true`)
			if got := eval[int64](b, "document.documentElement.scrollWidth"); got > width {
				wide := eval[[]string](b, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".wide")).map(e => e.tagName + "." + e.className).slice(0, 10)`)
				t.Errorf("%q is %d pixels wide on a screen of %d: %v", path, got, width, wide)
			}
		}
	}
}

// contrast computes WCAG's ratio for each text that is seen, from the styles as they are computed, and returns those that are too low.
const contrast = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const rgba = (css) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1); const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
	const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3]));
	const lum = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
	const ground = (e) => { let layers = []; for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); layers.push(c); if (c[3] === 1) break; } let c = [255, 255, 255]; for (const l of layers.reverse()) c = over(l, c); return c; };
	const bad = []; let seen = 0;
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest(".sr, .skip, noscript, script")) continue;
		const s = getComputedStyle(e), g = ground(e), c = over(rgba(s.color), g);
		const [hi, lo] = [lum(c), lum(g)].sort((a, b) => b - a);
		const ratio = (hi + .05) / (lo + .05), size = parseFloat(s.fontSize), large = size >= 24 || size >= 18.66 && parseInt(s.fontWeight) >= 700;
		seen++;
		if (ratio < (large ? 3 : 4.5)) bad.push(ratio.toFixed(2) + " " + e.tagName + "." + e.className + " " + walk.currentNode.data.trim().slice(0, 30));
	}
	return seen < 200 ? ["only " + seen + " texts were seen"] : [...new Set(bad)];
})()`

// TestContrast: every text can be read, light and dark (WCAG 2.2, 1.4.3: 4.5 to 1, and 3 to 1 for large text).
func TestContrast(t *testing.T) {
	url := serve(t, fake.New(zoo()), admin.Config{Authorize: admin.FromLoopback})
	for _, dark := range []bool{false, true} {
		b := newTab(t, 1280, 900, dark)
		for _, path := range []string{"", "timeline"} {
			b.open(url + path)
			eval[bool](b, `document.querySelectorAll("details").forEach(d => d.open = true), true`)
			if bad := eval[[]string](b, strings.Replace(contrast, "seen < 200", "seen < 30", 1)); len(bad) > 0 {
				t.Errorf("dark %v, %q: %s", dark, path, strings.Join(bad, "\n"))
			}
		}
	}
}

// TestKeyboard: everything can be done by keyboard, what has the focus shows it, and what is open or being typed stays so while the
// page changes.
func TestKeyboard(t *testing.T) {
	n := fake.New(fake.Three("a", 3))
	b := newTab(t, 1280, 900, false)
	b.open(serve(t, n, admin.Config{Authorize: admin.FromLoopback}))
	b.live()
	b.do(chromedp.KeyEvent(kb.Tab))
	if text := eval[string](b, `document.activeElement.innerText`); text != "Skip to the members" || !eval[bool](b, `document.activeElement.getBoundingClientRect().left >= 0`) {
		t.Errorf("first comes %q", text)
	}
	reach := func(what, js string) {
		t.Helper()
		for range 100 {
			b.do(chromedp.KeyEvent(kb.Tab))
			if eval[bool](b, js) {
				if !eval[bool](b, `parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2 && getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
					t.Errorf("%s does not show that it has the focus", what)
				}
				return
			}
		}
		t.Fatalf("%s is not reached by keyboard", what)
	}
	reach("the menu of a", `document.activeElement.tagName === "SUMMARY" && document.activeElement.closest("#member-a") !== null`)
	b.do(chromedp.KeyEvent(kb.Enter))
	b.until("the menu is open", `document.querySelector("#member-a details").open`)
	reach("the reason", `document.activeElement.name === "reason"`)
	b.do(chromedp.KeyEvent("new di"))
	for epoch := range 3 { // and meanwhile all kinds of things happen
		n.Set(func(s *fake.Said) {
			s.Status.Epoch = uint64(10 + epoch)
			s.Members[0].Obstacles = []ha.Obstacle{{Kind: ha.ObstacleSick, Text: fmt.Sprint("check ", epoch), Since: time.Now()}}
		})
		b.until("the page shows it", fmt.Sprintf(`document.querySelector("#member-a .trouble")?.innerText.includes("check %d")`, epoch))
	}
	b.do(chromedp.KeyEvent("sk"))
	if got := eval[string](b, `document.activeElement.name + "=" + document.activeElement.value`); got != "reason=new disk" {
		t.Errorf("after the page has changed the focus is on %s", got)
	}
	b.do(chromedp.KeyEvent(kb.Enter))
	for deadline := time.Now().Add(patience); len(n.Asked()) == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
	}
	if got := strings.Join(n.Asked(), "; "); got != "stay away a new disk" {
		t.Errorf("it was asked: %s", got)
	}
	b.live()

	b.mayFail.Store(true) // it is answered 409
	n.Set(func(s *fake.Said) { s.Err = errors.New("nobody else is well") })
	b.do(chromedp.Click("#member-a summary"), chromedp.Click(`form[action="handover"] button`))
	b.until("it says why not", `document.body.innerText.includes("nobody else is well")`)
}

// unspoken is what is missing in what a screen reader says of the page.
func unspoken(b *tab) (faults []string) {
	roles := map[string]int{}
	for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Ignored || node.Role == nil {
			continue
		}
		role, name := strings.Trim(string(node.Role.Value), `"`), ""
		if node.Name != nil {
			name = strings.Trim(string(node.Name.Value), `"`)
		}
		roles[role]++
		switch role {
		case "image", "button", "link", "textbox", "spinbutton", "combobox", "progressbar", "region", "heading", "DisclosureTriangle":
			if strings.TrimSpace(name) == "" {
				faults = append(faults, fmt.Sprintf("a %s has no name", role))
			}
		}
	}
	for role, least := range map[string]int{"main": 1, "banner": 1, "contentinfo": 1, "heading": 12, "image": 9, "region": 6, "list": 4, "table": 1, "status": 1, "columnheader": 6} {
		if roles[role] < least {
			faults = append(faults, fmt.Sprintf("%d of the role %s, want %d at least: %v", roles[role], role, least, roles))
		}
	}
	return faults
}

// TestScreenReader: there are landmarks and headings in order, every picture, field and button has a name, and a change of the role is said.
func TestScreenReader(t *testing.T) {
	n := fake.New(zoo())
	b := newTab(t, 1280, 900, false)
	b.open(serve(t, n, admin.Config{Authorize: admin.FromLoopback}))
	b.live()
	eval[bool](b, `document.querySelectorAll("details").forEach(d => d.open = true), true`)
	// What is said of the page follows what is seen of it a moment later.
	var faults []string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if faults = unspoken(b); len(faults) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, f := range faults {
		t.Error(f)
	}
	if got := eval[string](b, `(() => { let last = 0, wrong = ""; for (const h of document.querySelectorAll("h1, h2, h3, h4")) { const n = +h.tagName[1]; if (n > last + 1) wrong += h.innerText; last = n; } return wrong + document.querySelectorAll("h1").length; })()`); got != "1" {
		t.Errorf("headings: %s", got)
	}
	n.Set(func(s *fake.Said) { s.Status.Active = "c" })
	b.until("the change is said", `document.getElementById("said").innerText === "c is Active"`)
}

// TestManyEvents: a thousand events of each of three members, and what is new is on top.
func TestManyEvents(t *testing.T) {
	s := fake.Three("a", 3)
	for _, name := range []string{"a", "b", "c"} {
		s.Events[name] = history(name, 1, 1024)
	}
	n := fake.New(s)
	url := serve(t, n, admin.Config{})
	b := newTab(t, 1280, 900, false)
	b.open(url)
	b.live()
	b.until("the last ones are there", `document.querySelectorAll("#history .events li").length === 50 && document.querySelector("#history .events li").innerText.includes("event 1024")`)
	b.until("and how many more", `document.getElementById("history").innerText.includes("3022 earlier ones")`)
	eval[bool](b, `(window.second = document.querySelectorAll("#history .events li")[0], true)`)
	n.Set(func(s *fake.Said) {
		s.Events["b"] = append(s.Events["b"], ha.Event{Time: time.Now(), Member: "b", Run: 1, Seq: 1025, Kind: ha.EventStopped, Text: "the newest of all"})
	})
	b.until("a new one is on top", `document.querySelector("#history .events li").innerText.includes("the newest of all")`)
	if !eval[bool](b, `document.querySelectorAll("#history .events li")[1] === window.second && document.querySelectorAll("#history .events li").length === 50`) {
		t.Error("and the others were made anew")
	}
	b.open(url + "timeline")
	if got := eval[int](b, `document.querySelectorAll("#events li").length`); got != 3*1024 {
		t.Errorf("%d events", got)
	}
	b.open(url + "timeline?member=b&kind=stopped")
	if got := eval[int](b, `document.querySelectorAll("#events li").length`); got != 1 {
		t.Errorf("%d events", got)
	}
}

// TestWithoutScript: the page says the same, and loads itself anew.
func TestWithoutScript(t *testing.T) {
	n := fake.New(fake.Three("a", 3))
	url := serve(t, n, admin.Config{})
	b := newTab(t, 1280, 900, false)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.open(url)
	if got := eval[string](b, `document.querySelector("h1").innerText`); got != "a is Active" {
		t.Errorf("%q", got)
	}
	if !eval[bool](b, `(e => e.scrollHeight <= e.clientHeight + 1)(document.querySelector("#history .scroll"))`) {
		t.Error("that there are no events is cut off")
	}
	n.Set(func(s *fake.Said) { s.Status.Active = "b" })
	b.until("it shows what has changed", `document.querySelector("h1")?.innerText === "b is Active"`)
}

// TestNotLive: a page whose member is gone says so, and is live again when it is back.
func TestNotLive(t *testing.T) {
	n := fake.New(fake.Three("a", 3))
	url, gate := serveGated(t, n)
	b := newTab(t, 1280, 900, false)
	b.mayFail.Store(true)
	b.open(url)
	b.live()
	gate.shut()
	b.until("it is not up to date", `document.getElementById("live").dataset.state === "lost"`)
	gate.open()
	b.live()
	n.Set(func(s *fake.Said) { s.Status.Active = "c" })
	b.until("it goes on", `document.querySelector("h1").innerText === "c is Active"`)
}
