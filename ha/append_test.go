package ha_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// A teller is a counter that answers each record with the sum after it.
type teller struct {
	counter
	gate chan struct{} // not nil: what is applied waits for it to be closed
}

func (m *teller) Answer(entries []ha.Entry) ([][]byte, error) {
	if m.gate != nil {
		<-m.gate
	}
	answers := make([][]byte, 0, len(entries))
	for i := range entries {
		if err := m.Apply(entries[i : i+1]); err != nil {
			return nil, err
		}
		sum, _ := m.value()
		answers = append(answers, number(sum))
	}
	return answers, nil
}

// TestAnswers: each append gets the answer to its own record, however many are under way and in one batch.
func TestAnswers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) { cfg.StateMachine = new(teller) })
	c.startAll()
	n, token := c.active()
	const workers, each = 8, 40
	answers := make([]uint64, workers*each*3+1) // by index
	var appending sync.WaitGroup
	for range workers {
		appending.Go(func() {
			for i := range each {
				count := 1 + i%3
				r, err := n.AppendBatch(t.Context(), token, [][]byte{number(1), number(1), number(1)}[:count]...)
				if err != nil || len(r.Answers) != count {
					t.Errorf("%+v, %v", r, err)
					return
				}
				for i, a := range r.Answers {
					answers[r.Index+uint64(i)] = value(a)
				}
			}
		})
	}
	appending.Wait()
	// Each record adds one, so the answer is the record's index.
	last := n.Status().Index
	for i, sum := range answers[1 : last+1] {
		if sum != uint64(i)+1 {
			t.Fatalf("the answer to record %d is %d", i+1, sum)
		}
	}
	if index, err := n.Append(t.Context(), token, number(1)); err != nil || index != last+1 {
		t.Errorf("%d, %v", index, err)
	}
}

// TestAppendBatch: a batch is in the log whole, its records one behind the other, or not at all.
func TestAppendBatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) { cfg.MaxRecord = 1000 })
	c.startAll()
	n, token := c.active()
	if _, err := n.AppendBatch(t.Context(), token); err == nil {
		t.Error("an append of nothing succeeds")
	}
	for _, records := range [][][]byte{{make([]byte, 1001)}, {make([]byte, 500), make([]byte, 500)}, make([][]byte, 100)} {
		if _, err := n.AppendBatch(t.Context(), token, records...); !errors.Is(err, ha.ErrTooLarge) {
			t.Errorf("%d records: %v", len(records), err)
		}
	}
	r, err := n.AppendBatch(t.Context(), token, number(1), number(2), number(3))
	if err != nil || r.Index != 1 || r.Answers != nil { // the counter gives none
		t.Fatalf("%+v, %v", r, err)
	}
	for i, e := range records(t, n, 3) {
		if value(e.Data) != uint64(i)+1 {
			t.Errorf("record %d is %x", i+1, e.Data)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.AppendBatch(gone, token, number(4)); !errors.Is(err, context.Canceled) || errors.Is(err, ha.ErrUnknown) {
		t.Errorf("with a ctx that has ended: %v", err)
	}
	token.Epoch--
	if _, err := n.AppendBatch(t.Context(), token, number(4)); !errors.Is(err, ha.ErrFenced) && !errors.Is(err, ha.ErrNotActive) {
		t.Errorf("with an old token: %v", err)
	}
	if last := n.Status().Index; last != 3 {
		t.Errorf("what was refused is in the log: it ends with %d", last)
	}
}

// TestAppendAsync: one goroutine has many appends under way, in order and up to the bound.
func TestAppendAsync(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	var once sync.Once
	open := func() { once.Do(func() { close(gate) }) }
	c := newCluster(t, 1, func(cfg *ha.Config) {
		cfg.MaxPending, cfg.StateMachine = 64<<10, &teller{gate: gate}
	})
	t.Cleanup(open) // before the nodes are closed
	c.startAll()
	n, token := c.active()
	var pending []ha.Pending
	for {
		p, err := n.AppendAsync(token, number(uint64(len(pending)+1)), make([]byte, 200))
		if errors.Is(err, ha.ErrBusy) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if pending = append(pending, p); len(pending) > 1000 {
			t.Fatal("there is no bound")
		}
	}
	if len(pending) < 200 {
		t.Fatalf("only %d were accepted", len(pending))
	}
	select {
	case <-pending[0].Done():
		t.Error("an append is done that is not applied")
	default:
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pending[0].Wait(gone); !errors.Is(err, ha.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	open()
	for i, p := range pending {
		for range 2 { // it may be asked again
			r, err := p.Wait(t.Context())
			if err != nil || r.Index != uint64(2*i)+1 || len(r.Answers) != 2 {
				t.Fatalf("append %d: %+v, %v", i, r, err)
			}
		}
	}
	entries := records(t, n, uint64(2*len(pending)))
	for i := range pending {
		if got := binary.LittleEndian.Uint64(entries[2*i].Data); got != uint64(i)+1 {
			t.Fatalf("append %d has become %d", i, got)
		}
	}
}

// TestAnswersMiscounted: a machine that does not answer each record stops its member.
func TestAnswersMiscounted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, func(cfg *ha.Config) { cfg.StateMachine = miscounting{new(counter)} })
	c.startAll()
	n, token := c.active()
	if _, err := n.AppendBatch(t.Context(), token, number(1)); !errors.Is(err, ha.ErrUnknown) {
		t.Errorf("%v", err)
	}
	eventually(t, "the member has stopped", func() bool { return n.Status().State == ha.Failed })
	if got, want := fmt.Sprint(n.Status().Err), "2 answers to 1 records"; !strings.Contains(got, want) {
		t.Errorf("%s, without %q", got, want)
	}
	n.Close()
	delete(c.nodes, "a")
}

type miscounting struct{ *counter }

func (m miscounting) Answer(entries []ha.Entry) ([][]byte, error) {
	return make([][]byte, len(entries)+1), m.Apply(entries)
}
