//go:build linux

package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

const whole = `
name: a
dir: /var/lib/baton/web
cluster: web
members:
  - {name: a, addr: "10.0.0.1:7000"}
  - {name: b, addr: "10.0.0.2:7000", priority: 1}
  - {name: c, addr: "10.0.0.3:7000"}
election_timeout: 1s
fence: [power, off]
fence_best_effort: true
run: [/usr/bin/web, -port, "80"]
check: {http: "http://127.0.0.1/", interval: 500ms}
health: {tcp: "127.0.0.1:22"}
addresses: [{ip: 10.0.0.100/24, device: eth0}]
announce: [dns, set]
stop_signal: SIGINT
stop_timeout: 3s
`

func TestRead(t *testing.T) {
	c, err := Read([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if n := c.node(); n.Members[1].Priority != 1 || n.DrainTimeout != 8*time.Second || !n.NoCrashEvidence || n.Health == nil || n.OnFence == nil || n.FencePolicy != ha.FenceBestEffort || n.HealthStrikes != 3 {
		t.Errorf("the member is %+v", n)
	}
	for text, want := range map[string]string{
		whole + "ruin: [x]\n":                                        "field ruin not found",
		whole + "start_timeout: 5\n":                                 "missing unit",
		whole + "start: [x]\n":                                       "start is there without stop",
		whole + "stop_timeout_: 1s\n":                                "not found",
		"name: a\n":                                                  "neither run nor start",
		"stop_signal: GO\n":                                          `stop_signal: "GO" is no signal`,
		"check: {http: x, tcp: y}\n":                                 "one of command, http and tcp",
		"check: {http: x}\n":                                         "no URL",
		"health: {tcp: x}\n":                                         "missing port",
		"addresses: [{ip: \"::1/64\", device: eth0}]\n":              "no IPv4 address",
		"addresses: [{ip: 1.2.3.4/24}]\n":                            "device: is empty",
		"tls: {key: x}\n":                                            "tls: needs",
		"run: [\"\"]\n":                                              "run: the program is empty",
		"cool_down: -1s\n":                                           "negative",
		"check: {strikes: -1}\n":                                     "not negative",
		"state: {pipe: true}\nstart: [x]\nstop: [x]\n":               "state.pipe: there is no run",
		"state: {dir: data}\n":                                       "plain absolute path",
		whole + "state: {dir: /var/lib/../lib/x}\n":                  "plain absolute path",
		whole + "state: {dir: /var/lib/baton/web/x}\n":               "is in dir, which is the agent's",
		whole + "state: {dir: /var/lib/baton}\n":                     "dir, which is the agent's, is in it",
		whole + "state: {pipe: true, every: 1s}\n":                   "state.every",
		whole + "state: {pipe: true, max_bytes: -1}\n":               "state.max_bytes",
		"dir: /" + strings.Repeat("x", 100) + "\nstate: {dir: /x}\n": "107 bytes",
	} {
		c, err := Read([]byte(text))
		if err == nil {
			err = c.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, not %q", text[max(0, len(text)-40):], err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ill":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/hang":
			<-release
		}
	}))
	defer s.Close()
	defer close(release)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		Check
		want string
	}{
		{Check{HTTP: s.URL}, ""},
		{Check{HTTP: s.URL + "/ill"}, "503"},
		{Check{HTTP: s.URL + "/hang", Timeout: Duration(20 * time.Millisecond)}, "deadline exceeded"},
		{Check{TCP: l.Addr().String()}, ""},
		{Check{TCP: "127.0.0.1:1"}, "refused"},
		{Check{Command: []string{"sh", "-c", "exit 0"}}, ""},
		{Check{Command: []string{"sh", "-c", "exit 1"}}, "exit status 1"},
		{Check{Command: []string{"/nowhere"}}, "no such file"},
		{Check{Command: []string{"sh", "-c", "sleep 1000 & wait"}, Timeout: Duration(20 * time.Millisecond)}, "deadline exceeded"},
	} {
		err := c.withDefaults().ask(context.Background())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, not %q", c.Check, err, c.want)
		}
	}
}

