package ha

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/internal/wire"
	"github.com/baton-ha/baton/transport"
)

// This file is the list of those who are no members and have announced themselves (client.Announce): workers, gateways, whatever belongs to
// the service. They tell each member, as the members tell each other, so that all have the same list and nobody has to keep it: it is the
// browse list of a network of services, and the block reports of HDFS, which go to all NameNodes.

// A WorkerStatus is what is known of a program that is no member and has announced itself.
type WorkerStatus struct {
	// Name, Addr and Text are what it says of itself. Of two of one name it is the one that came later.
	Name, Addr, Text string
	// Liveness is alive, suspect, dead or left, by the same rule as that of a member and by the interval that it has named.
	Liveness Liveness
	// Since is when it came, Heard when it said something last, by this member's clock on the wall.
	Since, Heard time.Time
}

// MarshalJSON writes it with lower-case names.
func (w WorkerStatus) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name     string    `json:"name"`
		Addr     string    `json:"addr"`
		Text     string    `json:"text,omitempty"`
		Liveness Liveness  `json:"liveness"`
		Since    time.Time `json:"since"`
		Heard    time.Time `json:"heard"`
	}{w.Name, w.Addr, w.Text, w.Liveness, w.Since, w.Heard})
}

// Bounds of the list of workers: how many, and bytes of all that they say, as JSON, so that a report has room for it beside everything else
// (wire.MaxReport). Who is dead, or has left, is listed for a while.
const (
	maxWorkers = 4096
	maxSaid    = wire.MaxReport / 2
	keepDead   = 10 * time.Minute
)

// workers are those who have announced themselves.
type workers struct {
	mu    sync.Mutex // guards what follows; held for looking up and taking notes
	of    map[string]*worker
	bytes int // of what they say

	streams uint64 // that have come
}

type worker struct {
	said   wire.Worker
	bytes  int           // of that
	since  time.Duration // on this member's clock
	at     time.Duration
	stream *transport.Stream // on which it speaks; nil: on none
	came   uint64            // the number of that
}

func (w *worker) liveness(now time.Duration) Liveness {
	if w.said.Leave {
		return Left
	}
	return livenessOf(now-w.at, w.said.Every, w.stream != nil)
}

// Workers returns the programs that are no members and have announced themselves, by name: those that are there, and for ten minutes
// those that were. It never blocks.
func (n *Node) Workers() []WorkerStatus {
	now, wall := n.clock(), time.Now()
	all := []WorkerStatus{}
	for _, w := range n.workers.list(now) {
		all = append(all, WorkerStatus{
			Name: w.said.Name, Addr: w.said.Addr, Text: w.said.Text, Liveness: w.liveness(now),
			Since: wall.Add(w.since - now).Round(0), Heard: wall.Add(w.at - now).Round(0),
		})
	}
	return all
}

// list returns them by name, and forgets who has been gone for long.
func (ws *workers) list(now time.Duration) []worker {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.forgetLocked(now)
	var all []worker
	for _, w := range ws.of {
		all = append(all, *w)
	}
	slices.SortFunc(all, func(a, b worker) int { return cmp.Compare(a.said.Name, b.said.Name) })
	return all
}

func (ws *workers) forgetLocked(now time.Duration) {
	maps.DeleteFunc(ws.of, func(_ string, w *worker) bool {
		l := w.liveness(now)
		over := (l == Dead || l == Left) && now-w.at > keepDead
		if over {
			ws.bytes -= w.bytes
		}
		return over
	})
}

// bytesOf is how much a worker says, as JSON.
func bytesOf(said wire.Worker) int {
	b, _ := json.Marshal([...]string{said.Name, said.Addr, said.Text}) // strings always can
	return len(b)
}

// roomLocked reports whether there is room for what a worker says in the place of what it has said before.
func (ws *workers) roomLocked(said wire.Worker, bytes int) bool {
	w := ws.of[said.Name]
	if w == nil {
		return len(ws.of) < maxWorkers && ws.bytes+bytes <= maxSaid
	}
	return bytes <= w.bytes || ws.bytes-w.bytes+bytes <= maxSaid
}

// come numbers a stream on which a worker will speak.
func (ws *workers) come() uint64 {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.streams++
	return ws.streams
}

// take notes what a worker says on a stream, which has come with that number. It reports whether there was room for it. While one that came later
// is there under the same name it is the one that is listed: they do not take turns.
func (ws *workers) take(st *transport.Stream, came uint64, said wire.Worker, now time.Duration) bool {
	bytes := bytesOf(said)
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.of[said.Name]; w != nil && w.stream != nil && w.came > came {
		if l := w.liveness(now); l == Alive || l == Suspect {
			return true
		}
	}
	if !ws.roomLocked(said, bytes) {
		if ws.forgetLocked(now); !ws.roomLocked(said, bytes) {
			return false
		}
	}
	w := ws.of[said.Name]
	if w == nil {
		if ws.of == nil {
			ws.of = make(map[string]*worker)
		}
		w = &worker{said: said, since: now, at: now}
		ws.of[said.Name] = w
	}
	ws.bytes, w.bytes = ws.bytes-w.bytes+bytes, bytes
	if l := w.liveness(now); w.stream != st && (l == Dead || l == Left) {
		w.since = now
	}
	w.said, w.at, w.stream, w.came = said, now, st, came
	return true
}

// ended notes that a stream has.
func (ws *workers) ended(st *transport.Stream, name string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.of[name]; w != nil && w.stream == st {
		w.stream = nil
	}
}

// serveWorkers takes what a worker says of itself. All on one stream is of one of them.
func (n *Node) serveWorkers(_ context.Context, st *transport.Stream) error {
	name, came := "", n.workers.come()
	defer func() { n.workers.ended(st, name) }()
	for {
		b, err := st.Recv(wire.MaxWorker)
		if err != nil {
			return nil // it has ended; who speaks begins again
		}
		said, err := wire.ParseWorker(b)
		switch {
		case err != nil:
			return &transport.StreamError{Code: wire.CodeMalformed, Text: err.Error()}
		case said.Name == "", name != "" && said.Name != name:
			return &transport.StreamError{Code: wire.CodeMalformed, Text: "a worker has one name"}
		}
		name = said.Name
		said.Addr, said.Text = strings.ToValidUTF8(said.Addr, ""), strings.ToValidUTF8(said.Text, "")
		if !n.workers.take(st, came, said, n.clock()) {
			return &transport.StreamError{Code: transport.StreamBusy, Text: "there are too many workers, or they say too much"}
		}
		if err := st.Send(nil); err != nil {
			return nil
		}
	}
}
