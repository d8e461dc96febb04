package fencetest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/fence/filefence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

var (
	raceTimes  = flag.Int("race.times", 1000, "how often the writers of TestS3_Race write")
	lateRounds = flag.Int("late.rounds", 4, "how often TestT3 stops the Active")
)

const (
	lease    = 500 * time.Millisecond // the default election timeout, which is longer than any lease
	patience = 2 * time.Minute
)

// TestT3_PausedActive is T3: three members, real processes, of which the Active writes through every guard all the time. It is
// stopped by SIGSTOP for three leases and more, until the next one has written through every guard; one guard's owner after the other is
// restarted meanwhile, by kill -9. Then it goes on and does not know that its role has ended. Nothing that it writes then takes effect; and
// without the guards it does. For the real thing:
//
//	fence/fencetest/servers.sh run go -C fence/fencetest test -run T3 -v -late.rounds=100 -timeout 1h
func TestT3_PausedActive(t *testing.T) {
	c := newLateCluster(t)
	for round := range *lateRounds {
		c.round(round)
	}
	for _, m := range c.members {
		m.kill()
	}
	for guard, epochs := range c.journals {
		list, err := epochs()
		n := late(list)
		if name, isBare := strings.CutPrefix(guard, bare); err != nil || len(list) == 0 {
			t.Errorf("the journal of %s has %d writes, %v", guard, len(list), err)
		} else if isBare && n == 0 {
			t.Errorf("without %s no write was late: this test shows nothing", name)
		} else if !isBare && n > 0 {
			t.Errorf("%s: %d of %d writes were late", guard, n, len(list))
		} else {
			t.Logf("%s: %d of %d writes were late", guard, n, len(list))
		}
	}
	for guard, n := range c.found {
		if guard == "s3" {
			t.Errorf("%s: something late was found %d times", guard, n)
		}
	}
	if c.found[bare+"s3"] == 0 {
		t.Error("without s3 nothing late was found: this test shows nothing")
	}
}

// A lateCluster is three members, the owners of the guards, and what the members have said.
type lateCluster struct {
	*testing.T
	members  map[string]*process
	targets  map[string]target
	journals map[string]func() ([]uint64, error)
	owners   []func() // restart one each
	lines    chan [2]string

	epoch   uint64            // the highest
	active  string            // whose it is
	wrote   map[string]uint64 // by guard: the highest epoch of which a write was done
	refused map[string]bool   // "EPOCH GUARD", by which a writer has ended
	said    map[uint64]bool   // epochs whose late append was refused
	found   map[string]int    // late writes that a writer has found
}

func newLateCluster(t *testing.T) *lateCluster {
	c := &lateCluster{
		T: t, members: map[string]*process{}, targets: map[string]target{}, journals: map[string]func() ([]uint64, error){},
		lines: make(chan [2]string), wrote: map[string]uint64{}, refused: map[string]bool{}, said: map[uint64]bool{}, found: map[string]int{},
	}
	c.serve()
	c.databases()
	var list []ha.Member
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, ha.Member{Name: name, Addr: loopback.Addr(t)})
	}
	dir := t.TempDir()
	for _, m := range list {
		p := spawn(t, child{Member: &member{Name: m.Name, Dir: filepath.Join(dir, m.Name), Members: list, Targets: c.targets}})
		c.members[m.Name] = p
		go func() {
			for text := range p.lines {
				select {
				case c.lines <- [2]string{m.Name, text}:
				case <-t.Context().Done():
				}
			}
		}()
	}
	return c
}

// serve starts the owners that are our own: HTTP, gRPC, S3; and adds files, which have none.
func (c *lateCluster) serve() {
	dir := c.TempDir()
	o := &owner{Dir: dir}
	start := func() *process {
		p := spawn(c.T, child{Owner: o})
		go func() {
			for range p.lines {
			}
		}()
		for _, name := range []string{"http", "grpc", bare + "grpc"} {
			await(c.T, o.socket(name))
		}
		return p
	}
	own := start()
	s, store := startS3(c.T)
	c.owners = append(c.owners, func() { own.kill(); own = start() }, func() { store.kill(); store = s.start(c.T) })
	for _, name := range []string{"http", bare + "http", "grpc", bare + "grpc"} {
		socket := o.socket(name)
		if name == bare+"http" {
			socket = o.socket("http")
		}
		c.targets[name] = target{Where: socket}
		c.journals[name] = func() ([]uint64, error) { return readEpochs(o.journal(name)) }
	}
	c.targets["s3"], c.targets[bare+"s3"] = target{s.Socket, "fenced"}, target{s.Socket, "bare"}
	plain := filepath.Join(dir, "plain")
	c.targets[bare+"file"] = target{Where: plain}
	c.journals[bare+"file"] = func() ([]uint64, error) { return readEpochs(plain) }
	fenced := filepath.Join(dir, "fenced")
	c.targets["file"] = target{Where: fenced}
	c.journals["file"] = func() (epochs []uint64, err error) {
		j, err := filefence.NewJournal(fenced)
		if err != nil {
			return nil, err
		}
		for r, err := range j.Records(c.Context(), 0) {
			var epoch uint64
			if err == nil {
				_, err = fmt.Sscan(string(r.Data), &epoch)
			}
			if err != nil {
				return nil, err
			}
			epochs = append(epochs, epoch)
		}
		return epochs, nil
	}
}

