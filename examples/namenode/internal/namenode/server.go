// Package namenode is a NameNode: the namespace, which is a replicated state machine; the block map, which DataNodes report to every
// NameNode; and what the Active does: it answers clients, and commands DataNodes.
package namenode

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// A Server is what a NameNode does besides being a member. Set its Configure to a member's configuration.
type Server struct {
	// Lease is how long a writer may keep silent before its file is taken from it. 0: 60 s.
	Lease time.Duration
	// Late serves POST /late, which does what a process does that was stopped while it was Active, and does not look at the time
	// when it goes on. It is for the demonstration.
	Late bool

	names  *Namespace
	blocks *blockMap
	leases *leases
}

// Configure completes the configuration of the member that the Server belongs to.
func (s *Server) Configure(cfg *ha.Config) {
	if s.Lease == 0 {
		s.Lease = time.Minute
	}
	s.names, s.blocks, s.leases = NewNamespace(), newBlockMap(), newLeases()
	cfg.StateMachine, cfg.Handle, cfg.OnActive = s.names, s.handle, s.lead
	cfg.SharePort = true // Handler is served on the member's port
}

// handle answers a client. It runs on the Active.
func (s *Server) handle(ctx context.Context, token fence.Token, r ha.Request) ([]byte, error) {
	node := ha.FromContext(ctx)
	var q dfs.Request
	if err := json.Unmarshal(r.Data, &q); err != nil {
		return nil, &ha.CallError{Code: uint32(dfs.BadRequest), Text: err.Error()}
	}
	var a dfs.Answer
	var err error
	switch q.Op {
	case dfs.List:
		a, err = s.list(node, &q), node.Check(token)
	case dfs.Renew:
		s.leases.renew(q.Holder)
	case dfs.Recover: // the loop does the rest
		s.leases.end(s.names.holder(q.Path))
	case dfs.Create, dfs.Add, dfs.Generation, dfs.Pipeline, dfs.Abandon, dfs.Complete, dfs.Rename, dfs.Remove:
		a, err = s.change(ctx, node, token, &q, r.Known != nil)
	default:
		a = refuse(dfs.BadRequest, "%q is not for clients", q.Op)
	}
	if err != nil {
		return nil, err
	}
	if a.Code != 0 {
		return nil, &ha.CallError{Code: uint32(a.Code), Text: a.Refused}
	}
	return json.Marshal(a)
}

// list reads. That it was still the Active that has read is what handle checks afterwards: a NameNode that was stopped in between has
// nothing to say any more, however old its answer is. It is the second of HDFS's fences.
func (s *Server) list(node *ha.Node, q *dfs.Request) (a dfs.Answer) {
	a.Files, a.More = s.names.list(q.Path, q.To)
	s.blocks.locate(a.Files, alive(node))
	return a
}

// change makes an edit. One that is repeated has taken effect once, and gets the answer that it got first.
func (s *Server) change(ctx context.Context, node *ha.Node, token fence.Token, q *dfs.Request, again bool) (dfs.Answer, error) {
	nodes := alive(node)
	if q.Op == dfs.Add && !again {
		q.Nodes, q.Avoid = s.blocks.choose(s.names.replication(q.Path), nodes, q.Avoid), nil
		if len(q.Nodes) == 0 {
			return refuse(dfs.Unavailable, "%v", dfs.Unavailable), nil
		}
	}
	s.leases.renew(q.Holder)
	a, err := s.edit(ctx, node, token, q)
	if q.Op == dfs.Create {
		a.Lease = s.Lease
	}
	if a.Block != nil {
		for i, n := range a.Block.Nodes {
			a.Block.Nodes[i].Addr = nodes[n.Name]
		}
	}
	return a, err
}

// edit appends an edit, and returns the namespace's answer. The log is the first of HDFS's fences: it takes nothing of an older epoch.
func (s *Server) edit(ctx context.Context, node *ha.Node, token fence.Token, q *dfs.Request) (a dfs.Answer, err error) {
	record, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	r, err := node.AppendBatch(ctx, token, record)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(r.Answers[0], &a)
}

// alive returns the addresses of the DataNodes that are there, by name.
func alive(node *ha.Node) map[string]string {
	there := map[string]string{}
	for _, w := range node.Workers() {
		if w.Liveness == ha.Alive || w.Liveness == ha.Suspect {
			there[w.Name] = w.Addr
		}
	}
	return there
}

// Handler serves what is no call: reports of DataNodes, which every NameNode takes, and the state of this one.
func (s *Server) Handler(node *ha.Node) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /report", s.report)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.status(node)) })
	if s.Late {
		mux.HandleFunc("POST /late", func(w http.ResponseWriter, r *http.Request) { s.late(w, r, node) })
	}
	return mux
}

func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	var p dfs.Report
	if err := readJSON(w, r, &p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !s.blocks.take(&p) {
		http.Error(w, "report all", http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// A Status is what GET /status shows of one NameNode.
type Status struct {
	Name, State, Active string
	Epoch, Applied      uint64
	Files, Blocks       int      // in the namespace
	Replicas            int      // complete ones, in the block map, at DataNodes that are there
	DataNodes           []string // that are there
	Obedient            int      // of them, those that obey the Active of Epoch and nobody older, as they have reported
}

func (s *Server) status(node *ha.Node) Status {
	st, there := node.Status(), alive(node)
	out := Status{Name: st.Name, State: st.State.String(), Active: st.Active, Epoch: st.Epoch}
	out.Files, out.Blocks, out.Applied = s.names.counts()
	out.DataNodes = slices.Sorted(maps.Keys(there))
	out.Replicas, out.Obedient = s.blocks.counts(there, st.Epoch)
	return out
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) error {
	return json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<20)).Decode(into)
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body) // an error means that the client is gone
}

// Leases are when writers were last heard of, by the Active. They are in no log: who takes over gives every writer a whole lease.
type leases struct {
	mu   sync.Mutex // guards seen
	seen map[string]time.Time
}

func newLeases() *leases { return &leases{seen: map[string]time.Time{}} }

func (l *leases) renew(holder string) { l.set(holder, time.Now()) }

// end ends a lease before its time.
func (l *leases) end(holder string) { l.set(holder, time.Time{}) }

func (l *leases) set(holder string, at time.Time) {
	if holder == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[holder] = at
}

// over returns those of the open files whose writers were not heard of for the time of a lease, nor since the Active began; and forgets
// writers that hold none of them.
func (l *leases) over(open []file, began time.Time, lease time.Duration) (over []file) {
	l.mu.Lock()
	defer l.mu.Unlock()
	since, holders := time.Now().Add(-lease), map[string]time.Time{}
	for _, f := range open {
		at, ok := l.seen[f.Holder]
		if ok {
			holders[f.Holder] = at
		} else {
			at = began
		}
		if at.Before(since) {
			over = append(over, f)
		}
	}
	for holder, at := range l.seen {
		if at.After(since) { // its file may be on its way into the log
			holders[holder] = at
		}
	}
	l.seen = holders
	return over
}
