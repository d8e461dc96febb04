package ha_test

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/storage"
)

var replaceAll = flag.Bool("replace.all", false, "replace five members of real processes, one after the other, under 1,000 appends a second: half a minute")

// TestT19_ReplaceAll replaces five members one after the other, each by a process with an empty directory, under 1,000 appends a second, until none
// of the first directories is left. Every acknowledged append is there, once. Run it, and see the longest gap, with:
//
//	go test ./ha -run T19_ReplaceAll -v -replace.all
func TestT19_ReplaceAll(t *testing.T) {
	for how, retire := range map[string]func(w *witness, c *cluster, name string){
		"closed, and replaced by a call": func(w *witness, c *cluster, name string) {
			w.tell(name, "close")
			w.ended(name)
			c.lose(name)
			w.start(c, name)
			w.tell(c.others(name)[0], "replace "+name)
			w.until(name+" is listed", func() bool { return w.made == name })
		},
		"killed, and healed": func(w *witness, c *cluster, name string) {
			w.kill(name)
			c.lose(name)
			w.start(c, name)
		},
	} {
		t.Run(how, func(t *testing.T) {
			if !*replaceAll {
				t.Skip("see -replace.all")
			}
			join, heal := false, how[0] == 'k'
			c := newCluster(t, 5, func(cfg *ha.Config) { cfg.ElectionTimeout, cfg.Join, cfg.Heal = 0, join, heal })
			defer func(writers int) { *killWriters = writers }(*killWriters)
			*killWriters = 10
			w := newWitness(t)
			w.pace = 10*time.Millisecond - 500*time.Microsecond // an append takes the rest
			for _, m := range c.members {
				w.start(c, m.Name)
			}
			w.until("all are there, under load", func() bool { return w.acks >= 500 && len(w.settled) == 5 })
			join = !heal
			first := incarnations(t, c)
			began, before := time.Now(), len(w.times)
			for _, m := range c.members {
				retire(w, c, m.Name)
				w.until(m.Name+" votes again", func() bool { return w.settled[m.Name] })
				more := len(w.times) + 500
				w.until("the load goes on", func() bool { return len(w.times) >= more })
			}
			took, appends := time.Since(began), len(w.times)-before
			w.kill(c.others()...)
			for name, was := range first {
				if now := incarnations(t, c)[name]; now == was {
					t.Errorf("%s still has its first directory", name)
				}
			}
			c.startAll()
			w.ledger.check(c)
			slices.Sort(w.times)
			gap := time.Duration(0)
			for i, at := range w.times[1:] {
				gap = max(gap, time.Duration(at-w.times[i]))
			}
			t.Logf("five members replaced in %v, %d appends meanwhile (%.0f/s), longest gap %v", took.Round(time.Millisecond), appends, float64(appends)/took.Seconds(), gap.Round(time.Millisecond/10))
			if gap > 10*time.Second {
				t.Errorf("nothing was acknowledged for %v", gap)
			}
		})
	}
}

// incarnations are those of the members' directories.
func incarnations(t *testing.T, c *cluster) map[string]uint64 {
	t.Helper()
	all := make(map[string]uint64)
	for _, m := range c.members {
		id, err := storage.Read(c.config(m.Name).Dir)
		if err != nil {
			t.Fatal(err)
		}
		all[m.Name] = id.Incarnation
	}
	return all
}

// tell gives a command to a member.
func (w *witness) tell(name, command string) {
	w.Helper()
	if _, err := io.WriteString(w.running[name].stdin, command+"\n"); err != nil {
		w.Fatal(fmt.Errorf("tell %s to %s: %w", name, command, err))
	}
}

// ended waits for the end of a member that was told to close.
func (w *witness) ended(name string) {
	w.Helper()
	over := false
	deadline := time.After(patience)
	for !over {
		select {
		case l := <-w.lines:
			if over = l.text == "" && l.from == name; l.text != "" {
				w.take(l)
			}
		case <-deadline:
			w.Fatalf("%s does not end", name)
		}
	}
	w.running[name].kill()
	delete(w.running, name)
}