// databases adds those that are there. A writer that sleeps in its transaction is put out by them, but for SQLite.
func (c *lateCluster) databases() {
	timeouts := map[string]string{"postgres": "idle_in_transaction_session_timeout=100", "mariadb": "idle_transaction_timeout=1"}
	for _, d := range databases[:3] {
		if variable := "FENCE_" + strings.ToUpper(d.name); timeouts[d.name] != "" && os.Getenv(variable) == "" {
			c.without(variable)
			continue
		}
		source := d.source(c.T)
		db := open(c.T, d.driver, source)
		for _, prefix := range []string{"", bare} {
			_, j := fenced(c.T, d, db, 0)
			c.journals[prefix+d.name] = func() ([]uint64, error) { return j.epochs(c.T, db), nil }
			at := target{source, j.table}
			if timeouts[d.name] != "" {
				at.Where = with(source, timeouts[d.name])
			}
			c.targets[prefix+d.name] = at
		}
		if timeouts[d.name] != "" {
			c.owners = append(c.owners, c.restart(d.name))
		}
	}
	if os.Getenv("FENCE_REDIS") == "" {
		c.without("FENCE_REDIS")
		return
	}
	for _, prefix := range []string{"", bare} {
		_, client, j := redisFence(c.T)
		c.targets[prefix+"redis"] = target{os.Getenv("FENCE_REDIS"), strings.TrimSuffix(j, ":journal")}
		c.journals[prefix+"redis"] = func() ([]uint64, error) { return redisEpochs(c.T, client, j), nil }
	}
	c.owners = append(c.owners, c.restart("redis"))
}

// without says that a server is missing.
func (c *lateCluster) without(variable string) {
	if os.Getenv("FENCE_NEEDED") != "" {
		c.Fatalf("%s is not set", variable)
	}
	c.Logf("%s is not set: the test goes on without it. See servers.sh", variable)
}

// restart returns how to restart one of the servers of servers.sh.
func (c *lateCluster) restart(name string) func() {
	return func() {
		if out, err := exec.Command("./servers.sh", "restart", name).CombinedOutput(); err != nil {
			c.Fatalf("restart %s: %v\n%s", name, err, out)
		}
	}
}

// take takes note of a line.
func (c *lateCluster) take(from, text string) {
	var epoch uint64
	fields := append(strings.Fields(text), "", "", "")
	if _, err := fmt.Sscan(fields[1], &epoch); err != nil {
		c.Fatalf("%s says %q", from, text)
	}
	switch guard := fields[2]; fields[0] {
	case "R":
		if epoch > c.epoch {
			c.epoch, c.active = epoch, from
		}
	case "W":
		c.wrote[guard] = max(c.wrote[guard], epoch)
	case "S", "X":
		c.refused[fmt.Sprint(epoch, " ", guard)] = true
	case "L":
		c.found[guard]++
	case "A":
		if guard != "refused" {
			c.Errorf("an append with the token of epoch %d was %s after its role had ended", epoch, guard)
		}
		c.said[epoch] = true
	default:
		c.Fatalf("%s says %q", from, text)
	}
}

// until takes note of what is said until ok.
func (c *lateCluster) until(what string, ok func() bool) {
	c.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case l := <-c.lines:
			c.take(l[0], l[1])
		case <-deadline:
			c.Fatalf("not within %v: %s; epoch %d of %s, written %v, ended %v", patience, what, c.epoch, c.active, c.wrote, c.refused)
		}
	}
}

// written reports whether writes of an epoch or a later one were done through all guards, but for some.
func (c *lateCluster) written(epoch uint64, but ...string) bool {
	for guard := range c.targets {
		if c.wrote[guard] < epoch && !strings.Contains(" "+strings.Join(but, " ")+" ", " "+guard+" ") {
			return false
		}
	}
	return true
}

func (c *lateCluster) round(n int) {
	c.until("the Active writes everywhere", func() bool { return c.epoch > 0 && c.written(c.epoch) })
	old, victim := c.epoch, c.members[c.active]
	if err := victim.Process.Signal(syscall.SIGSTOP); err != nil {
		c.Fatal(err)
	}
	stopped := time.Now()
	// If it sleeps in a transaction of SQLite, that has its lock.
	c.until("the next one writes everywhere", func() bool { return c.written(old+1, "sqlite", bare+"sqlite") })
	c.owners[n%len(c.owners)]()
	time.Sleep(time.Until(stopped.Add(3 * lease)))
	if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
		c.Fatal(err)
	}
	c.until("the old one has heard from everywhere that it is deposed", func() bool {
		for guard := range c.targets {
			if !c.refused[fmt.Sprint(old, " ", guard)] {
				return false
			}
		}
		return c.said[old]
	})
}
