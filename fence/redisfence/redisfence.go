// Package redisfence fences keys in Redis: a Lua script that looks at the token, raises it and does the work
// in one step. It imports no client; go-redis fits like this:
//
//	eval := func(ctx context.Context, script string, keys []string, args ...any) (any, error) {
//		return client.Eval(ctx, script, keys, args...).Result()
//	}
//	f, err := redisfence.New(eval, "{jobs}:token")
//	_, err = f.Do(ctx, token, "return redis.call('SET', KEYS[1], ARGV[1])", []string{"{jobs}:state"}, "ready")
//
// # What holds
//
// Redis runs one script at a time, so nothing comes between the look at the token and the work: once work of
// a token has been done, none of an older one is, from however many clients. If the script's own work fails half-way,
// what it wrote before stays (Redis rolls nothing back), and so does the raised token.
//
// # Conditions
//
//   - The server keeps what it has answered: appendonly yes with appendfsync always for a restart after a
//     power cut. Replication is asynchronous: a replica that is promoted without the newest token lets older ones in.
//   - The token's key is not evicted (maxmemory-policy noeviction), expired or deleted.
//   - Everybody who writes the fenced keys uses the fence.
//   - In a Redis Cluster the token's key and the others share a hash tag, as {jobs} above.
package redisfence

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/baton-ha/baton/fence"
)

// Eval runs a Lua script with the command EVAL. It returns integers as int64, strings as string, arrays
// as []any and null as nil; an error of the script as an error. A null answer of the whole script does not occur.
type Eval func(ctx context.Context, script string, keys []string, args ...any) (any, error)

// A Fence guards the keys that go with one token. Safe for concurrent use, in any number of processes.
type Fence struct {
	eval Eval
	key  string
}

// New returns a fence whose token is kept in a key. It does not speak to the server. Its first token decides
// to which cluster it belongs.
func New(eval Eval, key string) (*Fence, error) {
	if eval == nil || key == "" {
		return nil, errors.New("redisfence: New needs an Eval and a key")
	}
	return &Fence{eval: eval, key: key}, nil
}

// The epoch is kept as 20 digits, so that it can be compared as a string: Lua's numbers are exact to 2^53
// only. The work has KEYS and ARGV of its own.
const guard = `local fence_known = redis.call('GET', KEYS[1])
local fence_token = ARGV[1] .. '/' .. ARGV[2] .. '/' .. ARGV[3]
if fence_known and fence_known ~= fence_token then
	local cluster, epoch = string.match(fence_known, '^([^/]+)/(%%d+)/[^/]+$')
	if cluster ~= ARGV[1] or epoch >= ARGV[2] then
		return {0, fence_known}
	end
end
if fence_known ~= fence_token then
	redis.call('SET', KEYS[1], fence_token)
end
local function fence_work(KEYS, ARGV)
%s
end
local fence_keys, fence_args = {}, {}
for i = 2, #KEYS do fence_keys[i - 1] = KEYS[i] end
for i = 4, #ARGV do fence_args[i - 3] = ARGV[i] end
return {1, fence_work(fence_keys, fence_args)}
`

// Do runs a Lua script if the token is the newest, and returns what it returns. The script sees keys as KEYS
// and args as ARGV, as if there were no fence. Scripts are cached by the server by their text: keep it
// constant and put what differs into args.
//
// The error is a *[fence.StaleError] or *[fence.ForeignError], then nothing was done; one that wraps [fence.ErrInvalid];
// or that of Eval, after which it may not be known whether the script has run.
func (f *Fence) Do(ctx context.Context, t fence.Token, script string, keys []string, args ...any) (any, error) {
	if err := fence.Check(t, fence.Token{}); err != nil {
		return nil, err
	}
	all := append([]any{t.Cluster, fmt.Sprintf("%020d", t.Epoch), t.Holder}, args...)
	answer, err := f.eval(ctx, fmt.Sprintf(guard, script), append([]string{f.key}, keys...), all...)
	if err != nil {
		return nil, fmt.Errorf("redisfence: with token %s: %w", t, err)
	}
	list, ok := answer.([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("redisfence: with token %s: the server answered %v", t, answer)
	}
	if list[0] == int64(1) {
		if len(list) < 2 {
			return nil, nil
		}
		return list[1], nil
	}
	if len(list) < 2 {
		return nil, fmt.Errorf("redisfence: with token %s: the server answered %v", t, answer)
	}
	known, err := parse(list[1])
	if err == nil {
		err = fence.Check(t, known)
	}
	if err == nil { // the script has refused what should have passed
		err = fmt.Errorf("redisfence: token %s was refused where %s is known", t, known)
	}
	return nil, err
}

// Raise implements [fence.Store], so that a [fence.Guard] can keep its token in Redis.
func (f *Fence) Raise(ctx context.Context, t fence.Token) (fence.Token, error) {
	_, err := f.Do(ctx, t, "return 1", nil)
	var stale *fence.StaleError
	switch {
	case err == nil:
		return t, nil
	case errors.As(err, &stale):
		return stale.Known, nil
	}
	return fence.Token{}, err
}

// parse reads what the key holds: the token's text form with an epoch of 20 digits.
func parse(v any) (fence.Token, error) {
	text, _ := v.(string)
	parts := strings.Split(text, "/")
	if len(parts) == 3 {
		epoch, err := strconv.ParseUint(parts[1], 10, 64)
		t := fence.Token{Cluster: parts[0], Epoch: epoch, Holder: parts[2]}
		if err == nil && t.Valid() {
			return t, nil
		}
	}
	return fence.Token{}, fmt.Errorf("%w in the key: %q", fence.ErrInvalid, text)
}
