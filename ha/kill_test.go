package ha_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/testseed"
)

var (
	killRounds  = flag.Int("kill.rounds", 1, "how often TestT16 kills the Active alone")
	killWays    = flag.Int("kill.ways", 1, "how often TestT16 kills the Active in each other way")
	killWriters = flag.Int("kill.writers", 8, "how many goroutines of the Active append in TestT16")
	killNoHeir  = flag.Bool("kill.noheir", false, "TestT16 has members without an heir of their memory (Config.NoHeir)")
)

// A witness collects what the members of a cluster of processes print.
type witness struct {
	*testing.T
	ledger  *ledger
	running map[string]*process
	lines   chan line
	epoch   uint64 // the highest that was announced
	active  string // by whom
	last    uint64 // the highest index that was acknowledged
	acks    int    // of epoch
	firstAt time.Time
	settled map[string]bool
	holders map[uint64]string // by epoch
	terms   map[uint64]term   // by epoch
	times   []int64           // of all acknowledgements
	pace    time.Duration     // of the writers
	made    string            // the member that was replaced last
	stood   string            // how the last Become(Standby) ended, "" while it has not
}

type line struct{ from, text string }

// A term is when somebody was active: nanoseconds of this machine's clock. until, and when OnActive returned, is 0 if it was killed.
type term struct {
	from, until, returned int64
	applied               uint64 // records, when OnActive began
}

// noOverlap checks that nobody became active before all others that did not die had ceased to be.
func (w *witness) noOverlap() {
	w.Helper()
	last, by := int64(0), uint64(0)
	for _, epoch := range slices.Sorted(maps.Keys(w.terms)) {
		t := w.terms[epoch]
		if t.from < last {
			w.Errorf("the active of epoch %d began %v before that of epoch %d had ended", epoch, time.Duration(last-t.from), by)
		}
		if t.until > last {
			last, by = t.until, epoch
		}
	}
}

// epochs checks that each record is of the epoch that it was appended in, and that each OnActive began when all of the epochs before it were applied, and no more.
func (w *witness) epochs(log []ha.Entry) {
	w.Helper()
	before := map[uint64]uint64{} // the last record of earlier epochs
	for _, e := range log {
		if v := value(e.Data); v != 0 && v>>40 != e.Epoch {
			w.Errorf("record %d, appended in epoch %d, is of epoch %d", e.Index, v>>40, e.Epoch)
		}
		for epoch := range w.terms {
			if e.Epoch < epoch {
				before[epoch] = max(before[epoch], e.Index)
			}
		}
	}
	for epoch, t := range w.terms {
		if t.applied != before[epoch] {
			w.Errorf("OnActive of epoch %d began when %d records were applied, and %d are of epochs before", epoch, t.applied, before[epoch])
		}
	}
}

func newWitness(t *testing.T) *witness {
	return &witness{T: t, ledger: newLedger(), running: map[string]*process{}, lines: make(chan line), settled: map[string]bool{}, holders: map[uint64]string{}, terms: map[uint64]term{}}
}

// take takes note of one line.
func (w *witness) take(l line) {
	var a, b, c uint64
	switch n, _ := fmt.Sscanf(l.text[1:], " %d %d %d", &a, &b, &c); {
	case l.text[0] == 'M':
		w.made = l.text[2:]
	case l.text[0] == 'S':
		w.stood = l.text[2:]
	case l.text[0] == 'E' && n == 2:
		t := w.terms[a]
		t.until = int64(b)
		w.terms[a] = t
	case l.text[0] == 'F' && n == 2:
		t := w.terms[a]
		t.returned = int64(b)
		w.terms[a] = t
	case l.text[0] == 'R' && n == 3:
		t := w.terms[a]
		t.from, t.applied = int64(b), c
		w.terms[a] = t
		if other := w.holders[a]; other != "" {
			w.Errorf("%s and %s were active in epoch %d", other, l.from, a)
		}
		w.holders[a] = l.from
		if a > w.epoch {
			w.epoch, w.active, w.acks = a, l.from, 0
		}
	case l.text[0] == 'A' && n == 3:
		w.ledger.note(w.T, b, a, nil)
		w.last = max(w.last, a)
		w.times = append(w.times, int64(c))
		if b>>40 == w.epoch {
			if w.acks++; w.acks == 1 {
				w.firstAt = time.Unix(0, int64(c))
			}
		}
	case l.text[0] == 'D' && n == 1:
		w.ledger.refused[a] = fmt.Errorf("a definite error, on %s", l.from)
	case l.text[0] == 'U' && n == 1:
	case l.text[0] == 'C':
		w.settled[l.from] = true
	default:
		w.Fatalf("%s says %q", l.from, l.text)
	}
}

// gap is for how long nobody had acknowledged an append when the first of the last epoch was.
func (w *witness) gap() time.Duration {
	first, last := w.firstAt.UnixNano(), int64(0)
	for _, at := range w.times {
		if at < first {
			last = max(last, at)
		}
	}
	return time.Duration(first - last)
}

