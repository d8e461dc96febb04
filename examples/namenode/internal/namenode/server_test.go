package namenode

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
)

// TestTake gives a block map reports that are in order, and others.
func TestTake(t *testing.T) {
	m := newBlockMap()
	replica := func(id uint64, gone bool) dfs.Replica {
		return dfs.Replica{Block: dfs.Block{ID: id, Gen: id}, Complete: true, Gone: gone}
	}
	for _, c := range []struct {
		what     string
		report   dfs.Report
		taken    bool
		replicas int // afterwards
	}{
		{"changes of one that is not known", dfs.Report{Boot: 1, From: 0, To: 1}, false, 0},
		{"all", dfs.Report{Boot: 1, All: true, To: 2, Replicas: []dfs.Replica{replica(1, false), replica(2, false)}}, true, 2},
		{"changes", dfs.Report{Boot: 1, From: 2, To: 4, Replicas: []dfs.Replica{replica(3, false), replica(1, true)}}, true, 2},
		{"the same again", dfs.Report{Boot: 1, From: 2, To: 4, Replicas: []dfs.Replica{replica(3, false), replica(1, true)}}, false, 2},
		{"changes after some that were lost", dfs.Report{Boot: 1, From: 5, To: 6, Replicas: []dfs.Replica{replica(4, false)}}, false, 2},
		{"all, late", dfs.Report{Boot: 1, All: true, To: 3, Replicas: []dfs.Replica{replica(1, false)}}, false, 2},
		{"nothing new", dfs.Report{Boot: 1, From: 4, To: 4}, true, 2},
		{"changes after a new start", dfs.Report{Boot: 2, From: 4, To: 5, Replicas: []dfs.Replica{replica(5, false)}}, false, 2},
		{"all after a new start", dfs.Report{Boot: 2, All: true, To: 0, Replicas: []dfs.Replica{replica(2, false)}}, true, 1},
	} {
		c.report.Node = "d"
		if taken := m.take(&c.report); taken != c.taken {
			t.Errorf("%s: taken: %v", c.what, taken)
		}
		if n, _ := m.counts(map[string]string{"d": ""}, 1); n != c.replicas {
			t.Errorf("%s: %d replicas, want %d", c.what, n, c.replicas)
		}
	}
}

// TestLeases checks when a file is taken from its writer.
func TestLeases(t *testing.T) {
	l, now := newLeases(), time.Now()
	const lease = time.Hour
	for holder, age := range map[string]time.Duration{"old": 2 * time.Hour, "young": time.Minute, "closed": 2 * time.Hour} {
		l.set(holder, now.Add(-age))
	}
	l.renew("ended")
	l.end("ended")
	l.renew("beginning") // its file is not in the namespace yet
	open := []file{{Path: "/1", Holder: "old"}, {Path: "/2", Holder: "young"}, {Path: "/3", Holder: "unknown"}, {Path: "/4", Holder: "ended"}}
	check := func(began time.Time, want string) {
		t.Helper()
		got := ""
		for _, f := range l.over(open, began, lease) {
			got += f.Path
		}
		if got != want {
			t.Errorf("taken are %s, want %s", got, want)
		}
	}
	check(now, "/1/4")                     // who took over just now gives the unknown a whole lease
	check(now.Add(-2*time.Hour), "/1/3/4") // and no more
	if len(l.seen) != 4 {
		t.Errorf("remembered are %v", l.seen)
	}
}

// TestSettled checks what the last block of a dead writer becomes, by what its DataNodes have.
func TestSettled(t *testing.T) {
	there := func(n int64) *dfs.Prepared { return &dfs.Prepared{There: true, Len: n} }
	for _, c := range []struct {
		what string
		have []*dfs.Prepared // of each DataNode of the pipeline; nil: it does not answer
		len  int64           // -1: it cannot be settled now
	}{
		{"all have the same", []*dfs.Prepared{there(7), there(7)}, 7},
		{"one has more, which nobody has acknowledged", []*dfs.Prepared{there(16), there(7), there(9)}, 7},
		{"one does not answer", []*dfs.Prepared{nil, there(7)}, 7},
		{"one has lost it", []*dfs.Prepared{{}, there(7)}, 7},
		{"one has nothing yet", []*dfs.Prepared{there(0), there(7)}, 0},
		{"none has it", []*dfs.Prepared{{}, nil}, 0},
		{"nobody answers", []*dfs.Prepared{nil, nil}, -1},
	} {
		b := &dfs.Located{Block: dfs.Block{ID: 1, Gen: 2}}
		addr := map[string]string{}
		for i, p := range c.have {
			name := string(rune('a' + i))
			b.Nodes = append(b.Nodes, dfs.Node{Name: name})
			if p == nil {
				continue
			}
			mux := http.NewServeMux()
			mux.HandleFunc("POST /prepare", func(w http.ResponseWriter, r *http.Request) { reply(w, p) })
			mux.HandleFunc("POST /settle", func(w http.ResponseWriter, r *http.Request) {
				var q dfs.Settle
				if err := readJSON(w, r, &q); err != nil || !p.There || q.Len > p.Len {
					t.Errorf("%s: %s is told %+v, %v", c.what, name, q, err)
				}
				reply(w, dfs.Block{ID: q.ID, Gen: q.Recovery, Len: q.Len})
			})
			srv := httptest.NewServer(mux)
			defer srv.Close()
			addr[name] = strings.TrimPrefix(srv.URL, "http://")
		}
		a := newActive(&Server{}, nil, fence.Token{Cluster: "dfs", Epoch: 1, Holder: "a"})
		got, err := a.settle(t.Context(), addr, b, 9)
		switch {
		case c.len < 0 && err == nil, c.len >= 0 && err != nil:
			t.Errorf("%s: %+v, %v", c.what, got, err)
		case err == nil && *got != (dfs.Block{ID: 1, Gen: 9, Len: c.len}):
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}
