package fence_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
)

func token(epoch uint64) fence.Token { return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: "a"} }

func openStore(t testing.TB, path string) *fence.FileStore {
	t.Helper()
	s, err := fence.OpenFileStore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestCheck(t *testing.T) {
	stale, foreign := new(*fence.StaleError), new(*fence.ForeignError)
	for _, c := range []struct {
		token, known string
		as           any
	}{
		{"jobs/1/a", "", nil},
		{"jobs/7/a", "jobs/7/a", nil},
		{"jobs/8/b", "jobs/7/a", nil},
		{"jobs/6/b", "jobs/7/a", stale},
		{"jobs/7/b", "jobs/7/a", stale},
		{"work/8/b", "jobs/7/a", foreign},
	} {
		var tok, known fence.Token
		if err := errors.Join(tok.UnmarshalText([]byte(c.token)), known.UnmarshalText([]byte(c.known))); err != nil {
			t.Fatal(err)
		}
		err := fence.Check(tok, known)
		if c.as == nil && err != nil || c.as != nil && !errors.As(err, c.as) {
			t.Errorf("%s where %q is known: %v", c.token, c.known, err)
		}
	}
	if err := fence.Check(fence.Token{}, fence.Token{}); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("the zero token: %v", err)
	}
}

// failing is a store whose disk is broken.
type failing struct{ fence.Store }

func (failing) Raise(context.Context, fence.Token) (fence.Token, error) {
	return fence.Token{}, os.ErrPermission
}

func TestGuardRefuses(t *testing.T) {
	ctx, none := context.Background(), func(context.Context) error { t.Error("work was done"); return nil }
	g := fence.NewGuard("jobs", new(fence.MemoryStore))
	if err := g.Admit(ctx, token(7)); err != nil {
		t.Fatal(err)
	}
	var stale *fence.StaleError
	if err := g.Do(ctx, token(6), none); !errors.As(err, &stale) || stale.Token != token(6) || stale.Known != token(7) {
		t.Errorf("a lower token: %v", err)
	}
	var foreign *fence.ForeignError
	other := fence.Token{Cluster: "work", Epoch: 8, Holder: "a"}
	if err := g.Do(ctx, other, none); !errors.As(err, &foreign) || foreign.Cluster != "jobs" {
		t.Errorf("a token of another cluster: %v", err)
	}
	if err := fence.NewGuard("jobs", new(fence.MemoryStore)).Do(ctx, other, none); !errors.As(err, &foreign) {
		t.Errorf("a token of another cluster as the first: %v", err)
	}
	if err := g.Do(ctx, fence.Token{}, none); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("no token: %v", err)
	}
	if err := fence.NewGuard("jobs", failing{}).Do(ctx, token(9), none); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a store that fails: %v", err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := g.Do(over, token(9), none); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is over: %v", err)
	}
	if err := g.Do(ctx, token(7), func(context.Context) error { return os.ErrExist }); err != os.ErrExist {
		t.Errorf("the equal token: %v", err)
	}
}