// What a new configuration says about the program counts from the next role on; about the member it must say the same.
func TestReload(t *testing.T) {
	first, err := Read([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	first = first.withDefaults()
	a := &agent{cfg: first, log: slog.New(slog.DiscardHandler)}
	for text, taken := range map[string]bool{
		strings.Replace(whole, "/usr/bin/web", "/usr/bin/web2", 1):                true,
		strings.Replace(whole, "stop_timeout: 3s", "stop_timeout: 2s", 1):         true,
		strings.Replace(whole, "stop_timeout: 3s", "stop_timeout: 4s", 1):         false, // the others would not wait so long
		strings.Replace(whole, "election_timeout: 1s", "election_timeout: 2s", 1): false,
		strings.Replace(whole, "10.0.0.3:7000", "10.0.0.4:7000", 1):               false,
		strings.Replace(whole, "127.0.0.1:22", "127.0.0.1:23", 1):                 false,
		strings.Replace(whole, "stop_signal: SIGINT", "stop_signal: nonsense", 1): false,
		strings.Replace(whole, "stop_signal: SIGINT", "stop_signals: SIGINT", 1):  false,
	} {
		a.next.Store(&first)
		a.reload(func() (Config, error) { return Read([]byte(text)) })
		if got := a.next.Load() != &first; got != taken {
			t.Errorf("taken %v, want %v:%s", got, taken, text)
		}
	}
}

// systemd hears what the agent is at, and the program does not find its socket.
func TestNotify(t *testing.T) {
	path := t.TempDir() + "/notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n := newNotifier()
	defer n.close()
	n.say("READY=1")
	b := make([]byte, 100)
	if k, err := l.Read(b); err != nil || string(b[:k]) != "READY=1" {
		t.Errorf("%q, %v", b[:k], err)
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		t.Error("the program would find the socket")
	}
	newNotifier().say("nobody hears it")
}

// TestDocs: docs/agent.md names every key, and its configurations can be read.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, config := range blocks(page, "yaml") {
		if _, err := Read([]byte(config)); err != nil {
			t.Errorf("%v:\n%s", err, config)
		}
	}
	_, table, _ := strings.Cut(page, "## Every key")
	var keys func(of reflect.Type)
	keys = func(of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			key := f.Tag.Get("yaml")
			if key == "" { // it is read as a whole
				continue
			}
			if !strings.Contains(table, "`"+key+"`") {
				t.Errorf("the table does not have %q", key)
			}
			switch in := f.Type; {
			case in.Kind() == reflect.Struct:
				keys(in)
			case in.Kind() == reflect.Slice && in.Elem().Kind() == reflect.Struct:
				keys(in.Elem())
			}
		}
	}
	keys(reflect.TypeFor[Config]())
}

// blocks are the pieces of a page that are in a language.
func blocks(page, language string) (list []string) {
	for _, part := range strings.Split(page, "```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		list = append(list, block)
	}
	return list
}

// The program in docs/agent.md does what the page says.
func TestDocs_Program(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3")
	}
	b, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const says = "print(\"orders:\""
	program := strings.Replace(blocks(string(b), "python")[0], says, "open(sys.argv[1], 'a').write(str(len(orders)) + ' ')\n"+says, 1)
	if err := os.WriteFile(dir+"/orders.py", []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := alone(t, dir)
	cfg.Run, cfg.State.Dir = []string{"python3", dir + "/orders.py", dir + "/words"}, ""
	for life := range 2 {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, cfg, slog.New(slog.NewTextHandler(t.Output(), nil)), nil, nil) }()
		want := []string{"3 ", "3 6 "}[life]
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			words, _ := os.ReadFile(dir + "/words")
			if string(words) == want {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the program says %q, not %q", words, want)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}
