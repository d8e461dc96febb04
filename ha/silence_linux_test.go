package ha_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/hosts"
)

var cutRounds = flag.Int("cut.rounds", 0, "how often TestT4_Silence cuts the Active off in each way; needs root, ip and nft")

// TestT4_Silence cuts the Active's host off, of three, in each direction and in both, at default settings under load, and measures for
// how long nobody acknowledged an append. At no time are two active. For the figures:
//
//	go test ./ha -run TestT4_Silence -v -cut.rounds=50 -timeout=30m
func TestT4_Silence(t *testing.T) {
	if *cutRounds == 0 {
		t.Skip("takes a while, and root: see -cut.rounds")
	}
	names := []string{"a", "b", "c"}
	h := hosts.New(t, names...)
	var members []ha.Member
	for _, name := range names {
		members = append(members, ha.Member{Name: name, Addr: h.IP(name) + ":7400"})
	}
	w := newWitness(t)
	for _, name := range names {
		w.listen(name, spawn(t, child{
			Name: name, Dir: t.TempDir(), Cluster: "silence", Members: members, Host: h.Of(name), Writers: 1, Pace: time.Millisecond,
		}))
	}
	for _, shape := range []struct {
		name    string
		out, in bool
	}{{"both ways", true, true}, {"out", true, false}, {"in", false, true}} {
		var gaps []time.Duration
		for range *cutRounds {
			w.acks = 0
			w.until("a load", func() bool { return w.acks >= 200 })
			at := time.Now().Add(rand.N(200 * time.Millisecond))
			w.until("a moment", func() bool { return time.Now().After(at) })
			old, victim := w.epoch, w.active
			h.Cut(victim, shape.out, shape.in)
			w.until("the next active acknowledges", func() bool { return w.epoch > old && w.acks > 0 })
			gaps = append(gaps, w.gap())
			h.Heal(victim)
			at = time.Now().Add(1500 * time.Millisecond)
			w.until("everybody is back", func() bool { return time.Now().After(at) })
		}
		slices.Sort(gaps)
		t.Logf("cut %s: nobody acknowledged for %v (median), %v at most, of %d", shape.name,
			gaps[len(gaps)/2].Round(time.Millisecond), gaps[len(gaps)-1].Round(time.Millisecond), len(gaps))
	}
	for _, name := range names {
		w.kill(name)
	}
	w.noOverlap()
}
