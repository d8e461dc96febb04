package ha_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

// TestT19_GrowAll grows a cluster of one process to five under 1,000 appends a second, moves one to another address, and removes two of them,
// one of which is the Active. Every acknowledged append is there, once. Run it, and see the longest gaps, with:
//
//	go test ./ha -run T19_GrowAll -v -replace.all
func TestT19_GrowAll(t *testing.T) {
	if !*replaceAll {
		t.Skip("see -replace.all")
	}
	var c *cluster
	c = newCluster(t, 5, func(cfg *ha.Config) {
		cfg.ElectionTimeout = 0
		if cfg.Join = cfg.Name != "a"; !cfg.Join {
			cfg.Members = c.members[:1]
		}
	})
	defer func(writers int) { *killWriters = writers }(*killWriters)
	*killWriters = 10
	w := newWitness(t)
	w.pace = 10*time.Millisecond - 500*time.Microsecond // an append takes the rest
	w.start(c, "a")
	w.until("it is under load", func() bool { return w.acks >= 500 })
	step := func(what string, do func()) {
		t.Helper()
		before, epoch, began := len(w.times), w.epoch, time.Now()
		do()
		more := len(w.times) + 300
		w.until("the load goes on", func() bool { return len(w.times) >= more })
		times := slices.Sorted(slices.Values(w.times[max(0, before-20):]))
		gap := time.Duration(0)
		for i, at := range times[1:] {
			gap = max(gap, time.Duration(at-times[i]))
		}
		t.Logf("%-24s longest gap %6v; %4.0f appends/s; epoch %d, then %d", what, gap.Round(time.Millisecond/10), float64(len(times))/time.Since(began).Seconds(), epoch, w.epoch)
		if gap > 10*time.Second {
			t.Errorf("%s: nothing was acknowledged for %v", what, gap)
		}
	}
	for _, m := range c.members[1:] {
		step("add "+m.Name, func() {
			w.start(c, m.Name)
			w.tell("a", fmt.Sprintf("add %s %s", m.Name, m.Addr))
			w.until(m.Name+" has a vote", func() bool { return w.made == m.Name && w.settled[m.Name] })
		})
	}
	step("move d", func() {
		w.tell("d", "close")
		w.ended("d")
		c.members = slices.Clone(c.members)
		c.members[3].Addr = loopback.Addr(t)
		w.start(c, "d")
		w.until("it is back", func() bool { return w.settled["d"] })
	})
	removed := []string{w.active, "e"}
	if w.active == "e" {
		removed[1] = "d"
	}
	for _, name := range removed {
		step("remove "+name+", "+map[bool]string{true: "the Active", false: "a Standby"}[name == w.active], func() {
			w.made = ""
			w.tell(c.others(removed...)[0], "remove "+name)
			w.until("it is removed", func() bool { return w.made == name })
		})
	}
	w.kill(c.others()...)
	c.edit = func(cfg *ha.Config) {}
	for _, name := range c.others(removed...) {
		c.start(name)
	}
	w.ledger.check(c)
}
