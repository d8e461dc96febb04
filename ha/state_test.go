package ha_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A queue of numbers: 2n adds n, 2n+1 takes n away. Its state is written as no bytes when it is empty, or as no
// snapshot at all.
type queue struct {
	mu    sync.Mutex
	items []byte
	none  bool
}

func (q *queue) Apply(entries []ha.Entry) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		if v := value(e.Data); v%2 == 0 {
			q.items = append(q.items, byte(v/2))
		} else {
			q.items = slices.DeleteFunc(q.items, func(b byte) bool { return b == byte(v/2) })
		}
	}
	return nil
}

func (q *queue) Snapshot() (io.WriterTo, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.none && len(q.items) == 0 {
		return nil, nil
	}
	return bytes.NewReader(slices.Clone(q.items)), nil
}

func (q *queue) Restore(r io.Reader) (err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, err = io.ReadAll(r)
	return err
}

// A drained queue is a state of zero bytes: a late member takes it over, and all of them open again.
func TestDrainedQueueIsAState(t *testing.T) {
	t.Parallel()
	for name, none := range map[string]bool{"no bytes": false, "no snapshot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3, func(cfg *ha.Config) {
				quick(cfg)
				cfg.CheckpointBytes, cfg.RetainBytes = 1, 1 // a checkpoint after nearly each apply
				cfg.StateMachine = &queue{none: none}
			})
			c.startAll()
			_, token := c.active()
			late := c.others(token.Holder)[0]
			c.stop(late)
			var last uint64
			for i := range uint64(50) {
				c.put(number(2 * (i % 100)))
				last = c.put(number(2*(i%100) + 1))
			}
			c.start(late)
			eventually(t, "the late member knows everything", func() bool { return c.nodes[late].Status().Applied == last })
			if gone := far(t, c.nodes[late]); gone.First <= 1 {
				t.Errorf("it got the log, no snapshot: %v", gone)
			}
			c.closeAll()
			c.startAll()
			c.put(number(2))
			c.closeAll()
			cfg := c.config(late)
			cfg.StateMachine = nil
			if _, err := ha.Open(cfg); !errors.Is(err, ha.ErrStateMachine) {
				t.Errorf("opened without a state machine: %v", err)
			}
		})
	}
}
