package ha_test

import (
	"flag"
	"os/exec"
	"testing"
	"time"
)

var spinTime = flag.Duration("spin.time", 0, "for how long TestSpinners lets eight processes spin beside three members; 0: it does not run")

// TestSpinners lets eight processes that do nothing but spin want the same processors as three members at default settings, each a
// process: the role stays where it is. For the real thing:
//
//	go test ./ha -run TestSpinners -v -spin.time=5m
func TestSpinners(t *testing.T) {
	if *spinTime == 0 {
		t.Skip("no -spin.time")
	}
	c := newCluster(t, 3, nil)
	w := newWitness(t)
	for _, m := range c.members {
		cfg := c.config(m.Name)
		w.listen(m.Name, spawn(t, child{
			Name: cfg.Name, Dir: cfg.Dir, Cluster: cfg.Cluster, Members: cfg.Members, Writers: 1, Pace: 20 * time.Millisecond,
		}))
	}
	w.until("everybody works", func() bool { return len(w.settled) == 3 && w.acks > 0 })
	for range 8 {
		spinner := exec.Command("sh", "-c", "while :; do :; done")
		if err := spinner.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = spinner.Process.Kill()
			_ = spinner.Wait()
		}()
	}
	epoch, before, over := w.epoch, w.acks, time.After(*spinTime)
	for spins := true; spins; {
		select {
		case l := <-w.lines:
			w.take(l)
		case <-over:
			spins = false
		}
	}
	if w.epoch != epoch {
		t.Errorf("the role has changed: epoch %d, then %d", epoch, w.epoch)
	}
	t.Logf("%d appends acknowledged in %v", w.acks-before, *spinTime)
}