// until takes note of what comes until ok.
func (w *witness) until(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case l := <-w.lines:
			w.take(l)
		case <-deadline:
			w.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// pause takes note of what comes for a while, if anything does.
func (w *witness) pause(d time.Duration) {
	over := time.After(d)
	for {
		select {
		case l := <-w.lines:
			w.take(l)
		case <-over:
			return
		}
	}
}

// start starts a member, and listens to it.
func (w *witness) start(c *cluster, name string) {
	delete(w.settled, name)
	cfg := c.config(name)
	p := spawn(w.T, child{
		Name: cfg.Name, Dir: cfg.Dir, Cluster: cfg.Cluster, Members: cfg.Members,
		Heartbeat: cfg.Heartbeat, ElectionTimeout: cfg.ElectionTimeout, Writers: *killWriters, Pace: w.pace, CatchUp: w.last,
		Join: cfg.Join, Heal: cfg.Heal, NoHeir: *killNoHeir,
	})
	w.listen(name, p)
}

// listen listens to a member that was started, until its last line.
func (w *witness) listen(name string, p *process) {
	w.running[name] = p
	say := func(text string) {
		select {
		case w.lines <- line{name, text}:
		case <-w.Context().Done(): // nobody listens any more
		}
	}
	go func() {
		for text := range p.lines {
			say(text)
		}
		say("")
	}()
}

// kill kills members with SIGKILL, and then reads what they had printed to the end: what they had
// acknowledged is in the pipe, and no acknowledgement in flight can be taken for one that is lost.
func (w *witness) kill(names ...string) (at time.Time) {
	w.Helper()
	at = time.Now()
	for _, name := range names { // all at once: none is to see another one go
		w.running[name].cmd.Process.Kill()
	}
	for _, name := range names {
		w.running[name].kill()
		delete(w.running, name)
	}
	deadline := time.After(patience)
	for left := len(names); left > 0; {
		select {
		case l := <-w.lines:
			if l.text != "" {
				w.take(l)
			} else {
				left--
			}
		case <-deadline:
			w.Fatal("a killed process still prints")
		}
	}
	return at
}

// TestT16_SigkillLoop kills the Active with SIGKILL under load, again and again, alone and not: nothing acknowledged
// is lost or doubled, no record is of another epoch than the append it comes from, each Active has applied all of those
// before it, no two are active, all logs are equal, and where a majority is left the role is elsewhere soon. For the real thing:
//
//	go test ./ha -run T16 -v -kill.rounds=20 -kill.ways=10
func TestT16_SigkillLoop(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	w := newWitness(t)
	start := func(names ...string) {
		for _, name := range names {
			w.start(c, name)
		}
	}
	start(c.others()...)
	const load = 200 // acknowledged appends between two kills
	under := func() {
		w.until("all are there, under load", func() bool { return w.acks >= load && len(w.settled) == 3 })
	}
	under()
	var took []time.Duration
	killed := map[uint64]time.Time{}
	for range *killRounds {
		old, victim := w.epoch, w.active
		at := w.kill(victim)
		killed[old] = at
		w.until("the next active acknowledges", func() bool { return w.epoch > old && w.acks > 0 })
		took = append(took, w.firstAt.Sub(at))
		start(victim)
		under()
		if *killRounds > 1 { // for the figure: a member that has just started helps in no election before an election timeout is over
			w.pause(c.config(victim).ElectionTimeout * 6 / 5)
		}
	}
	random := testseed.Rand(t)
	ways := []func(first string){
		func(first string) { // two, one after the other: the next one as it begins
			old := w.epoch
			w.kill(first)
			w.until("the next is active", func() bool { return w.epoch > old })
			next := w.active
			w.kill(next)
			start(next, first)
		},
		func(first string) { // with a standby, so that no majority is left
			other := c.others(first)[random.IntN(2)]
			w.kill(first, other)
			start(other, first)
		},
		func(first string) { // all
			w.kill(c.others()...)
			start(c.others()...)
		},
		func(first string) { // and once more when it comes back, whatever it is doing
			w.kill(first)
			start(first)
			w.pause(time.Duration(random.IntN(100)) * time.Millisecond)
			w.kill(first)
			start(first)
		},
	}
	for range *killWays {
		for _, kill := range ways {
			old := w.epoch
			kill(w.active)
			w.until("there is a next active", func() bool { return w.epoch > old })
			under()
		}
	}
	w.kill(c.others()...)
	w.noOverlap()
	if *killRounds > 1 {
		logSteps(t, replacements(t, c, killed))
	}

	// The members' directories are opened here: also a test of all of them being killed at once.
	c.startAll()
	w.ledger.check(c)
	n, _ := c.active()
	w.epochs(records(t, n, c.put(number(0))))
	slices.Sort(took)
	t.Logf("%d kills, %d appends acknowledged; from the kill to the next active's first acknowledged append: median %v, max %v, all %v",
		len(took), len(w.ledger.acked), took[len(took)/2].Round(time.Millisecond/10), took[len(took)-1].Round(time.Millisecond/10),
		strings.Trim(fmt.Sprint(took), "[]"))
}
