package ha_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// telling gives each member a machine that answers.
func telling(tellers map[string]*teller) func(cfg *ha.Config) {
	var mu sync.Mutex
	return func(cfg *ha.Config) {
		mu.Lock()
		defer mu.Unlock()
		tellers[cfg.Name] = new(teller)
		cfg.StateMachine = tellers[cfg.Name]
	}
}

// TestG10_Calls: calls from every member, while the role moves on, take effect once each.
func TestG10_Calls(t *testing.T) {
	t.Parallel()
	tellers := map[string]*teller{}
	c := newCluster(t, 3, telling(tellers))
	c.startAll()
	c.put(number(0))
	const workers, each = 6, 30
	var sums sync.Map // answers: each is the sum behind its own record, so all differ
	var calling sync.WaitGroup
	for _, n := range c.nodes {
		for range workers {
			calling.Go(func() {
				for range each {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					answer, err := n.Call(ctx, number(1))
					cancel()
					if err != nil {
						t.Error(err)
						return
					}
					if _, twice := sums.LoadOrStore(value(answer), true); twice {
						t.Errorf("two calls were answered with %d", value(answer))
					}
				}
			})
		}
	}
	for range 2 {
		_, token := c.active()
		c.handOver(token)
	}
	calling.Wait()
	last := c.put(number(0))
	for _, n := range c.nodes {
		eventually(t, "everything is applied", func() bool { return n.Status().Applied >= last })
	}
	for name, m := range tellers {
		if sum, _ := m.value(); sum != 3*workers*each {
			t.Errorf("%s has the sum %d, after %d calls", name, sum, 3*workers*each)
		}
	}
	first := c.nodes["a"].Stats().Log
	for name, n := range c.nodes { // the table is replicated
		if s := n.Stats().Log; s.Sessions < len(c.nodes) || s.Sessions != first.Sessions || s.SessionBytes < s.Sessions || s.SessionBytes != first.SessionBytes {
			t.Errorf("%s keeps %d sessions of %d bytes, and a %d of %d", name, s.Sessions, s.SessionBytes, first.Sessions, first.SessionBytes)
		}
	}
}

// A servant is a handler with a machine behind it.
type servant struct {
	hold    chan struct{} // not nil: a call for it waits for this, or its ctx
	held    atomic.Int32
	known   atomic.Int32
	appends atomic.Int32
}

func (s *servant) handle(ctx context.Context, token fence.Token, r ha.Request) ([]byte, error) {
	n := ha.FromContext(ctx)
	switch words := string(r.Data); {
	case words == "refuse":
		return nil, &ha.CallError{Code: 17, Text: "not today"}
	case words == "fail":
		return nil, errors.New("it is broken")
	case words == "panic":
		panic("oh no")
	case words == "twice":
		if _, err := n.Append(ctx, token, number(1)); err != nil {
			return nil, err
		}
		_, err := n.Append(ctx, token, number(1))
		return nil, err
	case words == "from":
		return []byte(r.From + " " + r.Role.String()), nil
	case words == "wait":
		s.held.Add(1)
		defer s.held.Add(-1)
		select {
		case <-s.hold:
			return []byte("waited"), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	case strings.HasPrefix(words, "later "): // what goes wrong behind the append is not about it
		if r.Known != nil {
			return []byte("known"), nil
		}
		if _, err := n.Append(ctx, token, number(1)); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("look after it: %w", laterErrors[words])
	case strings.HasPrefix(words, "add"):
		if r.Known != nil {
			s.known.Add(1)
		}
		res, err := n.AppendBatch(ctx, token, number(1), number(2))
		if err != nil {
			return nil, err
		}
		s.appends.Add(1)
		if words == "add and wait" && r.Known == nil {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		return append([]byte(nil), res.Answers[1]...), nil
	}
	return nil, nil
}

// laterErrors are what a handler may run into once it has appended, by the request that has it do so.
var laterErrors = map[string]error{
	"later not active": ha.ErrNotActive, "later fenced": ha.ErrFenced, "later closed": ha.ErrClosed, "later busy": ha.ErrBusy, "later no room": ha.ErrNoRoom,
	"later too large": ha.ErrTooLarge, "later expired": ha.ErrSessionExpired,
}

// TestHandleLater: an error that would mean of an append that it has not been made says nothing of the call when the handler returns it behind
// its append. What may pass is asked again, and so is the next Active; the rest is an error of the program.
func TestHandleLater(t *testing.T) {
	t.Parallel()
	tellers := map[string]*teller{}
	c := newCluster(t, 1, serving(new(servant), tellers))
	c.startAll()
	n, _ := c.active()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for words, why := range laterErrors {
		answer, err := n.Call(ctx, []byte(words))
		var own *ha.CallError
		switch why {
		case ha.ErrTooLarge, ha.ErrSessionExpired:
			if !errors.As(err, &own) || own.Text != "look after it: "+why.Error() || errors.Is(err, why) {
				t.Errorf("%s: %q, %v", words, answer, err)
			}
		default:
			if err != nil || string(answer) != "known" {
				t.Errorf("%s: %q, %v", words, answer, err)
			}
		}
	}
	if sum, _ := tellers["a"].value(); sum != uint64(len(laterErrors)) {
		t.Errorf("%d calls took effect %d times", len(laterErrors), sum)
	}
}

func serving(s *servant, tellers map[string]*teller) func(cfg *ha.Config) {
	tell := telling(tellers)
	return func(cfg *ha.Config) {
		tell(cfg)
		cfg.Handle, cfg.MaxHandlers = s.handle, 3
	}
}

// TestHandle: a handler runs on the Active only, and what it says crosses the wire with its meaning.
func TestHandle(t *testing.T) {
	t.Parallel()
	s := &servant{hold: make(chan struct{})}
	tellers := map[string]*teller{}
	c := newCluster(t, 3, serving(s, tellers))
	c.startAll()
	_, token := c.active()
	for name, n := range c.nodes {
		var refused *ha.CallError
		if _, err := n.Call(t.Context(), []byte("refuse")); !errors.As(err, &refused) || refused.Code != 17 || refused.Text != "not today" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := n.Call(t.Context(), []byte("fail")); !errors.As(err, &refused) || refused.Text != "it is broken" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := n.Call(t.Context(), []byte("panic")); !errors.As(err, &refused) || !strings.Contains(refused.Text, "oh no") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := n.Call(t.Context(), []byte("twice")); !errors.As(err, &refused) || !strings.Contains(refused.Text, ha.ErrOneAppend.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		if from, err := n.Call(t.Context(), []byte("from")); err != nil || string(from) != name+" member" {
			t.Errorf("%s is called %q, %v", name, from, err)
		}
		if sum, err := n.Call(t.Context(), []byte("add")); err != nil || len(sum) != 8 {
			t.Errorf("%s: %v", name, err)
		}
	}
	standby := c.nodes[c.others(token.Holder)[0]]
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			if answer, err := standby.Call(t.Context(), []byte("wait")); err != nil || string(answer) != "waited" {
				t.Errorf("%q, %v", answer, err)
			}
		})
	}
	eventually(t, "three handlers run", func() bool { return s.held.Load() == 3 })
	if _, err := standby.Call(t.Context(), []byte("from")); !errors.Is(err, ha.ErrBusy) {
		t.Errorf("the fourth at a time: %v", err)
	}
	close(s.hold)
	waiting.Wait()
	if _, err := standby.Call(t.Context(), []byte("from")); err != nil {
		t.Error(err)
	}
	if _, err := standby.Call(t.Context(), make([]byte, 33<<20)); !errors.Is(err, ha.ErrTooLarge) {
		t.Errorf("a large request: %v", err)
	}
}

