package check

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const rulesDir = "../prometheus"

// promtool runs the rules' unit tests, over these rules.
func promtool(t *testing.T, rules string) (out string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	unit, err := os.ReadFile(filepath.Join(rulesDir, "baton.rules.test.yaml"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "baton.rules.test.yaml"), unit, 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "baton.rules.yaml"), []byte(rules), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("promtool", "test", "rules", "baton.rules.test.yaml")
	c.Dir = dir
	b, err := c.CombinedOutput()
	return string(b), err == nil
}

// ruleFile is as much of a file of rules as is looked at.
type ruleFile struct {
	Groups []struct {
		Rules []struct{ Alert, Expr string }
	}
}

// The rules' unit tests pass, and notice of each alert if it never comes, and if it always does.
func TestRules(t *testing.T) {
	tool := need(t, "promtool", "prometheus")
	for _, check := range [][]string{{"rules", "baton.rules.yaml"}, {"config", "prometheus.yaml"}} {
		c := exec.Command(tool, append([]string{"check"}, check...)...)
		c.Dir = rulesDir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool check %s: %v: %s", check, err, out)
		}
	}
	b, err := os.ReadFile(filepath.Join(rulesDir, "baton.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if out, ok := promtool(t, string(b)); !ok {
		t.Fatal(out)
	}
	var file ruleFile
	if err := yaml.Unmarshal(b, &file); err != nil || len(file.Groups) != 1 {
		t.Fatalf("%d groups, %v", len(file.Groups), err)
	}
	expr := regexp.MustCompile(`(?s)(      - alert: \w+\n.*?expr: ).*?(\n        (?:for|labels): )`)
	for _, planted := range []string{"vector(0) > 0", "vector(1)"} {
		out, _ := promtool(t, expr.ReplaceAllString(string(b), "${1}"+planted+"${2}"))
		for _, r := range file.Groups[0].Rules {
			if !strings.Contains(out, "alertname: "+r.Alert+", ") {
				t.Errorf("nothing notices that the expr of %s is %s", r.Alert, planted)
			}
		}
	}
}

// A server is a real Prometheus.
type server struct {
	*testing.T
	url   string
	began time.Time
}

func startPrometheus(t *testing.T, targets []string) *server {
	t.Helper()
	program := need(t, "prometheus", "prometheus")
	dir := t.TempDir()
	rules, err := filepath.Abs(filepath.Join(rulesDir, "baton.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\nrule_files: [%q]\nscrape_configs:\n  - job_name: kv\n    static_configs: [{targets: [%s]}]\n",
		rules, `"`+strings.Join(targets, `", "`)+`"`)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yaml"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--log.level=warn")
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if b, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("prometheus:\n%s", b)
		}
	})
	s := &server{t, "http://" + addr, time.Now()}
	eventually(t, "Prometheus is ready", func() bool {
		status, _ := ask(http.MethodGet, s.url+"/-/ready", "")
		return status == http.StatusOK
	})
	return s
}

// get asks the API.
func (s *server) get(path string, q url.Values, data any) {
	s.Helper()
	status, body := ask(http.MethodGet, s.url+"/api/v1/"+path+"?"+q.Encode(), "")
	var answer struct {
		Data     json.RawMessage
		Warnings []string
	}
	err := json.Unmarshal([]byte(body), &answer)
	if err == nil {
		err = json.Unmarshal(answer.Data, data)
	}
	if status != http.StatusOK || err != nil || len(answer.Warnings) > 0 {
		s.Errorf("%s %v: %d %v %s", path, q, status, err, body)
	}
}

// A series is one of an answer.
type series struct {
	Metric map[string]string
	Values [][2]any // time, and the value as a text
}

// ask evaluates an expression over all the time since the server began.
func (s *server) query(expr string) (found []series) {
	s.Helper()
	now := time.Now()
	var data struct{ Result []series }
	s.get("query_range", url.Values{"query": {expr}, "start": {fmt.Sprint(s.began.Unix())}, "end": {fmt.Sprint(float64(now.UnixMilli()) / 1000)}, "step": {"0.5"}}, &data)
	for _, one := range data.Result {
		if slices.ContainsFunc(one.Values, func(v [2]any) bool { return v[1] != "NaN" }) {
			found = append(found, one)
		}
	}
	return found
}

