package wire

import (
	"context"
	"errors"
	"testing"
)

// askedLine says which requests were sent.
type askedLine struct{ sent chan Request }

func (l askedLine) Send(q Request) { l.sent <- q }
func (l askedLine) Close()         {}

// TestLateReply: a reply that comes when its caller waits no longer is nobody else's, whoever is at its place by then; nor is one that nobody has asked for,
// or one that comes twice.
func TestLateReply(t *testing.T) {
	sent := make(chan Request, 1)
	l := newCallLine("a")
	l.line = askedLine{sent}
	type got struct {
		reply Reply
		err   error
	}
	ask := func(ctx context.Context) (Request, chan got) {
		done := make(chan got, 1)
		go func() {
			reply, err := l.ask(ctx, Request{Op: OpCall})
			done <- got{reply, err}
		}()
		return <-sent, done
	}
	gone, cancel := context.WithCancel(t.Context())
	first, left := ask(gone)
	cancel()
	if g := <-left; !errors.Is(g.err, context.Canceled) {
		t.Fatalf("who has left gets %+v", g)
	}
	second, waits := ask(t.Context())
	if tag(first.Tag).place() != tag(second.Tag).place() || first.Tag == second.Tag {
		t.Fatalf("tags %x and %x should be two of one place", first.Tag, second.Tag)
	}
	none := uint64(1<<32 | 7)
	l.Replied([]Reply{{Tag: first.Tag, Index: 1}, {Tag: none, Index: 2}, {Tag: second.Tag, Index: 3}, {Tag: second.Tag, Index: 4}})
	if g := <-waits; g.err != nil || g.reply.Index != 3 {
		t.Errorf("who waits gets %+v", g)
	}
	third, waits := ask(t.Context())
	l.Lost(nil)
	if g := <-waits; !errors.Is(g.err, ErrLineLost) {
		t.Errorf("who waits on a line that is lost gets %+v", g)
	}
	l.Replied([]Reply{{Tag: third.Tag}})
	if _, err := l.ask(t.Context(), Request{Op: OpCall}); !errors.Is(err, ErrLineLost) {
		t.Errorf("who asks on a line that was lost gets %v", err)
	}
}
