package admin

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

func event(member string, run int64, seq uint64) ha.Event {
	return ha.Event{Time: time.Unix(run, int64(seq)), Member: member, Run: run, Seq: seq, Kind: ha.EventLeader, Text: fmt.Sprint(member, " ", seq)}
}

// TestEvents: what the members say is put together, each once, also of a member that comes later or comes back; and goes with
// a member that leaves.
func TestEvents(t *testing.T) {
	said := fake.Three("b", 3)
	said.Events = map[string][]ha.Event{"a": {event("a", 1, 1), event("a", 1, 2)}, "b": {event("b", 1, 1)}} // c is not reached
	n, h := serving(t, said, Config{})
	count := func() int { return len(h.explain().Events) }
	eventually(t, "a and b are heard", func() bool { return count() == 3 })
	n.Set(func(s *fake.Said) {
		s.Events = map[string][]ha.Event{"a": append(s.Events["a"], event("a", 2, 1)), "b": s.Events["b"], "c": {event("c", 1, 1), event("c", 1, 1)}}
	})
	eventually(t, "c is heard, and what a adds", func() bool { return count() == 5 })
	var out eventsReport
	for q, want := range map[string]int{"": 5, "?n=2": 2, "?n=0": 0, "?member=a": 3, "?member=a&n=1": 1, "?kind=leader": 5, "?kind=active": 0} {
		w := ask(h, "GET", "/events"+q, "")
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || len(out.Events) != want || out.Member != "a" {
			t.Errorf("/events%s: %v, %d events, want %d", q, err, len(out.Events), want)
		}
	}
	if w := ask(h, "GET", "/events?n=x", ""); w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	n.Set(func(s *fake.Said) { s.Members = s.Members[:2] })
	eventually(t, "c is forgotten", func() bool { return count() == 4 })
}

// TestEvents_Bounded: of each member the last ones are kept, and what comes again, from its beginning, is not taken for new.
func TestEvents_Bounded(t *testing.T) {
	var c chronicle
	x := &heard{seq: map[int64]uint64{}}
	c.of = map[string]*heard{"a": x}
	const many = 5 * maxEvents
	for range 2 {
		for seq := range uint64(many) {
			c.take(x, event("a", 1, seq+1))
		}
	}
	all, version := c.explain()
	if len(all.Events) != maxEvents || all.Events[0].Seq != many-maxEvents+1 || version != many {
		t.Errorf("%d events from %d on, version %d", len(all.Events), all.Events[0].Seq, version)
	}
	if len(x.events) > 2*maxEvents {
		t.Errorf("%d are kept", len(x.events))
	}
	for run := range int64(3 * maxRuns) {
		c.take(x, event("a", 2+run, 1))
	}
	if len(x.seq) > maxRuns {
		t.Errorf("of %d processes it is known what they said", len(x.seq))
	}
	if list := newest(all.Events, 3); len(list) != 3 || list[0].Seq != many {
		t.Errorf("%v", list)
	}
}

