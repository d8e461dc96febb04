package calls

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestDo_TellsHowItEnded(t *testing.T) {
	var s Set
	failed := errors.New("failed")
	for _, c := range []struct {
		name string
		f    func() error
		want func(error) bool
	}{
		{"returns", func() error { return nil }, func(err error) bool { return err == nil }},
		{"fails", func() error { return failed }, func(err error) bool { return errors.Is(err, failed) }},
		{"panics", func() error { panic("broken") }, func(err error) bool { return err != nil && strings.Contains(err.Error(), "broken") }},
		{"exits", func() error { runtime.Goexit(); return nil }, func(err error) bool { return errors.Is(err, ErrGoexit) }},
	} {
		if err := s.Do(c.name, c.f); !c.want(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if left := s.Running(); len(left) > 0 {
			t.Errorf("%s: still running: %q", c.name, left)
		}
	}
}

// asking is an error that says where it was asked for its text.
type asking func() string

func (a asking) Error() string { return a() }

func TestErrorsAreAskedInTheCall(t *testing.T) {
	var s Set
	asked := 0
	err := s.Do("call", func() error {
		return asking(func() string { asked++; return "asked in " + s.Inside() })
	})
	if text := err.Error() + ", " + err.Error(); text != "asked in call, asked in call" || asked != 1 {
		t.Errorf("%q, asked %d times", text, asked)
	}
	err = s.Do("call", func() error { return asking(func() string { runtime.Goexit(); return "" }) })
	if !errors.Is(err, ErrGoexit) {
		t.Errorf("an error that ends the goroutine: %v", err)
	}
	err = s.Do("call", func() error { var none *PanicError; return none }) // whose Error panics
	if err == nil || !strings.Contains(err.Error(), "nil") {
		t.Errorf("an error that panics: %v", err)
	}
}

func deep(n int, f func()) {
	if n == 0 {
		f()
		return
	}
	deep(n-1, f)
	runtime.KeepAlive(n)
}

func TestInside_OnlyOnItsGoroutineAndInItsSet(t *testing.T) {
	var s, other Set
	_ = s.Do("call", func() error {
		for _, depth := range []int{0, 10, 1000} {
			deep(depth, func() {
				if got := s.Inside(); got != "call" {
					t.Errorf("%d frames deep: inside %q", depth, got)
				}
				if got := other.Inside(); got != "" {
					t.Errorf("%d frames deep: inside %q of another set", depth, got)
				}
			})
		}
		if got := s.Running(); !slices.Equal(got, []string{"call"}) {
			t.Errorf("running: %q", got)
		}
		elsewhere := make(chan string)
		go func() { elsewhere <- s.Inside() }()
		if got := <-elsewhere; got != "" {
			t.Errorf("another goroutine is inside %q", got)
		}
		return nil
	})
	if got := s.Inside(); got != "" {
		t.Errorf("inside %q after it", got)
	}
}

func BenchmarkInside(b *testing.B) {
	var s Set
	for b.Loop() {
		_ = s.Inside()
	}
}
