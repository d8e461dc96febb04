package metrics

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

var rewrite = flag.Bool("rewrite", false, "write docs/metrics.md anew")

// TestTable compares docs/metrics.md with the code. After a change that is meant: go test ./ha/metrics -rewrite
func TestTable(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Metrics

What package [ha/metrics](../ha/metrics) shows of a member to Prometheus. Base units; counters begin at 0 with ` + "`ha.Open`" + `. Histograms have exponential buckets (native
histograms) and, for whoever does not collect those, a few of fixed bounds.

All is counted anyway, and nothing more is done between two scrapes. A scrape takes 1.2 ms of a processor, on both sides of it together
(` + "`cd benchmarks && go test -run '^$' -bench Scrape`" + `): once a second that is 0.06 % of two processors, and 0.2 % where three members in one process are scraped. Of the appends, scraped a hundred times a second,
three members in one process lose 20 to 23 % with 1, 64 and 1,024 writers (` + "`-bench Metrics/./writers=/scrapes=100`" + `): once a second 0.2 %.

| Name | Kind | Labels | What it is |
|---|---|---|---|
`)
	for _, f := range families {
		labels := ""
		for i, l := range f.labels {
			if i > 0 {
				labels += ", "
			}
			labels += "`" + l + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.name, f.kind, labels, f.help)
	}
	file := filepath.Join("..", "..", "docs", "metrics.md")
	if *rewrite {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != b.String() {
		t.Errorf("docs/metrics.md is not what there is (%v): go test ./ha/metrics -rewrite", err)
	}
}

const maxRecord = 1 << 10

// open opens a member, alone or one of two of which the other is not there.
func open(t *testing.T, others ...ha.Member) *ha.Node {
	t.Helper()
	n, err := ha.Open(ha.Config{
		Name: "a", Dir: filepath.Join(t.TempDir(), "a"), Cluster: "metrics", Members: append([]ha.Member{{Name: "a", Addr: loopback.Addr(t)}}, others...),
		MaxRecord: maxRecord, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func gather(t *testing.T, n *ha.Node) map[string]*dto.MetricFamily {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(New(n))
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	byName := map[string]*dto.MetricFamily{}
	for _, f := range got {
		byName[f.GetName()] = f
	}
	return byName
}

// TestMetrics appends, and finds it all in the metrics.
func TestMetrics(t *testing.T) {
	n := open(t)
	deadline := time.Now().Add(30 * time.Second)
	for n.Status().State != ha.Active && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	token := n.Status().Token
	const records = 100
	for range records {
		if _, err := n.Append(t.Context(), token, []byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.Append(t.Context(), token, make([]byte, maxRecord+1)); err == nil {
		t.Fatal("a record that is too large is taken")
	}
	got := gather(t, n)
	for name, want := range map[string]float64{
		"baton_epoch": 1, "baton_has_active": 1, "baton_elections_won_total": 1, "baton_index": records, "baton_applied_index": records, "baton_lag_records": 0,
	} {
		if m := got[name].GetMetric(); len(m) != 1 || m[0].GetGauge().GetValue()+m[0].GetCounter().GetValue() != want {
			t.Errorf("%s: %v, want %v", name, m, want)
		}
	}
	label := func(name, value string) *dto.Metric {
		for _, m := range got[name].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == value {
					return m
				}
			}
		}
		t.Errorf("%s{%s} is not there", name, value)
		return nil
	}
	if label("baton_state", "Active").GetGauge().GetValue() != 1 || label("baton_state", "Standby").GetGauge().GetValue() != 0 {
		t.Error("the state is wrong")
	}
	if v := label("baton_appends_total", "appended").GetCounter().GetValue(); v != records {
		t.Errorf("%v appended", v)
	}
	if v := label("baton_appends_total", "failed").GetCounter().GetValue(); v != 1 {
		t.Errorf("%v failed", v)
	}
	for name, sum := range map[string]float64{"baton_batch_records": records, "baton_commit_seconds": 0, "baton_disk_write_seconds": 0} {
		h := got[name].GetMetric()[0].GetHistogram()
		if sum != 0 && h.GetSampleSum() != sum || h.GetSampleSum() <= 0 || h.GetSampleCount() == 0 {
			t.Errorf("%s: %v values, sum %v", name, h.GetSampleCount(), h.GetSampleSum())
		}
		last := uint64(0)
		for _, b := range h.GetBucket() {
			if b.GetCumulativeCount() < last {
				t.Errorf("%s: buckets are not cumulative: %v", name, h.GetBucket())
			}
			last = b.GetCumulativeCount()
		}
		total, sum := int64(h.GetZeroCount()), int64(0)
		for _, delta := range h.GetPositiveDelta() {
			sum += delta
			total += sum
		}
		if uint64(total) != h.GetSampleCount() || last != h.GetSampleCount() {
			t.Errorf("%s: %d in exponential buckets and %d in fixed ones, of %d", name, total, last, h.GetSampleCount())
		}
	}
	if h := got["baton_batch_records"].GetMetric()[0].GetHistogram(); h.GetBucket()[0].GetUpperBound() != 1 || h.GetBucket()[0].GetCumulativeCount() == 0 {
		t.Errorf("batches of one: %v", h.GetBucket()[0])
	}
}

// TestMetrics_Peers: each peer and each lane has its own.
func TestMetrics_Peers(t *testing.T) {
	n := open(t, ha.Member{Name: "b", Addr: "127.0.0.1:9"})
	got := gather(t, n)
	for name, want := range map[string]int{"baton_peer_connected": 2, "baton_member_lag_records": 2, "baton_peer_snapshot_sent_bytes_total": 1} {
		if m := got[name].GetMetric(); len(m) != want {
			t.Errorf("%s: %v", name, m)
		}
	}
	if v := got["baton_has_active"].GetMetric()[0].GetGauge().GetValue(); v != 0 {
		t.Errorf("somebody is active: %v", v)
	}
}

// TestMetrics_Several: members in one process are told apart as the package's documentation says.
func TestMetrics_Several(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	for _, name := range []string{"one", "other"} {
		prometheus.WrapRegistererWith(prometheus.Labels{"of": name}, r).MustRegister(New(open(t)))
	}
	got, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) < len(families)/2 {
		t.Errorf("%d families", len(got))
	}
}
