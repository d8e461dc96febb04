package session

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// lines is a log that is kept.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

// What goes wrong each second for a day is said a few times, with how often it was.
func TestConditionIsSaidOnceThenCounted(t *testing.T) {
	for _, c := range []struct {
		what string
		text func(i int) string
		over int // after so many it is over for a moment
		most int
	}{
		{"always the same", func(int) string { return "same" }, 0, 26},
		{"flaps", func(int) string { return "same" }, 2, 26 + sayBudget},
		{"another text each time", func(i int) string { return fmt.Sprint(i) }, 0, 26 + sayBudget},
		{"two texts in turn", func(i int) string { return fmt.Sprint(i % 2) }, 0, 26 + 1},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l lines
				said := NewConditions(l.logger())
				const day = 24 * 60 * 60
				for i := range day {
					said.Say(slog.LevelWarn, "trouble", "b", c.text(i))
					if c.over > 0 && i%c.over == 0 {
						said.Over("trouble", "b")
					}
					time.Sleep(time.Second)
				}
				got := l.all()
				if len(got) > c.most || len(got) < 25 {
					t.Errorf("%d lines in a day, at most %d are good", len(got), c.most)
				}
				sum := 0
				for _, line := range got {
					n := 1
					if at := strings.Index(line, "times="); at >= 0 {
						fmt.Sscanf(line[at:], "times=%d", &n)
					}
					sum += n
				}
				if sum < day-3601 {
					t.Errorf("the lines count %d of %d", sum, day)
				}
				// After it was gone for long it is news.
				said.Over("trouble", "b")
				time.Sleep(forgetAfter + time.Hour)
				before := len(l.all())
				said.Say(slog.LevelWarn, "trouble", "b", "same")
				if len(l.all()) != before+1 {
					t.Error("not said again")
				}
			})
		})
	}
}

func TestConditionsAreBounded(t *testing.T) {
	said := NewConditions(slog.New(slog.DiscardHandler))
	for i := range 10 * maxConditions {
		said.Say(slog.LevelInfo, "trouble", fmt.Sprint(i), "")
	}
	if len(said.held) > maxConditions {
		t.Errorf("%d are held", len(said.held))
	}
}
