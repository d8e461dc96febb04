package fencetest

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/fence/redisfence"
	"github.com/baton-ha/baton/fence/sqlfence"
)

var (
	lateRounds = flag.Int("late.rounds", 5, "rounds of TestLate for each guard")
	lateLease  = flag.Duration("late.lease", 100*time.Millisecond, "TestLate stops the writer for three of these")
)

// lateWriter makes the test's binary a writer: guard, where, resource, token, in this variable.
const lateWriter = "FENCE_LATE_WRITER"

func TestMain(m *testing.M) {
	if job := os.Getenv(lateWriter); job != "" {
		writeOn(strings.Split(job, "|"))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// writeOn writes with its token for ever, whatever the answers are, as an Active that does not know that
// it is deposed. It prints the outcome of each write.
func writeOn(job []string) {
	guard, where, resource := job[0], job[1], job[2]
	tok, err := fence.Parse(job[3])
	var write func(context.Context, fence.Token) error
	if err == nil {
		write, err = writer(guard, where, resource)
	}
	for err == nil {
		switch e := write(context.Background(), tok); {
		case e == nil:
			_, err = fmt.Println("done")
		default:
			var stale *fence.StaleError
			_, err = fmt.Println("refused", errors.As(e, &stale), strconv.Quote(e.Error()))
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// writer returns how to write the token's epoch into a journal through a guard. A name that begins with "bare-"
// is the same without the guard.
func writer(guard, where, resource string) (func(context.Context, fence.Token) error, error) {
	name, bare := strings.CutPrefix(guard, "bare-")
	switch name {
	case "http":
		return func(_ context.Context, t fence.Token) error {
			resp, err := (&http.Client{Transport: &httpfence.Transport{Token: t}}).Post(where, "text/plain", strings.NewReader("x"))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return httpfence.Check(resp)
		}, nil
	case "redis":
		client := redis.NewClient(&redis.Options{Addr: where})
		f, err := redisfence.New(func(ctx context.Context, script string, keys []string, args ...any) (any, error) {
			return client.Eval(ctx, script, keys, args...).Result()
		}, resource+":token")
		return func(ctx context.Context, t fence.Token) error {
			if bare {
				return client.RPush(ctx, resource+":journal", t.Epoch).Err()
			}
			_, err := f.Do(ctx, t, push, []string{resource + ":journal"}, t.Epoch)
			return err
		}, err
	}
	for _, d := range databases {
		if d.name != name {
			continue
		}
		db, err := sql.Open(d.driver, where)
		if err != nil {
			return nil, err
		}
		f, err := sqlfence.New(sqlfence.Config{DB: db, Dialect: d.dialect, Resource: resource})
		j := journal{d, resource}
		return func(ctx context.Context, t fence.Token) error {
			if bare {
				return j.write(ctx, db, t.Epoch)
			}
			return f.Tx(ctx, t, func(tx *sql.Tx) error { return j.write(ctx, tx, t.Epoch) })
		}, err
	}
	return nil, fmt.Errorf("no guard %q", guard)
}

// TestLate is T3 at the guards: a real process writes in a loop, is stopped by SIGSTOP for three leases while the
// next one writes, and goes on. Nothing it writes then takes effect, at any guard, also where the guard's
// owner was restarted in between; and without the guard it does.
//
//	fence/fencetest/servers.sh run go -C fence/fencetest test -run TestLate -late.rounds=100 -timeout 1h
func TestLate(t *testing.T) {
	for _, d := range databases[:3] {
		timeout := map[string]string{"postgres": "idle_in_transaction_session_timeout=100", "mariadb": "idle_transaction_timeout=1"}[d.name]
		late3(t, d.name, func(t *testing.T) lateGuard {
			source := d.source(t)
			db := open(t, d.driver, source)
			_, j := fenced(t, d, db, sql.LevelDefault)
			if timeout != "" {
				source = with(source, timeout)
			}
			return lateGuard{source, j.table, func() []uint64 { return j.epochs(t, db) }, func() {}}
		})
	}
	late3(t, "redis", func(t *testing.T) lateGuard {
		_, client, j := redisFence(t)
		return lateGuard{server(t, "FENCE_REDIS"), strings.TrimSuffix(j, ":journal"), func() []uint64 { return redisEpochs(t, client, j) }, func() {}}
	})
	late3(t, "http", httpLate)
}

// A lateGuard is a journal behind a guard.
type lateGuard struct {
	where, resource string
	epochs          func() []uint64
	restart         func() // of the guard's owner
}

// httpLate is a service whose guard can be restarted at its address.
func httpLate(t *testing.T) lateGuard {
	var mu sync.Mutex // guards what follows
	var epochs []uint64
	var store *fence.FileStore
	var guarded http.Handler
	path := filepath.Join(t.TempDir(), "token")
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tok, err := fence.Parse(r.Header.Get(httpfence.Header))
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		epochs = append(epochs, tok.Epoch)
		w.WriteHeader(http.StatusNoContent)
	})
	restart := func() {
		mu.Lock()
		defer mu.Unlock()
		if store != nil {
			store.Close()
		}
		var err error
		if store, err = fence.OpenFileStore(path); err != nil {
			t.Error(err)
			return
		}
		guarded = &httpfence.Handler{Guard: fence.NewGuard("jobs", store), Next: next}
	}
	restart()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := guarded
		mu.Unlock()
		if strings.HasPrefix(r.URL.Path, "/bare") {
			h = next
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	where := s.URL
	if strings.Contains(t.Name(), "bare-") {
		where += "/bare"
	}
	return lateGuard{where, "-", func() []uint64 { mu.Lock(); defer mu.Unlock(); return append([]uint64(nil), epochs...) }, restart}
}

// late3 runs the rounds of one guard, and of the same without it.
func late3(t *testing.T, name string, start func(t *testing.T) lateGuard) {
	for _, name := range []string{name, "bare-" + name} {
		t.Run(name, func(t *testing.T) {
			g := start(t)
			next, err := writer(name, g.where, g.resource)
			if err != nil {
				t.Fatal(err)
			}
			bare := strings.HasPrefix(name, "bare-")
			for round := range *lateRounds {
				lateRound(t, name, g, next, uint64(2*round+1), bare)
			}
			if n := late(g.epochs()); !bare && n > 0 {
				t.Errorf("%d writes were late", n)
			} else if bare && n == 0 {
				t.Error("without the guard no write was late: this test shows nothing")
			}
		})
	}
}

func lateRound(t *testing.T, name string, g lateGuard, next func(context.Context, fence.Token) error, epoch uint64, bare bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	old := exec.Command(exe)
	old.Env = append(os.Environ(), lateWriter+"="+strings.Join([]string{name, g.where, g.resource, token(epoch).String()}, "|"))
	old.Stderr = os.Stderr
	out, err := old.StdoutPipe()
	if err == nil {
		err = old.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer old.Wait()
	defer old.Process.Kill()
	lines := bufio.NewScanner(out)
	for range 20 { // in the middle of its work
		if !lines.Scan() || lines.Text() != "done" {
			t.Fatalf("the first writer says %q", lines.Text())
		}
	}
	if err := old.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wrote := make(chan error, 1)
	go func() { wrote <- next(ctx, token(epoch+1)) }()
	wait := 30 * time.Second
	if strings.HasSuffix(name, "sqlite") {
		wait = 3 * *lateLease // nobody ends a transaction that sleeps: the next writer may have to wait for it
	}
	select {
	case err := <-wrote:
		wrote <- err
	case <-time.After(wait):
	}
	g.restart()
	time.Sleep(max(0, 3**lateLease-time.Since(stopped)))
	if err := old.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatalf("the next writer: %v", err)
	}
	// What it printed before is still in the pipe, of which it may be full: go on until it has heard that it is
	// deposed.
	for n := 0; ; n++ {
		if !lines.Scan() {
			t.Fatal("the first writer has ended")
		}
		switch {
		case strings.HasPrefix(lines.Text(), "refused true"), bare && n > 20 && late(g.epochs()) > 0:
			return
		case n == 50000:
			if !bare {
				t.Error("the first writer is not refused")
			}
			return
		}
	}
}
