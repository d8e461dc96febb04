package fence

import (
	"context"
	"fmt"
	"sync"
)

// A Store remembers for a [Guard] the highest token that has been seen. [FileStore] and [MemoryStore]
// are Stores, and so are the fences of sqlfence and redisfence.
type Store interface {
	// Raise makes t the highest token if nothing is stored yet or t supersedes what is, and returns
	// what is stored afterwards. It returns nil only when that is durable. Look and write are one atomic
	// step: of calls at the same time the highest token wins. Safe for concurrent use. What is known
	// after an error is unknown: the old or the new one.
	Raise(ctx context.Context, t Token) (known Token, err error)
}

// A Guard is the receiving side of a fence: it stands before a resource and lets only the work of the
// newest token through. It is what an HDFS DataNode or JournalNode does with the epoch of a NameNode.
//
//   - The highest token is in the Store, durably, before any work of that token begins.
//   - From that moment work of lower tokens is refused.
//   - Work of a lower token that has begun is told to stop (its ctx ends with a *[StaleError] as the
//     cause), and is waited for: no work of two epochs runs at the same time, and the newer never
//     begins before the older has returned.
//
// The first two hold for all Guards of one Store, also after restarts. The third holds within one Guard:
// work of another Guard, in another process, is not waited for. What the work has handed to somebody
// else when it returns (a request on the wire, a write that nobody synced) is out of the Guard's hands.
//
// A Guard is safe for concurrent use. Works of one token run at the same time.
type Guard struct {
	cluster string
	store   Store

	mu   sync.Mutex // guards what follows
	turn *turn      // of the newest token; nil before the first
}

// A turn is the time of one token at a Guard.
type turn struct {
	token  Token
	ctx    context.Context // ends when the turn is superseded
	cancel context.CancelCauseFunc
	inside int               // works that have joined and not left; under the Guard's mu
	ended  chan struct{}     // closed when superseded and nobody is inside
	before []<-chan struct{} // ended of older turns that had not ended when this one began
}

// NewGuard returns the guard of a resource that belongs to a cluster. Tokens of other clusters are
// refused. A name that is not a [ValidName] refuses all.
func NewGuard(cluster string, store Store) *Guard {
	return &Guard{cluster: cluster, store: store}
}

// Do runs work if the token is the newest. It blocks while the store is written and while work of older
// tokens ends, at most until ctx is over. The ctx of work is ctx, and ends also when a newer token
// comes, with a *[StaleError] as its cause; work should return then, because the newer one waits for it.
//
// The error is work's own; or work was not called, and it is a *[StaleError], a *[ForeignError], one that
// wraps [ErrInvalid], the Store's, or the cause of ctx.
func (g *Guard) Do(ctx context.Context, t Token, work func(ctx context.Context) error) error {
	turn, err := g.join(ctx, t)
	if err != nil {
		return err
	}
	defer g.leave(turn)
	for _, b := range turn.before {
		select {
		case <-b:
		case <-turn.ctx.Done():
			return context.Cause(turn.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(turn.ctx, func() { cancel(context.Cause(turn.ctx)) })
	defer stop()
	return work(ctx)
}

// Admit is [Guard.Do] without work: when it returns nil, the token is the newest, is durable, and the
// works of older tokens have ended. What the caller does afterwards can be late, if a newer token comes
// in between.
func (g *Guard) Admit(ctx context.Context, t Token) error {
	return g.Do(ctx, t, func(context.Context) error { return nil })
}

// join raises the store to t and enters t's turn.
func (g *Guard) join(ctx context.Context, t Token) (*turn, error) {
	switch {
	case !t.Valid():
		return nil, Check(t, Token{})
	case t.Cluster != g.cluster:
		return nil, &ForeignError{Token: t, Cluster: g.cluster}
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	known, err := g.store.Raise(ctx, t) // not under mu: it may be a disk or a database
	if err != nil {
		return nil, fmt.Errorf("fence: raise to %s: %w", t, err)
	}
	if err := Check(t, known); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch old := g.turn; {
	case old != nil && old.token == t:
	case old != nil && !t.Supersedes(old.token): // a newer one was here since Raise
		return nil, &StaleError{Token: t, Known: old.token}
	default:
		g.turn = newTurn(t, old)
	}
	g.turn.inside++
	return g.turn, nil
}

// newTurn ends the old turn, which may be nil. Under mu.
func newTurn(t Token, old *turn) *turn {
	n := &turn{token: t, ended: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	if old == nil {
		return n
	}
	old.cancel(&StaleError{Token: old.token, Known: t})
	if old.inside == 0 {
		close(old.ended)
	}
	for _, b := range append(old.before, old.ended) {
		select {
		case <-b:
		default:
			n.before = append(n.before, b)
		}
	}
	return n
}

func (g *Guard) leave(t *turn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.inside--
	if t.inside == 0 && g.turn != t {
		close(t.ended)
	}
}
