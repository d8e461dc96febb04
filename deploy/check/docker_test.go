package check

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// dockerfile reads the Dockerfile as docker build does, and returns what is noted about it.
func dockerfile(text []byte) (stages []instructions.Stage, notes []string, err error) {
	parsed, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	for _, w := range parsed.Warnings {
		notes = append(notes, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		notes = append(notes, rule+": "+message)
	}})
	stages, _, err = instructions.Parse(parsed.AST, lint)
	return stages, notes, err
}

func readDockerfile() ([]instructions.Stage, []string, error) {
	b, err := os.ReadFile("../docker/Dockerfile")
	if err != nil {
		return nil, nil, err
	}
	return dockerfile(b)
}

// dockerRuns are the commands that build what is in the image.
func dockerRuns() (runs []string) {
	stages, _, err := readDockerfile()
	if err != nil {
		return []string{"echo the Dockerfile cannot be read; false"}
	}
	for _, c := range stages[0].Commands {
		if run, ok := c.(*instructions.RunCommand); ok && strings.Contains(strings.Join(run.CmdLine, " "), "/out/") {
			runs = append(runs, strings.Join(run.CmdLine, " "))
		}
	}
	return runs
}

func TestDockerfile(t *testing.T) {
	stages, notes, err := readDockerfile()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range notes {
		t.Error(n)
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	tag := strings.TrimPrefix(stages[0].BaseName, "golang:")
	if !strings.Contains(string(mod), "\ngo "+tag+".") {
		t.Errorf("it is built with Go %s, which is not that of go.mod", tag)
	}
	final := stages[len(stages)-1]
	if len(stages) != 2 || final.BaseName != "scratch" {
		t.Fatalf("%d stages, the last of %s", len(stages), final.BaseName)
	}
	has := map[string]string{}
	for _, c := range final.Commands {
		has[c.Name()] = fmt.Sprint(c)
		if run, ok := c.(*instructions.RunCommand); ok {
			t.Errorf("there is no shell in it: %s", run)
		}
	}
	for _, want := range []string{"COPY", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT"} {
		if _, ok := has[strings.ToLower(want)]; !ok && has[want] == "" {
			t.Errorf("no %s", want)
		}
	}
	for _, bad := range []string{"FORM scratch", "FROM scratch\nUSRE 1", "FROM scratch\nCOPY one"} {
		if _, notes, err := dockerfile([]byte(bad)); err == nil && len(notes) == 0 {
			t.Errorf("%q passes", bad)
		}
	}
}

// The image, as far as it can be had without a registry: a root with nothing in it but what the last stage copies, and a user without rights.
func TestDockerfile_Scratch(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("it needs root, to change the root directory")
	}
	root := t.TempDir()
	out := programs(t)
	for _, name := range []string{"kv", "baton"} {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(root, name), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s has %.1f MiB", name, float64(len(b))/(1<<20))
	}
	data := filepath.Join(root, "data")
	for _, err := range []error{os.Mkdir(data, 0o700), os.Chown(data, nobody, nobody), os.Chmod(root, 0o555)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	runImage(t, root, []string{"/kv"})
	left, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	if names := fmt.Sprint(left); len(left) != 3 {
		t.Errorf("in the image's root: %s", names)
	}
}

// nobody is the user of the image.
const nobody = 65532

// runImage runs a member of one with nothing but the image's root, twice, and looks at it with the image's command line.
func runImage(t *testing.T, root string, entrypoint []string) {
	t.Helper()
	inside := func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		c.Dir = "/"
	}
	port := ports(t, 2)
	env := []string{"BATON_NAME=a", fmt.Sprintf("BATON_MEMBERS=a=127.0.0.1:%d", port[0]), fmt.Sprintf("BATON_HTTP=:%d", port[1])}
	base := fmt.Sprintf("http://127.0.0.1:%d", port[1])
	for i := range 2 { // the second finds what the first has kept
		p := start(t, env, func(c *exec.Cmd) { c.Path = entrypoint[0]; c.Args = entrypoint; inside(c) })
		if i == 0 {
			set(t, base, "greeting", "hello")
		}
		expect(t, base, "greeting", "hello")
		if code, _ := ask(http.MethodGet, base+"/admin/healthz", ""); code != http.StatusOK {
			t.Errorf("/admin/healthz: %d", code)
		}
		status := exec.Command("/baton", "status", "-json")
		status.Env = []string{fmt.Sprintf("BATON_ADDR=127.0.0.1:%d", port[0]), "BATON_CLUSTER=kv"}
		inside(status)
		if text, err := status.Output(); err != nil || !strings.Contains(string(text), `"Active"`) {
			t.Errorf("baton status: %v: %s", err, text)
		}
		p.terminate(t)
	}
}
