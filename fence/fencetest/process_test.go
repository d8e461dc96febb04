package fencetest

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// childVariable makes the test's binary one of its children.
const childVariable = "FENCE_TEST_CHILD"

// A child is what a process is told to be: one of the three.
type child struct {
	S3     *s3Server
	Owner  *owner
	Member *member
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		var c child
		err := json.Unmarshal([]byte(text), &c)
		go func() { // so that it does not outlive the test
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		switch {
		case err != nil:
		case c.S3 != nil:
			err = c.S3.run()
		case c.Owner != nil:
			err = c.Owner.run()
		case c.Member != nil:
			err = c.Member.run()
		}
		fmt.Fprintln(os.Stderr, "child ended:", err)
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(m.Run())
}

// A process is a running child.
type process struct {
	*exec.Cmd
	lines chan string // what it prints; closed at its end
	stdin io.Closer
}

// spawn starts a child, which is killed at the end of the test at the latest. Somebody must read its lines.
func spawn(t testing.TB, c child) *process {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(os.Args[0], "-test.run=^$"), lines: make(chan string)}
	p.Env = append(os.Environ(), childVariable+"="+string(text))
	p.Stderr = os.Stderr
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		go func() {
			for range p.lines {
			}
		}()
		p.kill()
	})
	return p
}

// kill kills the process with SIGKILL, if it still runs, and waits for its end.
func (p *process) kill() {
	_ = p.Process.Kill()
	_, _ = p.Process.Wait()
	_ = p.stdin.Close()
}

// await waits until somebody listens on a socket.
func await(t testing.TB, socket string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
