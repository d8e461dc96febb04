package ha

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/transport"
)

// TestWorkers_Liveness goes through what is known of a worker by what has come from it.
func TestWorkers_Liveness(t *testing.T) {
	const every, start = 100 * time.Millisecond, time.Hour
	for _, c := range []struct {
		leaves, ends bool
		after        time.Duration
		want         string
	}{
		{false, false, every, "[Alive]"},
		{false, true, every, "[Suspect]"}, // its connection has ended
		{false, false, 2 * every, "[Suspect]"},
		{false, false, 3 * every, "[Suspect]"},
		{false, false, 4 * every, "[Dead]"},
		{false, false, keepDead, "[Dead]"},
		{false, false, keepDead + 1, "[]"},
		{true, true, every, "[Left]"},
		{true, true, keepDead + 1, "[]"},
	} {
		var ws workers
		st := new(transport.Stream)
		if !ws.take(st, 1, wire.Worker{Name: "w", Every: every, Leave: c.leaves}, start) {
			t.Fatal("there is no room")
		}
		if c.ends {
			ws.ended(st, "w")
		}
		got := []Liveness{}
		for _, w := range ws.list(start + c.after) {
			got = append(got, w.liveness(start+c.after))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestWorkers_OfOneName: the later one counts, and the end of the earlier one's connection is not its. There is room for so many, and
// again when some have been gone for long.
func TestWorkers_OfOneName(t *testing.T) {
	var ws workers
	first, second := new(transport.Stream), new(transport.Stream)
	ws.take(first, 1, wire.Worker{Name: "w", Addr: "h:1", Every: time.Second}, 1)
	ws.take(second, 2, wire.Worker{Name: "w", Addr: "h:2", Every: time.Second}, 2)
	ws.ended(first, "w")
	if all := ws.list(3); len(all) != 1 || all[0].said.Addr != "h:2" || all[0].liveness(3) != Alive || all[0].since != 1 {
		t.Errorf("%+v", all)
	}
	for i := range maxWorkers - 1 {
		ws.take(first, 1, wire.Worker{Name: fmt.Sprint(i), Every: time.Second}, 4)
	}
	if ws.take(first, 1, wire.Worker{Name: "x", Every: time.Second}, 5) {
		t.Error("there is room for any number")
	}
	if !ws.take(first, 1, wire.Worker{Name: "x", Every: time.Second}, time.Hour) || len(ws.of) != 1 {
		t.Errorf("%d are kept for ever", len(ws.of))
	}
}

// TestWorkers_TakeNoTurns: the later of two of one name is listed as long as it is there, whatever the earlier one says, and then the earlier one again.
func TestWorkers_TakeNoTurns(t *testing.T) {
	said := func(addr string, leaves bool) wire.Worker {
		return wire.Worker{Name: "w", Addr: addr, Every: time.Second, Leave: leaves}
	}
	for how, end := range map[string]func(ws *workers, later *transport.Stream) time.Duration{
		"it leaves": func(ws *workers, later *transport.Stream) time.Duration {
			ws.take(later, 2, said("later", true), 4)
			return 5
		},
		"its connection ends": func(ws *workers, later *transport.Stream) time.Duration {
			ws.ended(later, "w")
			return 5
		},
		"it is dead": func(*workers, *transport.Stream) time.Duration { return time.Minute },
	} {
		var ws workers
		first, later := new(transport.Stream), new(transport.Stream)
		ws.take(first, ws.come(), said("first", false), 1)
		ws.take(later, ws.come(), said("later", false), 2)
		if !ws.take(first, 1, said("first", false), 3) {
			t.Errorf("%s: the earlier one is refused", how)
		}
		ws.take(first, 1, said("first", true), 3) // its end is not the later one's
		if all := ws.list(3); len(all) != 1 || all[0].said.Addr != "later" || all[0].liveness(3) != Alive {
			t.Errorf("%s: with both: %+v", how, all)
		}
		at := end(&ws, later)
		ws.take(first, 1, said("first", false), at)
		if all := ws.list(at); len(all) != 1 || all[0].said.Addr != "first" || all[0].liveness(at) != Alive {
			t.Errorf("%s: without the later one: %+v", how, all)
		}
	}
}

// TestWorkers_SayTooMuch: what all of them say fits into a report, however it looks as JSON; who says less again makes room.
func TestWorkers_SayTooMuch(t *testing.T) {
	var ws workers
	st := new(transport.Stream)
	loud := strings.Repeat("\x01", wire.MaxWorkerText)
	taken := 0
	for ws.take(st, 1, wire.Worker{Name: fmt.Sprint(taken), Text: loud, Every: time.Second}, 1) {
		if taken++; taken == maxWorkers {
			t.Fatal("they may say any amount")
		}
	}
	all := []WorkerStatus{}
	for _, w := range ws.list(2) {
		all = append(all, WorkerStatus{Name: w.said.Name, Text: w.said.Text, Liveness: Alive})
	}
	if b, err := json.Marshal(all); err != nil || len(b) > wire.MaxReport*3/4 || taken < 100 {
		t.Errorf("%d workers take %d bytes, %v", taken, len(b), err)
	}
	if ws.take(st, 1, wire.Worker{Name: "late", Text: loud, Every: time.Second}, 2) || !ws.take(st, 1, wire.Worker{Name: "0", Text: "quiet", Every: time.Second}, 2) ||
		!ws.take(st, 1, wire.Worker{Name: "late", Text: loud, Every: time.Second}, 2) {
		t.Error("who says less makes no room")
	}
	if !ws.take(st, 1, wire.Worker{Name: "x", Text: loud, Every: time.Second}, time.Hour) || ws.bytes != bytesOf(ws.of["x"].said) {
		t.Errorf("%d bytes of %d workers are kept for ever", ws.bytes, len(ws.of))
	}
}
