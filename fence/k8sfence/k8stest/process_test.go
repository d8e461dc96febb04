package k8stest

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"k8s.io/klog/v2"
)

// childVariable makes the test's binary one of its children.
const childVariable = "K8STEST_CHILD"

// A child is what a process is told to be: one of the two.
type child struct {
	Server *apiServer
	Member *member
}

func TestMain(m *testing.M) {
	klog.SetOutput(new(discard))
	klog.LogToStderr(false)
	if text := os.Getenv(childVariable); text != "" {
		var c child
		err := json.Unmarshal([]byte(text), &c)
		go func() { // so that it does not outlive the test
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		switch {
		case err != nil:
		case c.Server != nil:
			err = c.Server.run()
		case c.Member != nil:
			err = c.Member.run()
		}
		fmt.Fprintln(os.Stderr, "child ended:", err)
		os.Exit(1)
	}
	flag.Parse()
	code, err := withServer(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// A process is a running child.
type process struct {
	*exec.Cmd
	lines chan string // what it prints; closed at its end. Somebody must read them
	stdin io.Closer
}

// spawn starts a child.
func spawn(c child) (*process, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p := &process{Cmd: exec.Command(os.Args[0], "-test.run=^$"), lines: make(chan string)}
	p.Env = append(os.Environ(), childVariable+"="+string(text))
	p.Stderr = os.Stderr
	if p.stdin, err = p.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p, nil
}

// kill kills the process with SIGKILL, if it still runs, and waits for its end. Nobody may read its lines any more.
func (p *process) kill() {
	_ = p.Process.Kill()
	for range p.lines {
	}
	_ = p.Wait()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
