package core

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// noted is mail that is the observer's own.
type noted string

func (noted) Mail() {}

// witness is an observer that writes down what it sees, and opens an epoch when it has a lease.
type witness struct{ saw []string }

func (w *witness) Changed(_ time.Duration, _ View, change Change) []Event {
	w.saw = append(w.saw, fmt.Sprintf("%T", change))
	if l, ok := change.(Lease); ok && l.Until > 0 {
		return []Event{StartEpoch{ClusterID: [16]byte{1}}}
	}
	return nil
}

func (w *witness) Posted(_ time.Duration, _ View, mail Mail) []Event {
	w.saw = append(w.saw, fmt.Sprint(mail))
	return []Event{Tick{}}
}

// TestDrive: what is posted reaches whom it is for, what the observer answers is stepped in the same turn, and the effects of all
// steps of a turn come out together, those of the turn before no more.
func TestDrive(t *testing.T) {
	held := newMemory(t, Boot([]Member{{ID: 1, Name: "a"}}), 100, nil)
	c, err := New(Config{ID: 1, Name: "a", Heartbeat: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond}, held, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w := new(witness)
	drive := func(mail ...Mail) (writes, changes int) {
		t.Helper()
		eff, err := Drive(c, w, time.Hour, mail)
		if err != nil {
			t.Fatal(err)
		}
		writes, changes = len(eff.Writes), len(eff.Changes)
		for again := slices.Clone(eff.Writes); len(again) > 0; {
			var next []Mail
			for _, wr := range again {
				held.write(wr)
				next = append(next, Written{Write: wr})
			}
			eff, err := Drive(c, w, time.Hour, next)
			if err != nil {
				t.Fatal(err)
			}
			again = slices.Clone(eff.Writes)
			for _, a := range eff.Applies {
				if _, err := Drive(c, w, time.Hour, []Mail{Applied{Apply: a}}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return writes, changes
	}
	if writes, _ := drive(noted("hello")); writes == 0 { // the tick that it answers makes it campaign
		t.Error("what the observer answers is not stepped")
	}
	drive(Problem{Kind: "found", Err: errors.New("beside the core")})
	if writes, changes := drive(Tick{}); changes != 1 || writes != 1 { // the lease, and the epoch that the observer opens for it
		t.Errorf("a turn with %d changes and %d writes, want one of each", changes, writes)
	}
	if writes, changes := drive(); writes != 0 || changes != 0 {
		t.Errorf("a turn in which nothing happens has %d writes and %d changes", writes, changes)
	}
	want := []string{"hello", "core.Leadership", "core.Leadership", "core.Leadership", "core.Settled", "core.Problem", "core.Lease", "core.EpochStarted"}
	if !slices.Equal(w.saw, want) {
		t.Errorf("the observer saw %q, want %q", w.saw, want)
	}
}
