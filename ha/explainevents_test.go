package ha

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestExplainEvents: the order in which events are given is of no account, and one that is there twice counts once.
func TestExplainEvents(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, int64(ms)*1e6) }
	events := []Event{
		{Time: at(0), Member: "a", Run: 1, Seq: 1, Kind: EventOpened, Text: "opened"},
		{Time: at(100), Member: "a", Run: 1, Seq: 2, Kind: EventActive, Epoch: 1, Term: 2},
		{Time: at(1800), Member: "a", Run: 1, Seq: 3, Kind: EventEnded, Epoch: 1, Cause: CauseAsked, Text: "the role of epoch 1 ends"},
		{Time: at(0), Member: "b", Run: 1, Seq: 1, Kind: EventOpened, Text: "opened"},
		{Time: at(1900), Member: "b", Run: 1, Seq: 2, Kind: EventElected, Term: 3, Peer: "a", Cause: string(EndedHandedOver)},
		{Time: at(2000), Member: "b", Run: 1, Seq: 3, Kind: EventActive, Epoch: 2, Term: 3, Phases: &Phases{Detect: time.Second}},
	}
	want := ExplainEvents(events).String()
	if x := ExplainEvents(events); len(x.Failovers) != 2 || x.Failovers[1].Cause != CauseAsked {
		t.Fatalf("%+v", x.Failovers)
	}
	mixed := append(append([]Event(nil), events...), events...)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	given := append([]Event(nil), mixed...)
	if got := ExplainEvents(mixed).String(); got != want {
		t.Errorf("mixed, and twice:\n%s\nwant\n%s", got, want)
	}
	for i := range given {
		if mixed[i] != given[i] {
			t.Fatal("what was given is another order now")
		}
	}
}

// TestExplainEvents_ClockSetBack: the order of one member's events is theirs, whatever its clock has said.
func TestExplainEvents_ClockSetBack(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1000, int64(ms)*1e6) }
	x := ExplainEvents([]Event{
		{Time: at(500), Member: "b", Run: 1, Seq: 1, Text: "b1"},
		{Time: at(10), Member: "a", Run: 1, Seq: 3, Text: "a3"},
		{Time: at(400), Member: "a", Run: 1, Seq: 1, Text: "a1"},
		{Time: at(600), Member: "a", Run: 1, Seq: 2, Text: "a2"},
		{Time: at(700), Member: "b", Run: 1, Seq: 2, Text: "b2"},
	})
	got := ""
	for _, e := range x.Events {
		got += e.Text + " "
	}
	if want := "a1 b1 a2 a3 b2 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestPhasesInWords: each part is said from the one before, and what took no time is not.
func TestPhasesInWords(t *testing.T) {
	const ms = time.Millisecond
	for want, p := range map[string]Phases{
		"":                                 {},
		"its epoch in force within 1.06ms": {Epoch: 1060 * time.Microsecond},
		"elected 532.54ms after the leader before was heard last, its epoch in force 1.07ms later":            {Detect: 532540 * time.Microsecond, Epoch: 1070 * time.Microsecond},
		"elected 600ms after the leader before was heard last, fenced 2s later, its epoch in force 9ms later": {Detect: 600 * ms, Fence: 2 * time.Second, Epoch: 9 * ms},
		"fenced within 2s, OnStandby over and the lease there 9ms later":                                      {Fence: 2 * time.Second, Stand: 9 * ms, Epoch: time.Microsecond},
	} {
		if got := p.words(10 * time.Microsecond); got != want {
			t.Errorf("%v: %q, want %q", p, got, want)
		}
	}
}
