package ha

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/storage"
)

// TestExplain_Words lets two members say different things, and looks at what is made of it (T22).
func TestExplain_Words(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, int64(ms)*1e6) }
	type said struct {
		ms     int
		member string
		Event
	}
	// a is active in epoch 1 from 100 ms on, b in epoch 2 from 2 s on.
	active := func(e Event) Event {
		e.Kind, e.Phases = EventActive, &Phases{Detect: 600 * time.Millisecond, Epoch: time.Millisecond}
		return e
	}
	elected := func(cause Ending) said {
		return said{1900, "b", Event{Kind: EventElected, Term: 3, Peer: "a", Cause: string(cause), Text: "elected in term 3"}}
	}
	ended := func(ms int, cause string) said {
		return said{ms, "a", Event{Kind: EventEnded, Epoch: 1, Term: 2, Cause: cause, Text: "the role of epoch 1 ends"}}
	}
	obstacle := func(ms int, kind EventKind, cause ObstacleKind) said {
		return said{ms, "a", Event{Kind: kind, Cause: string(cause), Text: "obstacle " + string(cause)}}
	}
	for name, c := range map[string]struct {
		events []said
		want   string
		began  int
	}{
		"killed":              {[]said{elected(EndedGone)}, string(EndedGone), 1300},
		"cable cut, no word":  {[]said{elected(EndedLease)}, string(EndedLease), 1300},
		"cut off":             {[]said{elected(EndedLease), ended(1700, CauseLease)}, CauseLease, 1700},
		"deposed":             {[]said{elected(EndedLease), ended(1950, CauseDeposed)}, CauseDeposed, 1950},
		"handed over":         {[]said{ended(1800, CauseAsked), elected(EndedHandedOver)}, CauseAsked, 1800},
		"slow to end":         {[]said{ended(1800, CauseAsked), elected(EndedHandedOver), {1890, "a", Event{Kind: EventReturned, Epoch: 1, Term: 2}}}, CauseAsked, 1800},
		"closed":              {[]said{ended(1800, CauseClosed), elected(EndedHandedOver)}, CauseClosed, 1800},
		"unhealthy":           {[]said{ended(1800, CauseUnhealthy), elected(EndedHandedOver)}, CauseUnhealthy, 1800},
		"disk stalled":        {[]said{obstacle(1400, EventObstacle, ObstacleDiskStalled), ended(1700, CauseLease), elected(EndedLease)}, "disk-stalled", 1700},
		"disk stalled before": {[]said{obstacle(300, EventObstacle, ObstacleDiskStalled), obstacle(900, EventObstacleOver, ObstacleDiskStalled), ended(1700, CauseLease), elected(EndedLease)}, CauseLease, 1700},
		"apply stalled":       {[]said{obstacle(1400, EventObstacle, ObstacleApplyStalled), ended(1700, CauseLease), elected(EndedLease)}, "apply-stalled", 1700},
		"stopped and woken":   {[]said{elected(EndedLease), ended(2500, CauseLease), obstacle(2600, EventObstacle, ObstacleStarved)}, "starved", 1300},
		"stopped for long":    {[]said{elected(EndedLease), ended(3500, CausePaused), obstacle(3400, EventObstacle, ObstacleDiskStalled)}, CausePaused, 1300},
		"loop stands":         {[]said{obstacle(1500, EventObstacle, ObstacleLoop), ended(2500, CauseDeposed), elected(EndedLease)}, "loop", 1300},
		"slow for a while":    {[]said{obstacle(1500, EventObstacle, ObstacleDiskFull), ended(1700, CauseLease), elected(EndedLease)}, CauseLease, 1700},
		"nobody knows":        {[]said{{1900, "b", Event{Kind: EventElected, Term: 3, Peer: "c", Cause: string(EndedHandedOver)}}}, string(EndedUnknown), 2000},
	} {
		all := append([]said{
			{0, "a", Event{Kind: EventOpened, Text: "opened"}}, {0, "b", Event{Kind: EventOpened, Text: "opened"}},
			{100, "a", active(Event{Epoch: 1, Term: 2})}, {2000, "b", active(Event{Epoch: 2, Term: 3})},
		}, c.events...)
		var events []Event
		for i, s := range all {
			s.Event.Time, s.Event.Member, s.Event.Seq, s.Event.Run = at(s.ms), s.member, uint64(s.ms*10+i+1), 1
			events = append(events, s.Event)
		}
		x := explain(events)
		if len(x.Failovers) != 2 {
			t.Errorf("%s: %d failovers", name, len(x.Failovers))
			continue
		}
		f := x.Failovers[1]
		if f.From != "a" || f.To != "b" || f.Cause != c.want || !f.Began.Equal(at(c.began)) || !f.Ended.Equal(at(2000)) {
			t.Errorf("%s: from %s to %s because of %s (want %s), since %d ms (want %d): %s", name, f.From, f.To, f.Cause, c.want,
				f.Began.Sub(at(0)).Milliseconds(), c.began, f.Text)
		}
		advice := "a shorter ElectionTimeout"
		switch e := all[len(all)-1]; { // nobody waits for a sign of life of one that hands on
		case e.Kind == EventReturned:
			advice = "waiting for OnActive to return, 90ms"
		case e.Cause == string(EndedHandedOver):
			advice = "Nothing of this took long"
		}
		if !strings.Contains(f.Text, advice) || !strings.Contains(x.Now, "b is Active in epoch 2") {
			t.Errorf("%s: %s %s", name, f.Text, x.Now)
		}
	}
}

