package baton_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	newcomer      = flag.Bool("docs.newcomer", false, "do README's first command and the tutorial in a root directory with nothing but Go, a shell and what the pages call; needs root, and a minute")
	newcomerTests = flag.Bool("docs.newcomer.tests", false, "there, also README's second command, go test ./...: two more minutes")
)

// newcomerTools are what a page may call besides go: the tutorial says that it needs bash and curl.
var newcomerTools = []string{"bash", "cat", "curl", "dirname", "grep", "mkdir", "rm", "sleep", "tail"}

// A room is a root directory in which there is Go and little else: no home, no cache, no git, no C compiler.
type room struct {
	t    *testing.T
	root string
	// enter is a shell script: it fills the root, where only its own processes see it, so that nothing is left of it when they end, however they do,
	// and goes there, to run a script ($2) in a directory ($1). The modules that are on this machine are not downloaded again.
	enter string
}

var libraryPath = regexp.MustCompile(`/\S+`)

func newRoom(t *testing.T) *room {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("it needs root, to change the root directory")
	}
	r := &room{t: t, root: t.TempDir()}
	for _, dir := range []string{"bin", "usr/local/go", "proc", "dev", "etc/ssl/certs", "tmp", "home", "src", "modules"} {
		r.must(os.MkdirAll(filepath.Join(r.root, dir), 0o777))
	}
	for _, tool := range newcomerTools {
		path, err := exec.LookPath(tool)
		r.must(err)
		r.copy(path, "/bin/"+tool)
		list, _ := exec.Command("ldd", path).Output() // an error where it needs none
		for _, lib := range libraryPath.FindAllString(string(list), -1) {
			r.copy(lib, lib)
		}
	}
	r.must(os.Symlink("bash", filepath.Join(r.root, "bin/sh")))
	for _, file := range []string{"/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"} {
		if _, err := os.Stat(file); err == nil {
			r.copy(file, file)
		}
	}
	goEnv := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		r.must(err)
		return strings.TrimSpace(string(out))
	}
	here, err := os.Getwd()
	r.must(err)
	r.enter = fmt.Sprintf(`set -e
mount --bind -o ro %q usr/local/go
mount --bind -o ro %q src
mount --bind -o ro %q modules
mount --rbind /dev dev
mount -t proc proc proc
exec env -i PATH=/usr/local/go/bin:/bin HOME=/home GOTOOLCHAIN=local GOPROXY=file:///modules,%s GOSUMDB=%s "$(command -v chroot)" . /bin/bash -c "cd $1; $2"
`, goEnv("GOROOT"), here, filepath.Join(goEnv("GOMODCACHE"), "cache/download"), goEnv("GOPROXY"), goEnv("GOSUMDB"))
	return r
}

func (r *room) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *room) copy(from, to string) {
	r.t.Helper()
	text, err := os.ReadFile(from)
	r.must(err)
	to = filepath.Join(r.root, to)
	r.must(os.MkdirAll(filepath.Dir(to), 0o755))
	r.must(os.WriteFile(to, text, 0o755))
}

// run runs a script in a directory of the room. What it starts ends with it, and it ends with this process.
func (r *room) run(dir, script string) (out string, err error) {
	runtime.LockOSThread() // which Pdeathsig means by the parent
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", r.enter, "room", dir, script)
	cmd.Dir = r.root
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, stderr.String())
	}
	return string(b), err
}

// TestNewcomer does what a new user does, where there is only Go: README's commands, and the tutorial from its first to its last line.
func TestNewcomer(t *testing.T) {
	if !*newcomer {
		t.Skip("see -docs.newcomer")
	}
	r := newRoom(t)
	if out, err := r.run("/", "! command -v git && ! command -v gcc && ! test -e /home/.cache"); err != nil {
		t.Fatalf("it is not empty: %v\n%s", err, out)
	}
	page, err := os.ReadFile("README.md")
	r.must(err)
	_, commands, _ := strings.Cut(string(page), "```sh\n")
	commands, _, ok := strings.Cut(commands, "```")
	const whole = "go test ./...\n"
	if !ok || !strings.HasSuffix(commands, whole) {
		t.Fatalf("README.md does not begin with its commands: %q", commands)
	}
	step := func(what string, do func() (string, error)) {
		began := time.Now()
		out, err := do()
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, out)
		}
		t.Logf("%s: %v", what, time.Since(began).Round(time.Second/10))
	}
	step("README's first command", func() (string, error) { return r.run("/src", strings.TrimSuffix(commands, whole)) })
	if *newcomerTests {
		step("its second", func() (string, error) { return r.run("/src", whole) })
	}
	step("the tutorial", func() (string, error) {
		script, expected, err := tutorial("/src")
		if err != nil {
			return "", err
		}
		out, err := r.run("/home", script)
		return out, errors.Join(err, printed(out, expected))
	})
}
