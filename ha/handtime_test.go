package ha_test

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"
)

var handRounds = flag.Int("hand.rounds", 1, "how often TestT7_HandOverTime has the role handed over")

// TestT7_HandOverTime has the Active of three processes give up its role under load, again and again: nothing acknowledged is lost, no two
// are active, and it is a matter of milliseconds. For the figures:
//
//	go test ./ha -run TestT7_HandOverTime -v -hand.rounds=100
func TestT7_HandOverTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	w := newWitness(t)
	for _, m := range c.members {
		w.start(c, m.Name)
	}
	w.until("everybody works", func() bool { return len(w.settled) == 3 })
	var roles, prompt, gaps []time.Duration
	for range *handRounds {
		w.acks = 0
		w.until("a load", func() bool { return w.acks >= 200 })
		old := w.epoch
		fmt.Fprintln(w.running[w.active].stdin, "standby")
		w.until("the next active acknowledges", func() bool { return w.epoch > old && w.acks > 0 })
		gaps = append(gaps, w.gap())
		w.until("the end of the old one is known", func() bool { return w.terms[old].until != 0 && w.terms[old].returned != 0 })
		roles = append(roles, time.Duration(w.terms[w.epoch].from-w.terms[old].until))
		prompt = append(prompt, time.Duration(w.terms[w.epoch].from-w.terms[old].returned))
	}
	slices.Sort(roles)
	slices.Sort(prompt)
	slices.Sort(gaps)
	n := len(gaps)
	t.Logf("%d hand-overs: from the end of one OnActive's ctx to the start of the next %v (median), %v (p99); from its return, for which it waits for its appends, %v, %v; nobody acknowledged for %v, %v",
		n, roles[n/2], roles[n*99/100], prompt[n/2], prompt[n*99/100], gaps[n/2], gaps[n*99/100])
	w.kill("a", "b", "c")
	w.noOverlap()
	if *handRounds > 1 {
		logSteps(t, replacements(t, c, nil))
	}
	c.start("a", "b", "c")
	w.ledger.check(c)
	c.closeAll()
}

// TestT7_HandOverToTheKilled kills the Active of three processes and starts it again. Then the next Active gives up its role, and nobody but that one
// is there to take it: it does, and the one that gave it up is told so.
func TestT7_HandOverToTheKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	w := newWitness(t)
	w.pace = 2 * time.Millisecond
	for _, m := range c.members {
		w.start(c, m.Name)
	}
	w.until("the first active acknowledges", func() bool { return w.acks > 0 && len(w.settled) == 3 })
	first, killed := w.epoch, w.active
	w.kill(killed)
	w.until("the next active acknowledges", func() bool { return w.epoch > first && w.acks > 0 })
	w.start(c, killed)
	w.until("the killed one is back", func() bool { return w.settled[killed] })
	giving := w.active
	w.kill(c.others(killed, giving)...)
	w.tell(giving, "standby") // until it knows that the third one has gone, its role may end for a moment because of that
	w.until("the killed one is active again", func() bool { return w.active == killed && w.acks > 0 })
	w.until("the hand-over ends for who has asked", func() bool { return w.stood != "" })
	if w.stood != "<nil>" {
		t.Errorf("%s took over, and %s, which had it do that, was told: %s", killed, giving, w.stood)
	}
	w.kill(killed, giving)
	w.noOverlap()
	c.startAll()
	w.ledger.check(c)
}