// TestG10_HandlerDeposed: a handler whose role ends after it has appended is run again by the next Active, which is told so, and
// appends nothing more.
func TestG10_HandlerDeposed(t *testing.T) {
	t.Parallel()
	s := new(servant)
	tellers := map[string]*teller{}
	c := newCluster(t, 3, serving(s, tellers))
	c.startAll()
	_, token := c.active()
	standby := c.nodes[c.others(token.Holder)[0]]
	answers := make(chan []byte, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, err := standby.Call(ctx, []byte("add and wait"))
		if err != nil {
			t.Error(err)
		}
		answers <- answer
	}()
	eventually(t, "the handler has appended", func() bool { return s.appends.Load() == 1 })
	c.handOver(token)
	if answer := receive(t, "the answer", answers); answer == nil || value(answer) != 3 {
		t.Errorf("answered with %x", answer)
	}
	if s.known.Load() == 0 {
		t.Error("nobody was told that the call had taken effect")
	}
	last := c.put(number(0))
	for name, n := range c.nodes {
		eventually(t, "everything is applied", func() bool { return n.Status().Applied >= last })
		if sum, _ := tellers[name].value(); sum != 3 {
			t.Errorf("%s has the sum %d", name, sum)
		}
	}
}

// TestCallEnds: a call ends with its ctx, and with the node, and says whether it may have taken effect.
func TestCallEnds(t *testing.T) {
	t.Parallel()
	s := &servant{hold: make(chan struct{})}
	c := newCluster(t, 3, serving(s, map[string]*teller{}))
	c.startAll()
	_, token := c.active()
	standby := c.nodes[c.others(token.Holder)[0]]
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := standby.Call(ctx, []byte("wait")); done <- err }()
	eventually(t, "the handler runs", func() bool { return s.held.Load() == 1 })
	cancel()
	if err := receive(t, "the end", done); !errors.Is(err, ha.ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := standby.Call(ctx, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ha.ErrUnknown) {
		t.Errorf("with a ctx that has ended: %v", err)
	}
	close(s.hold)
	for _, name := range c.others(standby.Status().Name) {
		if err := c.nodes[name].Close(); err != nil {
			t.Fatal(err)
		}
		delete(c.nodes, name)
	}
	// Who closes last may hand over to this one, which is Active then until its lease ends.
	eventually(t, "there is no Active, and a call has definitely not taken effect", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := standby.Call(ctx, []byte("from"))
		return errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ha.ErrUnknown)
	})
	go func() { _, err := standby.Call(context.Background(), []byte("from")); done <- err }()
	if err := standby.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(t, "the end", done); !errors.Is(err, ha.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	delete(c.nodes, standby.Status().Name)
}