// alerts returns the states in which the alerts are, by name.
func (s *server) alerts() map[string]string {
	s.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, State, Health, LastError string }
		}
	}
	s.get("rules", nil, &data)
	all := map[string]string{}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health == "err" {
				s.Errorf("alert %s: %s", r.Name, r.LastError)
			}
			all[r.Name] = r.State
		}
	}
	return all
}

// A real Prometheus scrapes a real cluster through a failover: every query of the dashboard returns data, and the alerts notice.
func TestPrometheus(t *testing.T) {
	need(t, "prometheus", "prometheus")
	c := newCluster(t)
	var targets []string
	for _, base := range c.base {
		targets = append(targets, strings.TrimPrefix(base, "http://"))
	}
	p := startPrometheus(t, targets)
	load, stop := context.WithCancel(t.Context())
	defer stop()
	for i, base := range []string{c.base["a"], c.base["b"], c.base["c"]} {
		go func() {
			for n := 0; load.Err() == nil; n++ {
				ask(http.MethodPut, fmt.Sprintf("%s/kv/%d/%d", base, i, n%1000), strings.Repeat("x", 1000)) // fails while that one is down
			}
		}()
	}
	first := c.active("")
	for _, name := range memberNames {
		c.follows(name)
	}
	eventually(t, "nothing is wrong", func() bool {
		return p.alerts()["BatonNoActive"] == "inactive" && p.alerts()["BatonMemberDown"] == "inactive"
	})
	p.scraped()

	// The Active is killed, and stays down for a while.
	_ = c.running[first].Process.Kill()
	_ = c.running[first].Wait()
	eventually(t, "the alerts notice", func() bool {
		a := p.alerts()
		return a["BatonMemberDown"] == "pending" && a["BatonMajorityAtStake"] == "pending"
	})
	second := c.active("")
	if p.scraped(); p.alerts()["BatonNoActive"] == "firing" {
		t.Error("there is an Active, and the alert says that there is none")
	}
	// It comes back with a volume that is empty, and is healed.
	if err := os.RemoveAll(filepath.Join(c.dir, first)); err != nil {
		t.Fatal(err)
	}
	c.start(first)
	c.follows(first)

	// The next one is stopped past its lease: its role ends, and it tells of it.
	_ = c.running[second].Process.Signal(syscall.SIGSTOP)
	third := c.active(second)
	eventually(t, "it says that nothing is taken any more", func() bool { return c.shows(third, `baton_problem{kind="connection",peer="`+second+`"} 1`) })
	p.scraped()
	_ = c.running[second].Process.Signal(syscall.SIGCONT)
	c.follows(second)
	p.scraped()
	eventually(t, "all is well again", func() bool { return p.alerts()["BatonMemberDown"] == "inactive" })

	legend := regexp.MustCompile(`{{(\w+)}}`)
	span := fmt.Sprintf("%ds", int(time.Since(p.began).Seconds())+1)
	queries := 0
	for _, r := range rows() {
		for _, panel := range r.panels {
			for _, q := range panel.queries {
				queries++
				expr := strings.NewReplacer("{JOB", `{job="kv"`, "$__rate_interval", "2s", "$__range", span).Replace(q.expr)
				found := p.query(expr)
				if len(found) == 0 {
					t.Errorf("%s: %s: no data", panel.title, expr)
					continue
				}
				for _, m := range legend.FindAllStringSubmatch(q.legend, -1) {
					if !slices.ContainsFunc(found, func(s series) bool { return s.Metric[m[1]] != "" }) {
						t.Errorf("%s: %s: no series has the label %s", panel.title, expr, m[1])
					}
				}
			}
		}
	}
	t.Logf("%d queries returned data", queries)
}

// scraped waits until everything has been scraped several times more.
func (s *server) scraped() {
	s.Helper()
	rounds := func() float64 {
		var data struct{ Result []struct{ Value [2]any } }
		s.get("query", url.Values{"query": {`max(count_over_time(up{job="kv"}[10m]))`}}, &data)
		var n float64
		if len(data.Result) == 1 {
			_, _ = fmt.Sscan(fmt.Sprint(data.Result[0].Value[1]), &n)
		}
		return n
	}
	before := rounds()
	eventually(s.T, "it scrapes", func() bool { return rounds() >= before+12 })
}
