package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/baton-ha/baton/log"
)

// This file is how a node leaves: in good order, or as far as what it has to wait for lets it.

// An UnfinishedError is returned by Shutdown and Close when their time was over before everything had ended. The role is
// given up all the same, and the port closed. What is named goes on, and so does the leaving: a later call
// may wait for it.
type UnfinishedError struct {
	Waiting []string // what had not ended: a callback, a method of the state machine, a write to the disk, the logger
	Err     error    // why it was not waited for any longer
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("baton: closed without waiting for %s: %v", strings.Join(e.Waiting, ", "), e.Err)
}

// Unwrap returns why it was not waited for any longer.
func (e *UnfinishedError) Unwrap() error { return e.Err }

// Shutdown leaves in good order: an Active hands over to another member if there is one, which takes at most
// Config.DrainTimeout, so that nobody has to notice that it is gone; then everything is stopped and waited for, the
// callbacks too. Appends that are under way get [ErrUnknown]. It returns the error that the node had failed
// with, if it had.
//
// When ctx ends, or has ended before, nothing more is waited for: the role ends in any case, then the port is
// closed, and what has not ended within a second is named in an *[UnfinishedError].
//
// Within a callback or the state machine it begins to leave and returns [ErrReentrant] at once: it would
// wait for itself. It may be called again, to wait.
func (n *Node) Shutdown(ctx context.Context) error {
	n.leave.Do(func() { go n.depart() })
	if in := n.inside(); in != "" {
		return fmt.Errorf("%w: Close in %s: the node goes on closing", ErrReentrant, in)
	}
	select {
	case <-n.closed:
		return n.log.Close()
	case <-ctx.Done():
	}
	n.giveUp()
	t := time.NewTimer(lastMoment)
	defer t.Stop()
	select {
	case <-n.closed:
		return n.log.Close()
	case <-t.C:
		return &UnfinishedError{Waiting: n.unfinished(), Err: context.Cause(ctx)}
	}
}

// lastMoment is how long what is already told to end may take to do so, when nothing is to be waited for.
const lastMoment = time.Second

// Close is Shutdown with a ctx that ends after twice Config.DrainTimeout, and after at least two seconds more than that: one
// time for the handover, one for everything else.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout+max(n.cfg.DrainTimeout, 2*time.Second))
	defer cancel()
	return n.Shutdown(ctx)
}

// depart leaves, however long it takes.
func (n *Node) depart() {
	n.stage.Store("the handover")
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	go func() {
		defer cancel()
		select {
		case <-n.hurry:
		case <-ctx.Done():
		}
	}()
	for range silentBeats { // where it cannot be done, the others will notice
		if err := n.become(ctx, Standby, CauseClosed); !errors.Is(err, ErrNoSuccessor) || n.lastVoter() {
			break
		}
		time.Sleep(n.cfg.Heartbeat) // who takes over may not have been heard in this term yet
	}
	cancel()
	n.stage.Store("the log")
	_ = n.log.Close()
	n.stage.Store("the network")
	n.leaving.Wait()
	n.heir()
	n.stage.Store("the disk")
	n.callbacks.Wait()
	n.stage.Store("the logger")
	n.lines.Flush(context.Background())
	close(n.closed)
}

// lastVoter reports whether there is no other voter, or none that has not left.
func (n *Node) lastVoter() bool {
	return !slices.ContainsFunc(n.Members(), func(m MemberStatus) bool {
		return m.Name != n.cfg.Name && m.Kind == KindVoter && m.Liveness != Left
	})
}

// giveUp ends the role here and now, beside the loop, and lets nothing be waited for any more.
func (n *Node) giveUp() {
	n.log.Stop()
	n.gaveUp.Store(true) // before the look: a role that begins now looks at it after it can be seen
	if t := n.tenure.Swap(nil); t != nil {
		t.unwatch()
		t.cancel(ErrClosed)
	}
	n.hurried.Do(func() { close(n.hurry) })
}

// closePort closes the transport last, once the log has stopped. A closed port is evidence for the others that this
// member's role has ended, and a member that has failed must not look alive. So it is closed in any case: when
// the role has ended and a disk or a state machine keeps the log from stopping, after a while.
func (n *Node) closePort() {
	select {
	case <-n.ended:
	case <-n.hurry:
	}
	t := time.NewTimer(n.cfg.DrainTimeout)
	defer t.Stop()
	select {
	case <-n.log.Done():
	case <-n.hurry:
	case <-t.C:
	}
	n.lastWords()
	if err := n.net.Close(); err != nil {
		n.cfg.Logger.Warn("close the transport", "member", n.cfg.Name, "err", err)
	}
}

// lastWords gives this member a moment to tell the others that it leaves, or has failed.
func (n *Node) lastWords() {
	said := make(chan struct{})
	go func() { n.speakers.Wait(); close(said) }()
	t := time.NewTimer(lastWord)
	defer t.Stop()
	select {
	case <-said:
	case <-n.hurry:
	case <-t.C:
	}
	n.hush()
	<-said
}

const lastWord = 100 * time.Millisecond

// unfinished names what still runs.
func (n *Node) unfinished() []string {
	names := append(n.calls.Running(), n.log.Busy()...)
	names = append(names, n.lines.Running()...)
	if stage, _ := n.stage.Load().(string); len(names) == 0 {
		names = append(names, stage)
	}
	return slices.Compact(names)
}

// inside names the callback, or the method of the state machine, that this goroutine runs, "" if it runs none.
func (n *Node) inside() string {
	if in := n.calls.Inside(); in != "" {
		return in
	}
	if in := n.lines.Inside(); in != "" {
		return in
	}
	return n.log.Inside()
}

// misused returns the error of a method that was called where it would wait for itself, and lets the operator
// see it, now and then: who calls so may not look at errors.
func (n *Node) misused(method, in string) error {
	err := fmt.Errorf("%w: %s in %s", ErrReentrant, method, in)
	now := int64(n.clock())
	if last := n.misusedAt.Load(); (last == 0 || now-last > int64(time.Minute)) && n.misusedAt.CompareAndSwap(last, now) {
		n.log.Post(misuse{err})
	}
	return err
}

// appendError is what Append returns for an error of the log's.
func (n *Node) appendError(err error) error {
	switch {
	case err == log.ErrNotActive:
		return n.notActive()
	case errors.Is(err, ErrReentrant):
		return n.misused("Append", n.inside())
	}
	return err
}