// TestHistory: rates are differences by time, times are of what was between two looks, and only the last ten minutes are kept.
func TestHistory(t *testing.T) {
	n := fake.New(fake.Three("b", 3))
	var p history
	at := time.Now()
	p.take(n, at)
	if _, ok := p.latest(); ok {
		t.Error("one look is no rate")
	}
	n.Set(func(s *fake.Said) { s.Status.Index += 100; s.Status.Lag.Time = 3 * time.Second })
	p.take(n, at.Add(2*time.Second))
	if x, _ := p.latest(); x.records != 50 || x.lag != 3 || x.appendHalf != -1 || x.epoch != 3 {
		t.Errorf("%+v", x)
	}
	n.Set(func(s *fake.Said) { s.Status.Index = 5 }) // another member's directory
	p.take(n, at.Add(4*time.Second))
	if x, _ := p.latest(); x.records != 0 {
		t.Errorf("%+v", x)
	}
	for i := range 3 * maxSamples {
		p.take(n, at.Add(time.Duration(6+2*i)*time.Second))
	}
	if all := p.all(); len(all) != maxSamples || len(p.samples) > 2*maxSamples {
		t.Errorf("%d, of %d", len(all), len(p.samples))
	}
	for _, pl := range plots(p.all()) {
		sound(t, "<div>"+string(pl.SVG)+"</div>")
		if pl.Label == "" || pl.Now == "" {
			t.Errorf("%+v", pl)
		}
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		thousands(0): "0", thousands(999): "999", thousands(1000): "1,000", thousands(math.MaxUint64): "18,446,744,073,709,551,615",
		bytesOf(-1): "unknown", bytesOf(1023): "1,023 B", bytesOf(1536): "1.50 KiB", bytesOf(64 << 20): "64 MiB", bytesOf(1e18): "888 PiB",
		timeOf(-1): "0", timeOf(1500): "1.50 µs", timeOf(20 * time.Millisecond): "20 ms", timeOf(2500 * time.Millisecond): "2.50 s", timeOf(90 * time.Second): "1 min 30 s",
		span(3 * time.Hour): "3 h 0 min", span(100 * time.Hour): "4 days", plural(1, "file"): "1 file", plural(2, "file"): "2 files", plural(0, "file"): "0 files",
		lagOf(60, 20*time.Millisecond): "below 1 s", lagOf(0, 2*time.Second): "up to 2 s", lagOf(7000, 2*time.Second): "7,000 records, 2 s",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	now := time.Now()
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 2 * time.Second: "just now", 4 * time.Second: "3 s ago", 14 * time.Second: "10 s ago", 5 * time.Minute: "5 min ago", 30 * time.Hour: "30 h ago", 72 * time.Hour: "3 days ago",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for v, want := range map[float64]float64{1: 1, 1.5: 2, 3: 5, 7: 10, 0.03: 0.05, 101: 200} {
		if got := ceiling(v); math.Abs(got-want) > want/1e6 {
			t.Errorf("above %v: %v, want %v", v, got, want)
		}
	}
}

// TestShape: the picture of the log is as wide as what is held, and says the same in words.
func TestShape(t *testing.T) {
	var st ha.Stats
	st.Log.First, st.Log.Checkpoint = 101, 150
	x := shapeOf(time.Now(), ha.Status{Index: 200, Applied: 180}, st)
	if got := fmt.Sprint(x.Bars); got != "[{saved in the checkpoint, too 0.00 50.00} {applied applied since 50.00 30.00} {ahead not yet applied 80.00 20.00}]" {
		t.Error(got)
	}
	st.Log.First, st.Log.Checkpoint = 201, 200
	if x := shapeOf(time.Now(), ha.Status{Index: 200, Applied: 200}, st); len(x.Bars) != 0 || x.Label != "All 200 records are in the checkpoint." {
		t.Errorf("%+v", x)
	}
	if x := shapeOf(time.Now(), ha.Status{}, ha.Stats{}); len(x.Bars) != 0 || x.Label != "There are no records yet." {
		t.Errorf("%+v", x)
	}
}

// TestLanes: each member's time as the Active is where it was.
func TestLanes(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	x := ha.ExplainEvents([]ha.Event{
		{Time: at(0), Member: "a", Run: 1, Seq: 1, Kind: ha.EventActive, Epoch: 1},
		{Time: at(50), Member: "a", Run: 1, Seq: 2, Kind: ha.EventEnded, Epoch: 1, Cause: ha.CauseAsked},
		{Time: at(60), Member: "b", Run: 1, Seq: 1, Kind: ha.EventActive, Epoch: 2},
		{Time: at(80), Member: "b", Run: 1, Seq: 2, Kind: ha.EventEnded, Epoch: 2, Cause: ha.CauseLease},
		{Time: at(1), Member: "c", Run: 1, Seq: 1, Kind: ha.EventLeader},
	})
	all, since := lanes(at(100), x)
	if got := fmt.Sprint(all); since == "" ||
		got != "[{a a was Active 1 time, of the last 2 [{active epoch 1 0.00 50.00}]} {b b was Active 1 time, of the last 2 [{active epoch 2 60.00 20.00}]} {c c was Active 0 times, of the last 2 []}]" {
		t.Error(got)
	}
	if all, _ := lanes(at(0), ha.Explanation{}); all != nil {
		t.Error(all)
	}
}
