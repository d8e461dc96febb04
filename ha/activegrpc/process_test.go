//go:build unix

package activegrpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activegrpc"
	"github.com/baton-ha/baton/ha/activegrpc/follow"
)

// The test with real processes runs this very binary again, as a member.

const childVariable = "BATON_TEST_CHILD"

type child struct {
	Name, Dir string
	Members   []ha.Member
}

// childMain is a member on the listener that it was given, with a service that appends what it is called with. It ends with its standard input.
func childMain() {
	var c child
	err := json.Unmarshal([]byte(os.Getenv(childVariable)), &c)
	if err != nil {
		panic(err)
	}
	l, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		panic(err)
	}
	n, err := ha.Open(ha.Config{Name: c.Name, Dir: c.Dir, Cluster: "test", Members: c.Members, Listener: l, SharePort: true,
		Heartbeat: 25 * time.Millisecond, ElectionTimeout: 750 * time.Millisecond, Logger: quiet})
	if err != nil {
		panic(err)
	}
	s := &activegrpc.Server{Node: n}
	g := grpc.NewServer(grpc.ChainUnaryInterceptor(s.Unary), grpc.ChainStreamInterceptor(s.Stream))
	g.RegisterService((&service{unary: func(ctx context.Context, in []byte) ([]byte, error) {
		_, err := n.Append(ctx, activegrpc.Token(ctx), in)
		return []byte(c.Name), activegrpc.Status(err)
	}}).desc(), struct{}{})
	go func() { _ = g.Serve(n.Others()) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	n.Close()
}

type process struct {
	*exec.Cmd
	end io.Closer
}

func startProcess(t *testing.T, c child, l net.Listener) *process {
	t.Helper()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.ExtraFiles, cmd.Stderr = append(os.Environ(), childVariable+"="+string(text)), []*os.File{f}, os.Stderr
	end, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err := errors.Join(err, f.Close(), l.Close()); err != nil { // so that its port refuses when it is dead
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end.Close()
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Wait()
	})
	return &process{cmd, end}
}

// Plain calls of several callers go on while the Active is stopped, goes on, and the next one is killed. What was acknowledged is in the log once, and what
// has failed at most once.
func TestProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var members []ha.Member
	var addrs []string
	var listeners []net.Listener
	for _, name := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, l)
		members = append(members, ha.Member{Name: name, Addr: l.Addr().String()})
		addrs = append(addrs, l.Addr().String())
	}
	processes := map[string]*process{}
	for i, m := range members {
		processes[m.Name] = startProcess(t, child{m.Name, filepath.Join(dir, m.Name), members}, listeners[i])
	}
	c := dialCluster(t, addrs...)
	conn := following(t, follow.Active, c, follow.Config{Linger: 200 * time.Millisecond})

	const callers = 8
	load, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	acked, open := map[string]string{}, map[string]bool{} // by whom
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for i := 0; load.Err() == nil; i++ {
				id := strconv.Itoa(w) + "/" + strconv.Itoa(i)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				who, err := call(ctx, conn, id)
				cancel()
				mu.Lock()
				switch {
				case err == nil:
					acked[id] = who
				case status.Code(err) != codes.Unavailable:
					t.Errorf("call %s: %v", id, err)
				default:
					open[id] = true
				}
				mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	// served waits until somebody else has served each caller, and returns who.
	served := func(not string) (by string) {
		mu.Lock()
		before := len(acked)
		mu.Unlock()
		eventually(t, "calls go on", func() bool {
			mu.Lock()
			defer mu.Unlock()
			if len(acked) < before+10*callers {
				return false
			}
			by = c.Cluster().Active
			return by != "" && by != not
		})
		return by
	}
	first := served("")
	if err := processes[first].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	served(first)
	if err := processes[first].Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "who was stopped is back", func() bool {
		now := c.Cluster()
		m, _ := now.Find(first)
		return m.State == ha.Standby.String() || now.Active == first // again, if the machine is slow
	})
	second := served("")
	if err := processes[second].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	third := served(second)
	stop()
	wg.Wait()
	t.Logf("%s was stopped, %s was killed, %s is active: %d calls, %d of them open", first, second, third, len(acked)+len(open), len(open))
	if epochs := int(c.Cluster().Epoch); len(open) > epochs*callers {
		t.Errorf("%d calls of %d callers were under way at the ends of %d epochs", len(open), callers, epochs)
	}

	found := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if who, err := call(ctx, conn, "last"); err != nil {
		t.Fatal(who, err)
	}
	for e, err := range c.Subscribe(ctx, 1) {
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Data) == "last" {
			break
		}
		found[string(e.Data)]++
	}
	for id := range acked {
		if found[id] != 1 {
			t.Errorf("call %s was acknowledged, and is in the log %d times", id, found[id])
		}
	}
	for id, n := range found {
		if _, ok := acked[id]; n > 1 || !ok && !open[id] {
			t.Errorf("call %s is in the log %d times, acknowledged %v", id, n, ok)
		}
	}
}