// The newer token waits until the older work has returned, and the older one is told to.
func TestGuardWaits(t *testing.T) {
	g := fence.NewGuard("jobs", new(fence.MemoryStore))
	ctx := context.Background()
	began, returned := make(chan struct{}), atomic.Bool{}
	old := make(chan error)
	go func() {
		old <- g.Do(ctx, token(1), func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			time.Sleep(20 * time.Millisecond) // work that does not stop at once
			returned.Store(true)
			return context.Cause(ctx)
		})
	}()
	<-began
	waits := make(chan error) // of an epoch between, which is superseded while it waits
	go func() {
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		waits <- g.Admit(short, token(2))
	}()
	if err := <-waits; !errors.Is(err, context.DeadlineExceeded) && !returned.Load() {
		t.Errorf("a newer token whose time is over: %v", err)
	}
	err := g.Do(ctx, token(3), func(context.Context) error {
		if !returned.Load() {
			t.Error("work of two tokens at the same time")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	var stale *fence.StaleError
	if err := <-old; !errors.As(err, &stale) || stale.Known != token(2) {
		t.Errorf("the cause of the older work's context: %v", err)
	}
}

// held is a store that answers about one token only when it is let go.
type held struct {
	fence.MemoryStore
	token    fence.Token
	asked    chan struct{}
	released chan struct{}
}

func (s *held) Raise(ctx context.Context, t fence.Token) (fence.Token, error) {
	known, err := s.MemoryStore.Raise(ctx, t)
	if t == s.token {
		close(s.asked)
		<-s.released
	}
	return known, err
}

// A newer token that comes while the store is asked about an older one.
func TestGuardOvertaken(t *testing.T) {
	s := &held{token: token(1), asked: make(chan struct{}), released: make(chan struct{})}
	g := fence.NewGuard("jobs", s)
	old := make(chan error)
	go func() { old <- g.Admit(context.Background(), token(1)) }()
	<-s.asked
	if err := g.Admit(context.Background(), token(2)); err != nil {
		t.Fatal(err)
	}
	close(s.released)
	var stale *fence.StaleError
	if err := <-old; !errors.As(err, &stale) || stale.Known != token(2) {
		t.Errorf("the older token: %v", err)
	}
}

// Two writers race for each guard, and the guards of one store with each other: what takes effect never
// goes back to a lower token, and works of two tokens are never at the same time in one guard.
func TestGuardRace(t *testing.T) {
	for _, c := range []struct {
		name   string
		rounds int
		rise   int // one call in so many brings a new epoch
		store  fence.Store
	}{
		{"memory", 10000, 4, new(fence.MemoryStore)},
		{"file", 10000, 50, openStore(t, filepath.Join(t.TempDir(), "token"))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := fence.NewGuard("jobs", c.store)
			var newest, last atomic.Uint64
			var mu sync.Mutex
			inside := map[uint64]int{} // works by epoch
			enter := func(epoch uint64, by int) {
				mu.Lock()
				defer mu.Unlock()
				if inside[epoch] += by; inside[epoch] == 0 {
					delete(inside, epoch)
				}
				if len(inside) > 1 {
					t.Errorf("works at the same time: %v", inside)
				}
			}
			newest.Store(1)
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					mine := uint64(1)
					for range c.rounds {
						if rand.IntN(c.rise) == 0 {
							mine = newest.Add(1)
						}
						err := g.Do(context.Background(), token(mine), func(context.Context) error {
							enter(mine, 1)
							defer enter(mine, -1)
							if was := last.Swap(mine); was > mine {
								t.Errorf("%d after %d", mine, was)
							}
							return nil
						})
						var stale *fence.StaleError
						if err != nil && !errors.As(err, &stale) {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if last.Load() < 2 {
				t.Error("no token was raised")
			}
		})
	}
}

func TestFileStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	s := openStore(t, path)
	if _, err := fence.OpenFileStore(path); !errors.Is(err, fence.ErrStoreInUse) {
		t.Errorf("opened twice: %v", err)
	}
	ctx := context.Background()
	for _, c := range []struct{ raise, known uint64 }{{3, 3}, {2, 3}, {3, 3}, {9, 9}} {
		if known, err := s.Raise(ctx, token(c.raise)); err != nil || known != token(c.known) {
			t.Errorf("raised to %d: %v, %v", c.raise, known, err)
		}
	}
	if b, _ := os.ReadFile(path); string(b) != "jobs/9/a db13d4cf\n" {
		t.Errorf("the file holds %q", b)
	}
	s.Close()
	if _, err := s.Raise(ctx, token(10)); !errors.Is(err, os.ErrClosed) || s.Close() != nil {
		t.Errorf("raised after Close: %v", err)
	}

	// A guard that was restarted knows what it knew.
	g := fence.NewGuard("jobs", openStore(t, path))
	var stale *fence.StaleError
	if err := g.Admit(ctx, token(8)); !errors.As(err, &stale) || stale.Known != token(9) {
		t.Errorf("a lower token after a restart: %v", err)
	}
}

// Every byte of the file counts.
func TestFileStoreDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	s := openStore(t, path)
	if _, err := s.Raise(context.Background(), token(1234)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := [][]byte{{}, append(sound, '\n')}
	for i := range sound {
		b := append([]byte(nil), sound...)
		b[i] ^= 1
		damaged = append(damaged, b, sound[:i])
	}
	for _, b := range damaged {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if s, err := fence.OpenFileStore(path); !errors.Is(err, fence.ErrStoreDamaged) {
			t.Errorf("%q: %v", b, err)
			s.Close()
		}
	}
	if err := fence.ResetFileStore(path, token(1300)); err != nil {
		t.Fatal(err)
	}
	if known, err := openStore(t, path).Raise(context.Background(), token(1)); err != nil || known != token(1300) {
		t.Errorf("after the reset: %v, %v", known, err)
	}
}

// What is left of the file at any moment of a write is the old token or the new one: a crash before the
// rename leaves a file beside it that the next write replaces.
func TestFileStoreCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path+".new", []byte("jobs/8"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, path)
	if known, err := s.Raise(context.Background(), token(5)); err != nil || known != token(5) {
		t.Errorf("%v, %v", known, err)
	}
	// A disk that fails: nothing is promised until the file has been read again.
	if err := os.Mkdir(path+".new", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Raise(context.Background(), token(6)); err == nil {
		t.Fatal("no error")
	}
	if _, err := s.Raise(context.Background(), token(5)); err == nil {
		t.Error("a store that failed goes on")
	}
}

func ExampleGuard() {
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	store, err := fence.OpenFileStore(filepath.Join(dir, "token"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()

	guard := fence.NewGuard("jobs", store)
	write := func(holder string, epoch uint64) {
		t := fence.Token{Cluster: "jobs", Epoch: epoch, Holder: holder}
		err := guard.Do(context.Background(), t, func(context.Context) error {
			fmt.Println("written by", holder)
			return nil
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	write("a", 7)
	write("b", 8)
	write("a", 7) // a was asleep
	// Output:
	// written by a
	// written by b
	// fence: token jobs/7/a is stale: jobs/8/b has been here
}

// What a guard costs: nothing, one of a token that is known, one of a token that must be stored.
func BenchmarkGuard(b *testing.B) {
	ctx := context.Background()
	work := func(context.Context) error { return nil }
	b.Run("token=no", func(b *testing.B) {
		for b.Loop() {
			if err := work(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, rise := range []bool{false, true} {
		name := "token=yes"
		if rise {
			name = "token=new"
		}
		b.Run(name, func(b *testing.B) {
			g := fence.NewGuard("jobs", openStore(b, filepath.Join(b.TempDir(), "token")))
			epoch := uint64(1)
			for b.Loop() {
				if err := g.Do(ctx, token(epoch), work); err != nil {
					b.Fatal(err)
				}
				if rise {
					epoch++
				}
			}
		})
	}
}
