package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxLeft    = 4   // calls for one peer that have not returned
	maxLeftAll = 256 // and for all
)

// ErrNoAnswer is wrapped by the errors of calls that did not end as they should.
var ErrNoAnswer = errors.New("no answer")

// outsiders are the calls of what the program gave us to be asked in a handshake. Each runs on a goroutine of its own: one
// that panics, ends its goroutine or does not return fails this handshake and nothing else, and those that have not
// returned are few for each peer, so that they take nothing from the others.
type outsiders struct {
	mu   sync.Mutex     // guards what follows
	left map[string]int // calls that nobody waits for any more, by whom they were about
	all  int
}

// outsider names whom a call is about: a member that was dialled, or a host that calls.
func outsider(c Claim) string {
	if c.Dialled {
		return "to " + c.Name
	}
	return from(c.Remote)
}

func from(remote net.Addr) string {
	host, _, err := net.SplitHostPort(remote.String())
	if err != nil {
		host = remote.String()
	}
	return "from " + host
}

// leave counts one more that has not returned, or one less.
func (o *outsiders) leave(who string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left == nil {
		o.left = map[string]int{}
	}
	o.all += n
	if o.left[who] += n; o.left[who] == 0 {
		delete(o.left, who)
	}
}

func (o *outsiders) full(who string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.left[who] >= maxLeft || o.all >= maxLeftAll
}

// outside calls f with a ctx that ends after timeout, and waits for it a little longer than that.
func outside[T any](ctx context.Context, o *outsiders, who, what string, timeout time.Duration, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if o.full(who) {
		return none, fmt.Errorf("%w: earlier calls of %s have not returned", ErrNoAnswer, what)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan result, 1)
	go func() {
		out := result{err: fmt.Errorf("%w: %s has ended its goroutine", ErrNoAnswer, what)}
		defer func() {
			if p := recover(); p != nil {
				out = result{err: fmt.Errorf("%w: %s has panicked: %v", ErrNoAnswer, what, p)}
			}
			done <- out
		}()
		v, err := f(ctx)
		if err != nil {
			err = fmt.Errorf("%w", err) // it is asked for its text here, and never again: that is the program's, too
		}
		out = result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
	}
	// It ends with ctx, unless it waits for the program.
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-t.C:
	}
	o.leave(who, 1)
	go func() {
		<-done
		o.leave(who, -1)
	}()
	return none, fmt.Errorf("%w: %s has not returned", ErrNoAnswer, what)
}

// inWords is an error of which only the text counts if any of it is the program's: its methods are called here, and never again.
func inWords(err error) error {
	if understood(err) {
		return err
	}
	return errors.New(err.Error())
}

// understood reports whether all of an error is of the standard library or ours, so that we may look at what it is made of: its methods return.
func understood(err error) bool {
	if err == nil {
		return true
	}
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	first, _, _ := strings.Cut(t.PkgPath(), "/")
	if ours := strings.HasPrefix(t.PkgPath(), "github.com/baton-ha/baton/internal/"); !ours && (strings.Contains(first, ".") || first == "main") {
		return false
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return understood(e.Unwrap())
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(e.Unwrap(), func(err error) bool { return !understood(err) })
	}
	return true
}
