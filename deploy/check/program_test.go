package check

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const patience = time.Minute

// need returns where a program is, and skips the test if it is not there.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("DEPLOY_NEEDED") != "":
		t.Fatalf("%v: install %s", err, pkg)
	default:
		t.Skipf("%v: install %s", err, pkg)
	}
	return path
}

// built are the programs that the Dockerfile builds, made by its own commands.
var built = sync.OnceValues(func() (dir string, err error) {
	dir, err = os.MkdirTemp("", "baton-deploy")
	if err != nil {
		return "", err
	}
	for _, run := range dockerRuns() {
		c := exec.Command("sh", "-c", "umask 022 && "+strings.ReplaceAll(run, "/out/", dir+"/"))
		c.Dir = "../.."
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%s: %w: %s", run, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// programs returns the directory with the programs, and that for data.
func programs(t *testing.T) string {
	t.Helper()
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A process is one of a member.
type process struct {
	*exec.Cmd
	out bytes.Buffer
}

// start starts the service with an environment.
func start(t *testing.T, env []string, change func(c *exec.Cmd)) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(filepath.Join(programs(t), "kv"))}
	p.Env = env
	p.Stdout, p.Stderr = &p.out, &p.out
	p.SysProcAttr = &syscall.SysProcAttr{}
	if change != nil {
		change(p.Cmd)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
		if t.Failed() {
			t.Logf("%v:\n%s", p.Args, p.out.String())
		}
	})
	return p
}

// terminate ends a process as a supervisor does, and expects that it ends in good order.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// nextPort is the port that was last given out.
var nextPort atomic.Int32

// ports finds ports on loopback, below the range of outgoing connections, so that they stay free, and each but once.
func ports(t *testing.T, n int) (list []int) {
	t.Helper()
	nextPort.CompareAndSwap(0, int32(10_000+os.Getpid()%20_000))
	for len(list) < n {
		port := int(nextPort.Add(1))
		if port > 32_000 {
			t.Fatal("no free ports")
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			list = append(list, port)
		}
	}
	return list
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// ask makes one request, and returns the status and the body; 0 if there was no answer.
func ask(method, url, body string) (status int, answer string) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	r.Close = true
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// set sets a key, at last.
func set(t *testing.T, base, key, value string) {
	t.Helper()
	eventually(t, "set "+key, func() bool {
		status, _ := ask(http.MethodPut, base+"/kv/"+key, value)
		return status == http.StatusNoContent
	})
}

// expect reads a key, at last.
func expect(t *testing.T, base, key, value string) {
	t.Helper()
	eventually(t, "read "+key, func() bool {
		status, got := ask(http.MethodGet, base+"/kv/"+key, "")
		if status == http.StatusOK && got != value {
			t.Fatalf("%s is %q, want %q", key, got, value)
		}
		return status == http.StatusOK
	})
}
