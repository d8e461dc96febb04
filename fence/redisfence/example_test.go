package redisfence_test

import (
	"context"
	"fmt"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/redisfence"
)

// With go-redis, eval is: return client.Eval(ctx, script, keys, args...).Result()
func ExampleFence_Do() {
	answers := []any{[]any{int64(1), "OK"}, []any{int64(0), "jobs/00000000000000000008/b"}}
	eval := func(_ context.Context, script string, keys []string, args ...any) (any, error) {
		a := answers[0] // of a server, to which b comes between the two calls
		answers = answers[1:]
		return a, nil
	}
	f, err := redisfence.New(eval, "{jobs}:token")
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 2 {
		t := fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}
		fmt.Println(f.Do(context.Background(), t, "return redis.call('SET', KEYS[1], ARGV[1])", []string{"{jobs}:state"}, "ready"))
	}
	// Output:
	// OK <nil>
	// <nil> fence: token jobs/7/a is stale: jobs/8/b has been here
}
