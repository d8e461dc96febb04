package admin

import (
	"bytes"
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file makes the page: a view of the member at one moment, and templates that write it down, part by part.

// parts are the elements of the page that change, by the names of their templates.
var parts = []string{"now", "members", "workers", "rates", "log", "history"}

var templates = template.Must(template.New("").ParseFS(assets, "assets/*.html"))

// A view is what a page is made of.
type view struct {
	Cluster, Self string
	Time          string // of the day
	May           bool   // changes are possible
	Banner        banner
	Tiles         []tile
	Cards         []card
	Workers       []workerRow
	MoreWorkers   int
	Plots         []plot
	Log           shape
	Lanes         []lane
	Since         string // where the lanes begin
	Failovers     []failoverRow
	MoreFailovers int
	Events        []eventRow
	MoreEvents    int
}

// How much of it is shown.
const (
	shownWorkers   = 100
	shownFailovers = 5
	shownEvents    = 50
)

type banner struct{ Class, Head, Text string }

type tile struct{ Label, Value, Hint string }

type workerRow struct{ Name, Addr, Text, Liveness, Class, Since, Heard string }

type failoverRow struct {
	Time, From, To, Cause, Took, Text string
	Epoch                             uint64
	Phases                            []phase
}

type phase struct {
	Name, Time, Class string
	X, Width          string // of 100
}

type eventRow struct{ Time, Machine, Member, Kind, Class, Text string }

// view looks at the member. Everything but a few microseconds of it is the events' explanation, which is made when there are new ones.
func (h *Handler) view(now time.Time) view {
	s, st, members := h.node.Status(), h.node.Stats(), h.node.Members()
	x, _ := h.told.explain()
	v := view{
		Cluster: h.node.Cluster(), Self: s.Name, Time: now.Local().Format("15:04:05"), May: h.cfg.Authorize != nil,
		Banner: bannerOf(s, members, x), Cards: h.cards(now, s, members), Plots: plots(h.past.all()), Log: shapeOf(now, s, st),
	}
	v.Tiles = h.tiles(s, st, members)
	v.Workers, v.MoreWorkers = workerRows(now, h.node.Workers())
	v.Lanes, v.Since = lanes(now, x)
	for _, f := range slices.Backward(x.Failovers[max(0, len(x.Failovers)-shownFailovers):]) {
		v.Failovers = append(v.Failovers, failoverRowOf(now, f))
	}
	v.MoreFailovers = len(x.Failovers) - len(v.Failovers)
	for _, e := range newest(x.Events, shownEvents) {
		v.Events = append(v.Events, eventRowOf(now, e))
	}
	v.MoreEvents = len(x.Events) - len(v.Events)
	return v
}

// bannerOf says in a sentence how the cluster is.
func bannerOf(s ha.Status, members []ha.MemberStatus, x ha.Explanation) banner {
	voters, there, all, next := 0, 0, true, ""
	for _, m := range members {
		all = all && m.Liveness == ha.Alive
		if m.State == ha.Activating && m.Liveness == ha.Alive {
			next = m.Name
		}
		if m.Kind == ha.KindObserver {
			continue
		}
		voters++
		if m.Liveness == ha.Alive {
			there++
		}
	}
	majority := voters/2 + 1
	count := fmt.Sprintf("%d of %d voters are there, and %d are needed.", there, voters, majority)
	switch {
	case s.State == ha.Failed && s.Err != nil:
		return banner{"bad", s.Name + " has failed", s.Err.Error()}
	case s.State == ha.Failed:
		return banner{"bad", s.Name + " is closed", "It takes part no more. The page shows what it knew last."}
	case s.Active != "" && there < majority:
		return banner{"warn", s.Active + " is Active", count}
	case s.Active != "" && there == majority && voters > 1:
		return banner{"warn", s.Active + " is Active", count + " The loss of one more would stop the service."}
	case s.Active != "" && there < voters:
		return banner{"ok", s.Active + " is Active", count}
	case s.Active != "" && !all:
		return banner{"ok", s.Active + " is Active", "All voters are there; of the others some are not."}
	case s.Active != "":
		return banner{"ok", s.Active + " is Active", allThere(len(members))}
	case next != "":
		return banner{"warn", "Nobody is Active", next + " is about to be."}
	case there < majority:
		return banner{"bad", "Nobody is Active", strings.TrimSpace(count + " " + sentence(x.Now))}
	}
	return banner{"bad", "Nobody is Active", sentence(x.Now)}
}

func allThere(members int) string {
	if members == 1 {
		return "It is the only member: its loss would stop the service."
	}
	return fmt.Sprintf("All %d members are there.", members)
}

// sentence is what the events say about why nobody is Active; what they say of somebody who is, is not true any more.
func sentence(now string) string {
	const nobody = "nobody is Active. "
	if len(now) > len(nobody) && now[:len(nobody)] == nobody {
		return now[len(nobody):]
	}
	return ""
}

func (h *Handler) tiles(s ha.Status, st ha.Stats, members []ha.MemberStatus) []tile {
	rate := "–"
	if x, ok := h.past.latest(); ok {
		rate = short(x.records)
	}
	there := 0
	for _, m := range members {
		if m.Liveness == ha.Alive {
			there++
		}
	}
	tiles := []tile{
		{"Epoch", thousands(s.Epoch), "changes of the role"},
		{"Members there", fmt.Sprintf("%d of %d", there, len(members)), "as heard here"},
		{"Records", thousands(s.Index), "in the log"},
		{"Records a second", rate, "in the last seconds"},
	}
	if s.State == ha.Active {
		tiles = append(tiles, tile{"Lease", timeOf(s.Lease.Round(100 * time.Millisecond)), "sure without answers"})
	} else {
		tiles = append(tiles, tile{"Lag here", lagOf(s.Lag.Records, s.Lag.Time), "of this member"})
	}
	return append(tiles, tile{"Readers", thousands(uint64(max(0, st.Log.Subscribers))), "of the log, here"})
}

// lagOf says how far behind a member is.
func lagOf(records uint64, d time.Duration) string {
	switch {
	case d < time.Second: // what is heard of a member is an election timeout old, and so are its numbers
		return "below 1 s"
	case records == 0:
		return "up to " + timeOf(d)
	}
	return thousands(records) + " records, " + timeOf(d)
}

func workerRows(now time.Time, workers []ha.WorkerStatus) (rows []workerRow, more int) {
	slices.SortStableFunc(workers, func(a, b ha.WorkerStatus) int { // who is not well comes first
		return cmp.Compare(btoi(a.Liveness == ha.Alive), btoi(b.Liveness == ha.Alive))
	})
	for i, w := range workers {
		if i == shownWorkers {
			return rows, len(workers) - i
		}
		rows = append(rows, workerRow{
			w.Name, w.Addr, w.Text, strings.ToLower(w.Liveness.String()), livenessClass(w.Liveness), clockOf(now, w.Since), ago(now, w.Heard),
		})
	}
	return rows, 0
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func eventRowOf(now time.Time, e ha.Event) eventRow {
	return eventRow{clockOf(now, e.Time), e.Time.Format(time.RFC3339Nano), e.Member, string(e.Kind), eventClass(e.Kind), e.Text}
}

// eventClass says how an event looks.
func eventClass(k ha.EventKind) string {
	switch k {
	case ha.EventActive, ha.EventServing, ha.EventObstacleOver, ha.EventProblemOver:
		return "ok"
	case ha.EventFailed, ha.EventStopped:
		return "bad"
	case ha.EventObstacle, ha.EventProblem, ha.EventEnded:
		return "warn"
	}
	return "plain"
}

func failoverRowOf(now time.Time, f ha.Failover) failoverRow {
	r := failoverRow{Time: clockOf(now, f.Ended), From: f.From, To: f.To, Epoch: f.Epoch, Cause: f.Cause, Text: f.Text}
	if f.From != "" {
		r.Took = timeOf(f.Ended.Sub(f.Began)) + " without an Active"
	}
	p := f.Phases
	all := p.Detect + p.Fence + p.Epoch + p.Stand
	at := 0.0
	for _, x := range []phase{
		{Name: "noticed", Time: timeOf(p.Detect), Class: "detect", Width: share(p.Detect, all)}, {Name: "fenced", Time: timeOf(p.Fence), Class: "fence", Width: share(p.Fence, all)},
		{Name: "epoch", Time: timeOf(p.Epoch), Class: "begin", Width: share(p.Epoch, all)}, {Name: "standby ended", Time: timeOf(p.Stand), Class: "stand", Width: share(p.Stand, all)},
	} {
		if all > 0 && x.Time != "0" {
			var w float64
			fmt.Sscan(x.Width, &w)
			x.X = fmt.Sprintf("%.2f", at)
			at += w
			r.Phases = append(r.Phases, x)
		}
	}
	return r
}

func share(d, all time.Duration) string {
	if all <= 0 {
		return "0"
	}
	return fmt.Sprintf("%.2f", 100*float64(d)/float64(all))
}

// write writes a template. What cannot be written is a fault of ours, and is told as one.
func write(name string, data any) (string, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return "", err
	}
	return b.String(), nil
}

// parts returns the parts of the page as they are now.
func (h *Handler) parts() map[string]string {
	v := h.view(time.Now())
	out := make(map[string]string, len(parts))
	for _, id := range parts {
		text, err := write(id, v)
		if err != nil {
			h.log.Error("admin: a part of the page cannot be written", "part", id, "err", err)
			continue
		}
		out[id] = text
	}
	return out
}

func (h *Handler) servePage(w http.ResponseWriter, _ *http.Request) {
	h.serveHTML(w, http.StatusOK, "page.html", h.view(time.Now()))
}

func (h *Handler) serveRefusal(w http.ResponseWriter, code int, err error) {
	h.serveHTML(w, code, "refusal.html", struct{ Cluster, Self, Code, Text string }{
		h.node.Cluster(), h.node.Status().Name, fmt.Sprintf("%d %s", code, http.StatusText(code)), err.Error(),
	})
}

func (h *Handler) serveHTML(w http.ResponseWriter, code int, name string, data any) {
	text, err := write(name, data)
	if err != nil {
		h.log.Error("admin: a page cannot be written", "page", name, "err", err)
		http.Error(w, "the page cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	w.Write([]byte(text)) // an error means that nobody waits for it any more
}

// explain is the history that the members tell together.
func (h *Handler) explain() ha.Explanation {
	x, _ := h.told.explain()
	return x
}

// A timeline is the page of all events.
type timeline struct {
	Cluster, Self, Time string
	Member, Kind        string // which are shown, "" for all
	Members, Kinds      []string
	Failovers           []failoverRow
	MoreFailovers       int // none: all are shown
	Events              []eventRow
	All                 int
}

func (h *Handler) serveTimeline(w http.ResponseWriter, r *http.Request) {
	now, x, q := time.Now(), h.explain(), r.URL.Query()
	t := timeline{
		Cluster: h.node.Cluster(), Self: h.node.Status().Name, Time: now.Local().Format("15:04:05"),
		Member: q.Get("member"), Kind: q.Get("kind"), All: len(x.Events),
	}
	for _, e := range x.Events {
		t.Members, t.Kinds = append(t.Members, e.Member), append(t.Kinds, string(e.Kind))
	}
	for _, list := range []*[]string{&t.Members, &t.Kinds} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	for _, e := range slices.Backward(x.Events) {
		if (t.Member == "" || e.Member == t.Member) && (t.Kind == "" || string(e.Kind) == t.Kind) {
			t.Events = append(t.Events, eventRowOf(now, e))
		}
	}
	for _, f := range slices.Backward(x.Failovers) {
		t.Failovers = append(t.Failovers, failoverRowOf(now, f))
	}
	h.serveHTML(w, http.StatusOK, "timeline.html", t)
}
