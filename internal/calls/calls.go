// Package calls runs what a program hands in: callbacks, a state machine, handlers. Whatever such code does
// instead of returning, it becomes an error; and it can be told who is inside such a call, for the methods
// that would wait for themselves there.
package calls

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// ErrGoexit is the error of a call that ended its goroutine instead of returning, as t.FailNow does.
var ErrGoexit = errors.New("did not return: runtime.Goexit was called in it")

// A PanicError is the error of a call that has panicked.
type PanicError struct {
	Value string // in words
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %s\n%s", e.Value, e.Stack) }

// A Set is the calls of one owner that are running. The zero Set is ready.
type Set struct {
	some atomic.Bool // something runs

	mu      sync.Mutex        // guards running, and changes of some
	running map[uint64]string // names, by goroutine
}

// Go calls f on a goroutine of its own. done is told how it ended, exactly once, whatever f does.
func (s *Set) Go(name string, f func() error, done func(error)) {
	go func() {
		err := error(ErrGoexit)
		defer func() { done(err) }()
		err = s.Caller().Call(name, f)
	}()
}

// Do calls f on a goroutine of its own and waits for it.
func (s *Set) Do(name string, f func() error) error {
	ended := make(chan error, 1)
	s.Go(name, f, func(err error) { ended <- err })
	return <-ended
}

// A Caller makes calls on the goroutine that it was made on.
type Caller struct {
	set *Set
	id  uint64
}

// Caller returns this goroutine's.
func (s *Set) Caller() Caller { return Caller{s, goroutine()} }

// Call calls f and turns a panic into an error. When f ends its goroutine, only deferred functions run then.
func (c Caller) Call(name string, f func() error) error {
	c.set.note(c.id, name)
	defer c.set.note(c.id, "")
	return Protect(f)
}

// note takes note of what a goroutine runs, "" for nothing.
func (s *Set) note(id uint64, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case name == "":
		delete(s.running, id)
	case s.running == nil:
		s.running = map[uint64]string{id: name}
	default:
		s.running[id] = name
	}
	s.some.Store(len(s.running) > 0)
}

// Inside returns the name of the call that this goroutine runs, "" if it runs none. It costs one atomic read while nobody runs any.
func (s *Set) Inside() string {
	if !s.some.Load() || !mayBeInside() {
		return ""
	}
	id := goroutine()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[id]
}

// Running returns the names of all that run.
func (s *Set) Running() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Values(s.running))
}

// Protect calls f and turns a panic into an error. When f ends its goroutine, so it does: only deferred
// functions run then.
func Protect(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{fmt.Sprint(p), debug.Stack()}
		}
	}()
	return enter(f)
}

// enter is found on the stack of everything that runs within a call. An error is asked for its text here, and never again: its
// methods are what was called's, too.
//
//go:noinline
func enter(f func() error) error {
	err := f()
	if err != nil {
		err = fmt.Errorf("%w", err)
	}
	return err
}

var (
	enterAt = reflect.ValueOf(enter).Pointer()
	// enterSize is more than the code of enter takes.
	enterSize uintptr = 512
)

// mayBeInside reports whether enter is on this goroutine's stack, of whatever Set. It costs a tenth of learning
// the goroutine's id.
func mayBeInside() bool {
	var pcs [64]uintptr
	n := runtime.Callers(2, pcs[:])
	for _, pc := range pcs[:n] {
		if pc-enterAt < enterSize && runtime.FuncForPC(pc-1).Entry() == enterAt {
			return true
		}
	}
	return n == len(pcs) // there are more
}

// goroutine returns the id of this goroutine, which only its stack trace tells.
func goroutine() uint64 {
	var buf [64]byte
	text, _, _ := bytes.Cut(bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine ")), []byte(" "))
	id, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		panic("calls: a stack trace begins with " + string(text))
	}
	return id
}
