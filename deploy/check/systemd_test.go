package check

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// unit copies a unit with its program's place changed into one where there is something.
func unit(t *testing.T, name string, change func(string) string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "/usr/local/bin/", "/usr/bin/env /usr/local/bin/")
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(change(text)), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func units(t *testing.T) (names []string) {
	t.Helper()
	paths, err := filepath.Glob("../systemd/*.service")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%d units, %v", len(paths), err)
	}
	for _, p := range paths {
		names = append(names, filepath.Base(p))
	}
	return names
}

func TestSystemd(t *testing.T) {
	analyze := need(t, "systemd-analyze", "systemd")
	verify := func(path string) string {
		out, err := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
		if err != nil {
			return fmt.Sprint(err, " ", string(out))
		}
		return string(out) // it does not take a key that it does not know for a fault
	}
	for _, name := range units(t) {
		t.Run(name, func(t *testing.T) {
			same := func(s string) string { return s }
			if out := verify(unit(t, name, same)); out != "" {
				t.Errorf("systemd-analyze verify: %s", out)
			}
			for old, planted := range map[string]string{"Restart=": "Restrat=", "Type=notify": "Type=notifies", "WatchdogSec=10": "WatchdogSec=ten", "[Service]": "[Servce]"} {
				if out := verify(unit(t, name, func(s string) string { return strings.Replace(s, old, planted, 1) })); out == "" {
					t.Errorf("%s: systemd-analyze verify says nothing", planted)
				}
			}
		})
	}
}

// A program that needs nothing of the system is let do nothing to it. Twenty is 2.0 of 10; what an agent's program does nobody knows.
func TestSystemd_Security(t *testing.T) {
	analyze := need(t, "systemd-analyze", "systemd")
	path := unit(t, "kv.service", func(s string) string { return s })
	out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=20", path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
}

// The service as systemd runs it: told when it is there, and fed its watchdog.
func TestSystemd_Notify(t *testing.T) {
	b, err := os.ReadFile("../systemd/kv.service")
	if err != nil {
		t.Fatal(err)
	}
	port := ports(t, 2)
	env := []string{fmt.Sprintf("STATE_DIRECTORY=%s", t.TempDir())}
	for _, m := range regexp.MustCompile(`(?m)^# (BATON_\w+=.*)$`).FindAllStringSubmatch(string(b), -1) {
		env = append(env, m[1]) // the example of an environment, as far as it is of this host
	}
	if len(env) != 4 {
		t.Fatalf("the unit's example has %d variables", len(env)-1)
	}
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	told := func(want string) {
		t.Helper()
		_ = manager.SetReadDeadline(time.Now().Add(patience))
		for b := make([]byte, 1000); ; {
			n, err := manager.Read(b)
			if err != nil {
				t.Fatalf("the manager was not told %s: %v", want, err)
			}
			if string(b[:n]) == want {
				return
			}
		}
	}
	env = append(env, fmt.Sprintf("BATON_MEMBERS=a=127.0.0.1:%d", port[0]), fmt.Sprintf("BATON_HTTP=127.0.0.1:%d", port[1]),
		"NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=300000")
	p := start(t, env, nil)
	told("READY=1")
	told("WATCHDOG=1")
	told("WATCHDOG=1")
	base := fmt.Sprintf("http://127.0.0.1:%d", port[1])
	set(t, base, "greeting", "hello")
	done := make(chan struct{})
	go func() { defer close(done); p.terminate(t) }()
	told("STOPPING=1")
	<-done
}
