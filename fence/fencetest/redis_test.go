package fencetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/redisfence"
)

// redisFence returns a fence of keys of its own, its client, and the key of a journal.
func redisFence(t testing.TB) (*redisfence.Fence, *redis.Client, string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: server(t, "FENCE_REDIS")})
	t.Cleanup(func() { client.Close() })
	name := fmt.Sprintf("{r%d_%d}", time.Now().UnixNano(), resources.Add(1))
	f, err := redisfence.New(func(ctx context.Context, script string, keys []string, args ...any) (any, error) {
		return client.Eval(ctx, script, keys, args...).Result()
	}, name+":token")
	if err != nil {
		t.Fatal(err)
	}
	return f, client, name + ":journal"
}

const push = "return redis.call('RPUSH', KEYS[1], ARGV[1])"

func redisEpochs(t testing.TB, client *redis.Client, journal string) (epochs []uint64) {
	t.Helper()
	list, err := client.LRange(t.Context(), journal, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		e, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, e)
	}
	return epochs
}

func TestRedis_Refuses(t *testing.T) {
	f, client, journal := redisFence(t)
	do := func(tok fence.Token) error {
		_, err := f.Do(t.Context(), tok, push, []string{journal}, tok.Epoch)
		return err
	}
	const large = 1<<64 - 1 // beside it 2^64-2: Lua's numbers do not tell them apart
	for _, epoch := range []uint64{7, 7, 9, 10, large} {
		if err := do(token(epoch)); err != nil {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	for _, tok := range []fence.Token{token(9), token(large - 1), {Cluster: "jobs", Epoch: large, Holder: "b"}} {
		if err := do(tok); !errors.As(err, &stale) || stale.Known != token(large) {
			t.Errorf("%s: %v", tok, err)
		}
	}
	if err := do(fence.Token{Cluster: "work", Epoch: large, Holder: "a"}); !errors.As(err, &foreign) {
		t.Errorf("another cluster: %v", err)
	}
	if got := fmt.Sprint(redisEpochs(t, client, journal)); got != "[7 7 9 10 18446744073709551615]" {
		t.Errorf("took effect: %s", got)
	}
	if v, err := f.Do(t.Context(), token(large), "return redis.call('GET', KEYS[1])", []string{journal + "-none"}); v != nil || err != nil {
		t.Errorf("a null answer: %v, %v", v, err)
	}
	if known, err := f.Raise(t.Context(), token(3)); err != nil || known != token(large) {
		t.Errorf("Raise: %v, %v", known, err)
	}
}

// Two writers race 10,000 times: the order of tokens never goes back.
func TestRedis_Race(t *testing.T) {
	f, client, journal := redisFence(t)
	var newest atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			epoch := newest.Add(1)
			for range 5000 {
				if rand.IntN(10) == 0 {
					epoch = newest.Add(1)
				}
				_, err := f.Do(t.Context(), token(epoch), push, []string{journal}, epoch)
				var stale *fence.StaleError
				if err != nil && !errors.As(err, &stale) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	inOrder(t, redisEpochs(t, client, journal))
}

// What the token costs a push to a list.
func BenchmarkRedis(b *testing.B) {
	f, client, journal := redisFence(b)
	b.Run("token=no", func(b *testing.B) {
		for b.Loop() {
			if err := client.RPush(b.Context(), journal, 1).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("token=yes", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.Do(b.Context(), token(1), push, []string{journal}, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}
