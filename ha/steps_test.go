package ha_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

// stepKinds are the events of which a change of the role consists, in the order in which they come.
var stepKinds = []ha.EventKind{ha.EventReturned, ha.EventTransfer, ha.EventElected, ha.EventEpoch, ha.EventActive, ha.EventServing}

// A replacement is a change of the role as the recorders of the members say it: when each step came, since it began.
type replacement struct {
	epoch uint64 // that it ended in
	steps map[ha.EventKind]time.Duration
}

// replacements reads what the members of a cluster have recorded. began says when the role began to leave the one of an epoch; nil: when its ctx ended.
func replacements(t *testing.T, c *cluster, began map[uint64]time.Time) (all []replacement) {
	t.Helper()
	var dirs []string
	for _, m := range c.members {
		dirs = append(dirs, c.config(m.Name).Dir)
	}
	x, err := ha.Explain(dirs...)
	if err != nil {
		t.Fatal(err)
	}
	type step struct {
		kind  ha.EventKind
		epoch uint64
		by    string
	}
	at, terms := map[step]time.Time{}, map[uint64]uint64{}
	for _, e := range x.Events {
		epoch, by := e.Epoch, e.Member
		switch e.Kind {
		case ha.EventElected:
			epoch = e.Term
		case ha.EventActive:
			terms[e.Epoch] = e.Term
		case ha.EventTransfer: // of the last epoch that it was Active in
			epoch = 0
		}
		if _, ok := at[step{e.Kind, epoch, by}]; !ok || epoch == 0 {
			at[step{e.Kind, epoch, by}] = e.Time
		}
	}
	for _, f := range x.Failovers {
		from := f.Epoch - 1
		start, ok := began[from]
		if began == nil {
			start, ok = at[step{ha.EventEnded, from, f.From}]
		}
		if !ok {
			continue
		}
		r := replacement{epoch: f.Epoch, steps: map[ha.EventKind]time.Duration{}}
		for _, s := range []step{
			{ha.EventReturned, from, f.From}, {ha.EventElected, terms[f.Epoch], f.To}, {ha.EventEpoch, f.Epoch, f.To},
			{ha.EventActive, f.Epoch, f.To}, {ha.EventServing, f.Epoch, f.To},
		} {
			if when, ok := at[s]; ok {
				r.steps[s.kind] = when.Sub(start)
			}
		}
		for _, e := range x.Events { // a member may hand on more than once
			if e.Kind == ha.EventTransfer && e.Member == f.From && !e.Time.Before(start) && !e.Time.After(f.Ended) {
				r.steps[e.Kind] = e.Time.Sub(start)
			}
		}
		all = append(all, r)
	}
	return all
}

// logSteps shows what a change takes in the middle, step by step, and the slowest ones.
func logSteps(t *testing.T, all []replacement) {
	t.Helper()
	if len(all) == 0 {
		t.Error("the recorders know of no change of the role")
		return
	}
	said := func(name string, took func(ha.EventKind) (time.Duration, bool)) {
		var b strings.Builder
		for _, kind := range stepKinds {
			if d, ok := took(kind); ok {
				fmt.Fprintf(&b, ", %s %.2f", kind, float64(d)/float64(time.Millisecond))
			}
		}
		t.Logf("%s, ms: %s", name, strings.TrimPrefix(b.String(), ", "))
	}
	said("in the middle", func(kind ha.EventKind) (time.Duration, bool) {
		var took []time.Duration
		for _, r := range all {
			if d, ok := r.steps[kind]; ok {
				took = append(took, d)
			}
		}
		slices.Sort(took)
		if len(took) == 0 {
			return 0, false
		}
		return took[len(took)/2], true
	})
	slices.SortFunc(all, func(a, b replacement) int { return int(b.steps[ha.EventServing] - a.steps[ha.EventServing]) })
	for _, r := range all[:min(len(all), 5)] {
		said(fmt.Sprintf("epoch %d", r.epoch), func(kind ha.EventKind) (time.Duration, bool) { d, ok := r.steps[kind]; return d, ok })
	}
}