// TestExplain_WithoutItsEvents: of the Active that is gone there are no events, and the others have seen its epoch.
func TestExplain_WithoutItsEvents(t *testing.T) {
	at := time.Unix(1000, 0)
	x := ExplainEvents([]Event{
		{Time: at, Member: "b", Run: 1, Seq: 1, Kind: EventEpoch, Epoch: 1, Term: 2, Peer: "a"},
		{Time: at.Add(time.Second), Member: "b", Run: 1, Seq: 2, Kind: EventElected, Term: 3, Peer: "a", Cause: string(EndedGone), Text: "a's process is gone"},
		{Time: at.Add(2 * time.Second), Member: "b", Run: 1, Seq: 3, Kind: EventActive, Epoch: 2, Term: 3, Phases: &Phases{Detect: time.Millisecond}},
	})
	if len(x.Failovers) != 1 || x.Failovers[0].From != "a" || x.Failovers[0].Cause != string(EndedGone) {
		t.Errorf("%+v", x.Failovers)
	}
}

// TestEventFiles: events outlive what writes them, the oldest go first, and what was written by half is passed over.
func TestEventFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Explain(dir); err == nil {
		t.Error("a directory without events was explained")
	}
	var r recorder
	text := strings.Repeat("x", 10<<10)
	for i := range 400 {
		r.record(Event{Kind: EventOpened, Text: text})
		if i%10 == 9 {
			if err := r.write(filepath.Join(dir, storage.EventsDir)); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, storage.EventsDir, eventFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":"2026-`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	events, err := readEvents(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(events); n < 100 || n > 210 || events[n-1].Seq != 400 || events[0].Seq != uint64(400-n+1) {
		t.Errorf("%d events, %d to %d", n, events[0].Seq, events[n-1].Seq)
	}
	for i := range 3 * maxEvents { // nobody writes
		r.record(Event{Seq: uint64(i)})
	}
	if kept, _ := r.after(0); len(kept) != maxEvents || kept[maxEvents-1].Seq != 400+3*maxEvents {
		t.Errorf("%d events are kept", len(kept))
	}
	if kept, _ := r.after(400 + 3*maxEvents - 2); len(kept) != 2 {
		t.Errorf("after the last but two there are %d events", len(kept))
	}
	if err := r.write(filepath.Join(dir, storage.EventsDir)); err == nil || !strings.Contains(err.Error(), "2048 events were not written") {
		t.Errorf("events that had to be dropped: %v", err)
	}
	// What cannot be written now is written later.
	for i := range maxEvents + 1 {
		r.record(Event{Kind: EventOpened})
		if i < 2 {
			if err := r.write(filepath.Join(dir, storage.EventsDir, eventFile)); err == nil {
				t.Error("events were written into a file as if that were a directory")
			}
		}
	}
	if err := r.write(filepath.Join(dir, storage.EventsDir)); err == nil || !strings.Contains(err.Error(), "1 events were not written") {
		t.Errorf("of those that waited: %v", err)
	}
	events, err = readEvents(dir)
	if n := len(events); err != nil || events[n-1].Seq != 400+4*maxEvents || events[n-maxEvents].Seq != 400+3*maxEvents+1 {
		t.Errorf("%d events, the last is %d: %v", n, events[n-1].Seq, err)
	}
}
