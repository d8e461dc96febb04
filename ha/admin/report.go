package admin

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file says the same as the page in JSON. The names of the fields stay; docs/admin.md has them all.

// A report is the body of /status.
type report struct {
	Time    time.Time         `json:"time"`
	Cluster string            `json:"cluster"`
	Member  string            `json:"member"`
	Status  ha.Status         `json:"status"`
	Members []ha.MemberStatus `json:"members"`
	Workers []ha.WorkerStatus `json:"workers"`
	Epochs  []epochReport     `json:"epochs"`
	Log     logReport         `json:"log"`
	Rates   *ratesReport      `json:"rates"`
}

type epochReport struct {
	Epoch  uint64 `json:"epoch"`
	Holder string `json:"holder"`
	First  uint64 `json:"first"`
}

// logReport is the log as this member holds it.
type logReport struct {
	First           uint64 `json:"first"`
	Checkpoint      uint64 `json:"checkpoint"`
	Applied         uint64 `json:"applied"`
	Last            uint64 `json:"last"`
	Segments        int    `json:"segments"`
	Bytes           int64  `json:"bytes"`
	Checkpoints     int    `json:"checkpoints"`
	CheckpointBytes int64  `json:"checkpoint_bytes"`
	UsedBytes       int64  `json:"used_bytes"`
	FreeBytes       int64  `json:"free_bytes"`
}

// ratesReport is about the last two seconds; what was not measured is null.
type ratesReport struct {
	Records  float64  `json:"records_per_second"`
	Append50 *float64 `json:"append_p50_seconds"`
	Append99 *float64 `json:"append_p99_seconds"`
	Write50  *float64 `json:"disk_write_p50_seconds"`
	Write99  *float64 `json:"disk_write_p99_seconds"`
	Apply50  *float64 `json:"apply_p50_seconds"`
	Apply99  *float64 `json:"apply_p99_seconds"`
	Sent     float64  `json:"sent_bytes_per_second"`
	Received float64  `json:"received_bytes_per_second"`
}

// maxEpochs is how many epochs are shown, the newest.
const maxEpochs = 100

func (h *Handler) report(now time.Time) report {
	s, st := h.node.Status(), h.node.Stats()
	r := report{
		Time: now.Round(time.Millisecond), Cluster: h.node.Cluster(), Member: s.Name, Status: s,
		Members: h.node.Members(), Workers: h.node.Workers(), Epochs: []epochReport{},
		Log: logReport{
			First: st.Log.First, Checkpoint: st.Log.Checkpoint, Applied: s.Applied, Last: s.Index,
			Segments: st.Storage.Segments, Bytes: st.Storage.Retained, Checkpoints: st.Storage.Snapshots, CheckpointBytes: st.Storage.SnapshotBytes,
			UsedBytes: st.Storage.Used, FreeBytes: st.Storage.Free,
		},
	}
	epochs := h.node.Epochs()
	for _, e := range epochs[max(0, len(epochs)-maxEpochs):] {
		r.Epochs = append(r.Epochs, epochReport{e.Epoch, e.Holder, e.First})
	}
	if x, ok := h.past.latest(); ok {
		r.Rates = &ratesReport{
			x.records, measured(x.appendHalf), measured(x.appendMost), measured(x.writeHalf), measured(x.writeMost), measured(x.applyHalf), measured(x.applyMost), x.sent, x.received,
		}
	}
	return r
}

func measured(v float64) *float64 {
	if v < 0 {
		return nil
	}
	return &v
}

func (h *Handler) serveStatus(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, h.report(time.Now()))
}

// eventsReport is the body of /events.
type eventsReport struct {
	Member    string           `json:"member"`
	Now       string           `json:"now"`
	Failovers []failoverReport `json:"failovers"`
	Events    []ha.Event       `json:"events"`
}

type failoverReport struct {
	From   string    `json:"from"`
	To     string    `json:"to"`
	Epoch  uint64    `json:"epoch"`
	Cause  string    `json:"cause"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended"`
	Detect float64   `json:"detect_seconds"`
	Fence  float64   `json:"fence_seconds"`
	Begin  float64   `json:"epoch_seconds"`
	Stand  float64   `json:"stand_seconds"`
	// Silence is how long nobody acknowledged an append, 0 if that is not known; Refused and Unknown are appends.
	Silence float64 `json:"silence_seconds"`
	Refused uint64  `json:"refused"`
	Unknown uint64  `json:"unknown"`
	Text    string  `json:"text"`
}

func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	most := -1
	if text := q.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			reply(w, http.StatusBadRequest, failure{"n is not a number of events"})
			return
		}
		most = n
	}
	x := h.explain()
	out := eventsReport{Member: h.node.Status().Name, Now: x.Now, Failovers: []failoverReport{}, Events: []ha.Event{}}
	for _, f := range x.Failovers {
		out.Failovers = append(out.Failovers, failoverReport{
			f.From, f.To, f.Epoch, f.Cause, f.Began, f.Ended,
			f.Phases.Detect.Seconds(), f.Phases.Fence.Seconds(), f.Phases.Epoch.Seconds(), f.Phases.Stand.Seconds(),
			f.Cost.Silence.Seconds(), f.Cost.Refused, f.Cost.Unknown, f.Text,
		})
	}
	member, kind := q.Get("member"), q.Get("kind")
	for _, e := range slices.Backward(x.Events) {
		if len(out.Events) == most {
			break
		}
		if (member == "" || e.Member == member) && (kind == "" || string(e.Kind) == kind) {
			out.Events = append(out.Events, e)
		}
	}
	slices.Reverse(out.Events)
	reply(w, http.StatusOK, out)
}

// failure is the body of an answer that says no.
type failure struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, code int, body any) {
	b, err := json.MarshalIndent(body, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(b, '\n')) // an error means that nobody waits for it any more
}
