package fencetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// A member is a process of the cluster. While it is the Active it writes through every guard, and goes on after its role
// has ended, as one that does not look: through a guard until it is refused, and without one for a few writes more.
//
// It prints "R EPOCH" when it is the Active, "W EPOCH GUARD" when the first write of an epoch was done, "S EPOCH GUARD" when the guard has
// refused one as stale, "L EPOCH GUARD text" when something late was found, "X EPOCH GUARD" when a writer without a guard has ended, and
// "A EPOCH text" for what the cluster says to an append with the token of a role that has ended.
type member struct {
	Name, Dir string
	Members   []ha.Member
	Targets   map[string]target
}

// bareWrites is how many writes one without a guard does after its role has ended.
const bareWrites = 30

func (m *member) run() error {
	writers := map[string]write{}
	for guard, at := range m.Targets {
		w, err := writer(guard, at)
		if err != nil {
			return fmt.Errorf("%s: %w", guard, err)
		}
		writers[guard] = w
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one write each
	}
	n, err := ha.Open(ha.Config{
		Name: m.Name, Dir: m.Dir, Cluster: "t3", Members: m.Members, Logger: slog.New(slog.DiscardHandler),
		OnActive: func(ctx context.Context, t fence.Token) error {
			say("R %d", t.Epoch)
			for guard, w := range writers {
				go writeOn(ctx, guard, w, t, say)
			}
			<-ctx.Done()
			n := ha.FromContext(ctx)
			go func() {
				_, err := n.Append(context.Background(), t, []byte("late"))
				switch {
				case err == nil:
					say("A %d accepted", t.Epoch)
				case errors.Is(err, ha.ErrUnknown):
					say("A %d unknown", t.Epoch)
				default:
					say("A %d refused", t.Epoch)
				}
			}()
			return nil
		},
	})
	if err != nil {
		return err
	}
	defer n.Close()
	select {} // the test kills it
}

// writeOn writes through one guard.
func writeOn(role context.Context, guard string, w write, t fence.Token, say func(string, ...any)) {
	isBare := len(guard) > len(bare) && guard[:len(bare)] == bare
	wrote, after := false, 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := w(ctx, t)
		cancel()
		var stale *fence.StaleError
		switch {
		case err == nil && !wrote:
			wrote = true
			say("W %d %s", t.Epoch, guard)
		case errors.Is(err, errLate):
			say("L %d %s %q", t.Epoch, guard, err)
		case errors.As(err, &stale):
			say("S %d %s", t.Epoch, guard)
			return
		}
		if isBare && role.Err() != nil {
			if after++; after > bareWrites {
				say("X %d %s", t.Epoch, guard)
				return
			}
		}
		time.Sleep(breath)
	}
}
