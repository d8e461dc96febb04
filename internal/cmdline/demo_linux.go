package cmdline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// demoName is the name (argv[1]) by which this program is the service of the demonstration.
const demoName = "demo-service"

// demoChild does not return if this process is the service: it says whose it is and counts who has asked, on one port for all, so that two of them could not run.
func demoChild() {
	if len(os.Args) != 3 || os.Args[1] != demoName {
		return
	}
	fmt.Fprintln(os.Stderr, serveVisitors(os.Args[2], os.Stdin, os.Stdout))
	os.Exit(1)
}

// serveVisitors counts the visitors of an address. The number is all that there is to its state, so each new one is a snapshot.
func serveVisitors(addr string, from io.Reader, to io.Writer) error {
	var said struct {
		Snapshot int
		Active   string
		Error    string
	}
	hear := json.NewDecoder(from)
	for said.Active == "" {
		if err := hear.Decode(&said); err != nil {
			return err
		}
	}
	visitors := said.Snapshot
	var mu sync.Mutex // held while one is counted
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		said.Error = ""
		_, err := fmt.Fprintf(to, "{\"snapshot\":%d}\n", visitors+1)
		if err == nil {
			err = hear.Decode(&said)
		}
		if err != nil || said.Error != "" {
			http.Error(w, "not counted: "+said.Error, http.StatusServiceUnavailable)
			return
		}
		visitors++
		fmt.Fprintf(w, "served by %s with token %s to visitor %d\n", os.Getenv("BATON_NAME"), os.Getenv("BATON_TOKEN"), visitors)
	}))
}

// A demonstration is three agents, and the address of their service.
type demonstration struct {
	dir, service string
	agents       map[string]*exec.Cmd
}

// demo shows three agents on loopback. It ends by itself.
func demo(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "baton-demo")
	if err != nil {
		return err
	}
	d := &demonstration{dir: dir, agents: map[string]*exec.Cmd{}}
	defer os.RemoveAll(dir)
	defer d.end()
	if err := d.run(ctx); err != nil {
		for name := range d.agents {
			b, _ := os.ReadFile(filepath.Join(dir, name+".log"))
			fmt.Fprintf(os.Stderr, "--- %s\n%s", name, b)
		}
		return err
	}
	fmt.Println("All is well.")
	return nil
}

func (d *demonstration) run(ctx context.Context) error {
	addrs, err := freeAddrs(4)
	if err != nil {
		return err
	}
	d.service = addrs[3]
	self, err := os.Executable()
	if err != nil {
		return err
	}
	config := fmt.Sprintf("cluster: demo\nmembers:\n  - {name: a, addr: %q}\n  - {name: b, addr: %q}\n  - {name: c, addr: %q}\nrun: [%q, %s, %q]\ncheck: {tcp: %q}\nstate: {pipe: true}\n",
		addrs[0], addrs[1], addrs[2], self, demoName, d.service, d.service)
	if err := os.WriteFile(d.dir+"/agent.yaml", []byte(config), 0o644); err != nil {
		return err
	}
	fmt.Printf("The configuration of all three, but for name and dir:\n\n%s\n", config)
	for _, name := range []string{"a", "b", "c"} {
		if err := d.start(name); err != nil {
			return err
		}
	}
	first, err := d.served(ctx, "", time.Now())
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(p *os.Process) error
		undo func(p *os.Process) error
	}{
		{"kill -9 of its agent", func(p *os.Process) error { return p.Kill() }, nil},
		{"its agent is stopped by SIGSTOP, and so does not see its lease end", func(p *os.Process) error { return p.Signal(syscall.SIGSTOP) },
			func(p *os.Process) error { return p.Signal(syscall.SIGCONT) }},
		{"its agent is asked to end by SIGTERM", func(p *os.Process) error { return p.Signal(syscall.SIGTERM) }, nil},
	} {
		fmt.Printf("%s is Active: %s\n", first, step.what)
		agent, at := d.agents[first], time.Now()
		if err := step.do(agent.Process); err != nil {
			return err
		}
		next, err := d.served(ctx, first, at)
		if err != nil {
			return err
		}
		if step.undo != nil {
			err = step.undo(agent.Process)
		} else {
			_ = agent.Wait() // it was killed, or has ended as it should
			err = d.start(first)
		}
		if err != nil {
			return err
		}
		first = next
	}
	return nil
}

// start starts an agent, or starts it again.
func (d *demonstration) start(name string) error {
	out, err := os.OpenFile(filepath.Join(d.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	c := exec.Command("/proc/self/exe", "agent", "-config", d.dir+"/agent.yaml", "-name", name, "-dir", filepath.Join(d.dir, name))
	c.Stdout, c.Stderr = out, out
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.agents[name] = c
	return c.Start()
}

// served waits until somebody else than old serves, and says who it is.
func (d *demonstration) served(ctx context.Context, old string, since time.Time) (string, error) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if resp, err := client.Get("http://" + d.service + "/"); err == nil {
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if fields := strings.Fields(string(b)); err == nil && resp.StatusCode == http.StatusOK && len(fields) > 2 && fields[2] != old {
				fmt.Printf("  after %v: %s", time.Since(since).Round(time.Millisecond), b)
				return fields[2], nil
			}
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return "", errors.New("nobody serves within a minute")
		}
	}
}

func (d *demonstration) end() {
	for _, c := range d.agents {
		_ = c.Process.Signal(syscall.SIGCONT)
		_ = c.Process.Signal(syscall.SIGTERM)
	}
	for _, c := range d.agents {
		kill := time.AfterFunc(20*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		kill.Stop()
	}
}

// freeAddrs finds addresses on loopback below the range of outgoing connections, so that they stay free.
func freeAddrs(n int) (addrs []string, err error) {
	for port := 10_000 + os.Getpid()%10_000; len(addrs) < n; port++ {
		if port > 32_000 {
			return nil, errors.New("no free ports on 127.0.0.1")
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}
