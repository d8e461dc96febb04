//go:build linux

package agent

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Helper()
	_ = os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0") // of our helpers: each would end a second later
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "t8-agent":
			end(runTestAgent(os.Args[2]))
		case "t8-service":
			end(runService(os.Args[2], os.Args[3]))
		case "t8-grandchild":
			end(hold(os.Args[2] + "/grandchild"))
		case "state-program":
			end(runProgram(os.Args[2]))
		case "t8-client":
			end(runClient(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

func end(err error) {
	fmt.Fprintln(os.Stderr, os.Args[1], err)
	os.Exit(1)
}

func runTestAgent(path string) error {
	cfg, err := ReadFile(path)
	if err != nil {
		return err
	}
	ctx, _, stop := Signals()
	defer stop()
	if err := Run(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)), nil, nil); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// runService is the worst of programs: it ignores SIGTERM, and has a grandchild that has left its session. Each of the two holds a
// lock, and says so if somebody else has it.
func runService(dir, addr string) error {
	signal.Ignore(syscall.SIGTERM)
	c := exec.Command("/proc/self/exe", "t8-grandchild", dir)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	go func() { end(hold(dir + "/service")) }()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(conn, os.Getenv("BATON_EPOCH"), os.Getenv("BATON_NAME"))
		conn.Close()
	}
}

// hold takes a lock that ends with the process, and holds it for ever.
func hold(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		two, e := os.OpenFile(path+".two", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if e == nil {
			fmt.Fprintln(two, os.Getenv("BATON_TOKEN"), err)
		}
		return fmt.Errorf("there are two: %w", err)
	}
	time.Sleep(time.Hour)
	return nil
}

// runClient asks an address again and again, and prints each answer that differs from the last one.
func runClient(addr string) error {
	for last := ""; ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if err != nil {
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		b, _ := io.ReadAll(conn)
		conn.Close()
		if text := string(b); text != "" && text != last {
			last = text
			fmt.Print(text)
		}
	}
}
