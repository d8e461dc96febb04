package log

import (
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// TestPatientMail: the loop is woken for what a worker has done if something follows from it, or an entry that is committed may wait for it.
func TestPatientMail(t *testing.T) {
	d := driver{clock: func() time.Duration { return 7 }}
	d.init(1<<20, 1<<20)
	woken := func() bool {
		select {
		case <-d.inbox.wake:
			return true
		default:
			return false
		}
	}
	patient, urgent := &core.Write{Patient: true}, &core.Write{}
	for _, c := range []struct {
		what  string
		held  bool
		leave func()
		wakes bool
	}{
		{"a patient apply", false, func() { d.done(core.Applied{}, true) }, false},
		{"an apply", false, func() { d.done(core.Applied{}, false) }, true},
		{"a patient apply, while entries wait", true, func() { d.done(core.Applied{}, true) }, true},
		{"a patient write", false, func() { d.answer([]*core.Write{patient, patient}) }, false},
		{"a write among patient ones", false, func() { d.answer([]*core.Write{patient, urgent, patient}) }, true},
		{"a patient write, while entries wait", true, func() { d.answer([]*core.Write{patient}) }, true},
	} {
		d.held.Store(c.held)
		c.leave()
		if got := woken(); got != c.wakes {
			t.Errorf("%s: woken is %v", c.what, got)
		}
		events, _ := d.inbox.take()
		if len(events) == 0 {
			t.Errorf("%s: nothing is in the mailbox", c.what)
		}
		for _, ev := range events {
			if w, ok := ev.(core.Written); ok && w.Write.At != 7 {
				t.Errorf("%s: written at %v", c.what, w.Write.At)
			}
		}
	}
}

// TestUnderWayIsUnsettled: a batch that is settled is not under way, though the loop was not told yet.
func TestUnderWayIsUnsettled(t *testing.T) {
	d := driver{}
	d.init(1<<20, 1<<20)
	var all []*pending
	for range 2 {
		b, _, _, err := d.gather.add(1, []byte("x"), []byte("y"))
		if err != nil {
			t.Fatal(err)
		}
		d.flying[&b.Batch] = struct{}{}
		all = append(all, b)
		d.gather.take(anySize)
	}
	if got := d.underWay(); got != 4 {
		t.Errorf("%d records are under way", got)
	}
	all[0].Settle(nil)
	if got := d.underWay(); got != 2 {
		t.Errorf("%d records are under way after one batch was settled", got)
	}
}
