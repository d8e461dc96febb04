package ha_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/hosts"
	"github.com/baton-ha/baton/internal/loopback"
)

var causes = flag.String("causes", "", "which causes of the table of TestT22_Processes are injected, a regular expression; beside the few that need nothing they need root, ip, nft, and fsfreeze")

// A ward is a cluster of processes to which things happen.
type ward struct {
	*witness
	dirs  map[string]string
	kids  map[string]child
	hosts *hosts.Hosts // nil: all are on this one
	disks map[string]string
	over  map[string]bool // the process of a member has ended by itself
	other string          // the member that the last case was done to beside the Active
}

func newWard(t *testing.T, names ...string) *ward {
	w := &ward{witness: newWitness(t), dirs: map[string]string{}, kids: map[string]child{}, disks: map[string]string{}, over: map[string]bool{}}
	var members []ha.Member
	if *causes != "" {
		w.hosts = hosts.New(t, names...)
	}
	for i, name := range names {
		addr := ""
		if w.hosts != nil {
			addr = fmt.Sprintf("10.77.0.%d:7400", i+1)
			w.disks[name] = mountDisk(t)
			w.dirs[name] = filepath.Join(w.disks[name], name)
		} else {
			addr, w.dirs[name] = loopback.Addr(t), filepath.Join(t.TempDir(), name)
		}
		members = append(members, ha.Member{Name: name, Addr: addr})
	}
	for _, name := range names {
		w.kids[name] = child{Name: name, Dir: w.dirs[name], Cluster: "causes", Members: members, Writers: 1, Pace: 2 * time.Millisecond, Patient: true}
		if w.hosts != nil {
			k := w.kids[name]
			k.Host = w.hosts.Of(name)
			w.kids[name] = k
		}
	}
	return w
}

// mountDisk mounts a small file system of its own, until the end of the test.
func mountDisk(t *testing.T) (mnt string) {
	t.Helper()
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	for _, args := range [][]string{{"truncate", "-s", "300M", img}, {"mkfs.ext4", "-q", "-F", "-m", "0", img}, {"mount", "-o", "loop", img, mnt}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		_ = exec.Command("fsfreeze", "-u", mnt).Run()
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err, unix.Unmount(mnt, unix.MNT_DETACH))
		}
	})
	return mnt
}

func (w *ward) start(names ...string) {
	for _, name := range names {
		w.listen(name, spawn(w.T, w.kids[name]))
	}
}

// until is witness.until of processes that may end.
func (w *ward) until(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case l := <-w.lines:
			if w.over[l.from] = l.text == ""; l.text != "" {
				w.take(l)
			}
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			w.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// tell writes a line to a member's input.
func (w *ward) tell(name, format string, args ...any) {
	w.Helper()
	if _, err := fmt.Fprintf(w.running[name].stdin, format+"\n", args...); err != nil {
		w.Fatalf("tell %s: %v", name, err)
	}
}

// standby returns a running member that is not the Active.
func (w *ward) standby() string {
	for _, name := range slices.Sorted(maps.Keys(w.running)) {
		if name != w.active {
			return name
		}
	}
	w.Fatal("there is no standby")
	return ""
}

func (w *ward) pause(d time.Duration) {
	at := time.Now().Add(d)
	w.until("a while", func() bool { return time.Now().After(at) })
}

func (w *ward) signal(name string, s syscall.Signal) {
	w.Helper()
	must(w.T, w.running[name].cmd.Process.Signal(s))
}

// kill kills a member, whose process may have ended by itself.
func (w *ward) kill(name string) {
	w.Helper()
	if w.over[name] {
		delete(w.running, name)
		return
	}
	w.witness.kill(name)
}

// again ends a member, if it has not ended, and starts it again.
func (w *ward) again(name string) {
	w.Helper()
	w.kill(name)
	w.over[name] = false
	w.start(name)
}

// explain reads what the members have recorded, of those that have anything.
func (w *ward) explain() ha.Explanation {
	w.Helper()
	var dirs []string
	for name, dir := range w.dirs {
		if _, err := os.Stat(filepath.Join(dir, "events")); err == nil && w.kids[name].Name != "" {
			dirs = append(dirs, dir)
		}
	}
	x, err := ha.Explain(dirs...)
	must(w.T, err)
	return x
}

// freezer is a directory of the kernel's by which processes are stopped without a signal; it is what a suspended container sees.
func (w *ward) cgroup(kind string) (dir string) {
	w.Helper()
	for _, root := range []string{"/sys/fs/cgroup/" + kind, "/sys/fs/cgroup"} {
		if _, err := os.Stat(root + "/cgroup.procs"); err != nil {
			continue
		}
		dir = root + "/" + fmt.Sprintf("baton-causes-%d-%d", os.Getpid(), time.Now().UnixNano())
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		w.Cleanup(func() {
			for range 100 {
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		return dir
	}
	return ""
}

// put writes a value to the first file of a cgroup that is there.
func (w *ward) put(dir, value string, files ...string) bool {
	for _, f := range files {
		if _, err := os.Stat(filepath.Join(dir, f)); err == nil {
			return os.WriteFile(filepath.Join(dir, f), []byte(value), 0o600) == nil
		}
	}
	return false
}

// A cause is one line of the table. do lets it happen to the Active, undo makes good what it has done; want is what the failover that follows is said to
// be because of, and words are in what is said.
type cause struct {
	name   string
	do     func(w *ward, active string)
	undo   func(w *ward, active string)
	want   string
	words  string
	anyway bool // it needs nothing: it is injected at each run of the tests
}

func moodOf(name string) func(w *ward, active string) {
	return func(w *ward, active string) { w.tell(active, "mood %s", name) }
}

func well(w *ward, active string) { w.tell(active, "mood ") }

// theirs lets the other members have a mood, and the Active hand over.
func theirs(mood string) func(w *ward, active string) {
	return func(w *ward, active string) {
		for name := range w.running {
			if name != active {
				w.tell(name, "mood %s", mood)
			}
		}
		w.pause(50 * time.Millisecond)
		w.tell(active, "standby")
	}
}

func allWell(w *ward, _ string) {
	for name := range w.running {
		w.tell(name, "mood ")
	}
}

func restart(w *ward, active string) { w.again(active) }

var table = []cause{
	{name: "kill -9", do: func(w *ward, a string) { w.kill(a) }, undo: func(w *ward, a string) { w.start(a) }, want: string(ha.EndedGone), anyway: true},
	{name: "asked", do: func(w *ward, a string) { w.tell(a, "standby") }, want: ha.CauseAsked, words: "as asked on", anyway: true},
	{name: "OnActive fails", do: moodOf("active-fails"), undo: well, want: ha.CauseOnActive, words: "the program gives up", anyway: true},
	{name: "sick", do: moodOf("sick"), undo: well, want: ha.CauseUnhealthy, words: "the database is down", anyway: true},

	{name: "panic of the program", do: func(w *ward, a string) { w.tell(a, "crash") }, undo: restart, want: string(ha.EndedGone)},
	{name: "asked elsewhere", do: func(w *ward, _ string) { w.other = w.standby(); w.tell(w.other, "active") }, want: ha.CauseAsked, words: "as asked on"},
	{name: "restarted in order", do: func(w *ward, a string) { w.tell(a, "close") }, undo: restart, want: ha.CauseClosed},
	{name: "stay away", do: func(w *ward, a string) { w.tell(a, "away a new kernel") }, undo: func(w *ward, a string) { w.tell(a, "back") }, want: ha.CauseAway},
	{name: "preempted", do: func(w *ward, a string) { w.other = w.standby(); w.tell(a, "priority %s 5", w.other) },
		undo: func(w *ward, a string) { w.tell(w.other, "priority %s 0", w.other); w.pause(300 * time.Millisecond) }, want: ha.CausePreempted},
	{name: "a check that hangs", do: moodOf("check-hangs"), undo: well, want: ha.CauseUnhealthy},
	{name: "a check that panics", do: moodOf("check-panics"), undo: well, want: ha.CauseUnhealthy, words: "a check that panics"},
	{name: "OnActive panics", do: moodOf("active-panics"), undo: well, want: ha.CauseOnActive, words: "an OnActive that panics"},
	{name: "OnActive does not return", do: func(w *ward, a string) { w.tell(a, "mood active-hangs"); w.tell(a, "standby") }, undo: well, want: ha.CauseAsked, words: "as asked on"},
	{name: "Apply fails", do: moodOf("apply-fails"), undo: restart, want: ha.CauseStopped, words: "the state is inconsistent"},
	{name: "Apply hangs", do: moodOf("apply-hangs"), undo: well, want: string(ha.ObstacleApplyStalled), words: "does not return from Apply"},
	{name: "OnFence is slow", do: theirs("fence-slow"), undo: allWell, want: ha.CauseAsked, words: "Most of it was OnFence"},
	{name: "OnStandby is slow", do: theirs("standby-slow"), undo: allWell, want: ha.CauseAsked, words: "Most of it was waiting for OnStandby"},
	{name: "the disk stands still", do: func(w *ward, a string) { w.run("fsfreeze", "-f", w.disks[a]) }, undo: func(w *ward, a string) { w.run("fsfreeze", "-u", w.disks[a]) },
		want: string(ha.ObstacleDiskStalled), words: "the disk does not answer"},
	{name: "the disk is full", do: func(w *ward, a string) { fill(w.T, filepath.Join(w.disks[a], "other")) },
		undo: func(w *ward, a string) { must(w.T, os.Remove(filepath.Join(w.disks[a], "other"))) }, want: ha.CauseDiskFull},
	{name: "SIGSTOP for a while", do: func(w *ward, a string) { w.signal(a, syscall.SIGSTOP) }, undo: func(w *ward, a string) { w.pause(300 * time.Millisecond); w.signal(a, syscall.SIGCONT) }, want: ha.CausePaused, words: "did not run"},
	{name: "SIGSTOP for good", do: func(w *ward, a string) { w.signal(a, syscall.SIGSTOP) }, undo: restart, want: string(ha.EndedLease), words: "was not heard for"},
	{name: "frozen as a container is", do: freeze, undo: thaw, want: ha.CausePaused, words: "did not run"},
	{name: "too little processor", do: throttle, undo: thaw, want: string(ha.ObstacleStarved)},
	{name: "cut off in both directions", do: cutOff(true, true), undo: healed, want: ha.CauseLease},
	{name: "cut off, cannot be heard", do: cutOff(true, false), undo: healed, want: ha.CauseLease},
	{name: "cut off, hears nobody", do: cutOff(false, true), undo: healed, want: ha.CauseLease},
	{name: "removed from the cluster", do: func(w *ward, a string) { w.tell(w.standby(), "remove %s", a) }, want: ha.CauseMembers, words: "a change of the members"},
}

// nobody are reasons why nobody is Active, of which words are said.
var nobody = []cause{
	{name: "nobody: all are sick", do: func(w *ward, _ string) { all(w, "sick") }, undo: allWell, words: "the database is down"},
	{name: "nobody: OnFence fails", do: func(w *ward, active string) { all(w, "fence-fails"); w.pause(50 * time.Millisecond); w.kill(active) },
		undo: func(w *ward, active string) { allWell(w, active); w.start(active) }, words: "the power switch does not answer"},
	{name: "nobody: no majority", do: func(w *ward, active string) {
		for _, name := range slices.Sorted(maps.Keys(w.running)) {
			if name != active {
				w.kill(name)
			}
		}
	}, undo: allWell, words: "2 of 3 voters must be there, and "},
}

func all(w *ward, mood string) {
	for name := range w.running {
		w.tell(name, "mood %s", mood)
	}
}

func cutOff(out, in bool) func(w *ward, active string) {
	return func(w *ward, active string) { w.hosts.Cut(active, out, in) }
}

func healed(w *ward, active string) { w.hosts.Heal(active) }

var frozen string // the cgroup in which the Active is, "" if there is none

func freeze(w *ward, active string) {
	if frozen = w.cgroup("freezer"); frozen == "" || !w.put(frozen, strconv.Itoa(w.running[active].cmd.Process.Pid), "cgroup.procs") ||
		!w.put(frozen, map[bool]string{true: "FROZEN", false: "1"}[strings.Contains(frozen, "/freezer/")], "freezer.state", "cgroup.freeze") {
		w.Fatal("no cgroup can be frozen here")
	}
}

func throttle(w *ward, active string) {
	if frozen = w.cgroup("cpu"); frozen == "" || !w.put(frozen, strconv.Itoa(w.running[active].cmd.Process.Pid), "cgroup.procs") {
		w.Fatal("no cgroup can be made here")
	}
	if !w.put(frozen, "1000", "cpu.cfs_quota_us") && !w.put(frozen, "1000 1000000", "cpu.max") {
		w.Fatal("no cgroup can be throttled here")
	}
}

func thaw(w *ward, active string) {
	w.pause(300 * time.Millisecond)
	w.put(frozen, "THAWED", "freezer.state")
	w.put(frozen, "0", "cgroup.freeze")
	w.put(frozen, "-1", "cpu.cfs_quota_us")
	w.put(filepath.Dir(frozen), strconv.Itoa(w.running[active].cmd.Process.Pid), "cgroup.procs")
}

// run is hosts.run without hosts.
func (w *ward) run(args ...string) {
	w.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		w.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// TestT22_Processes lets one thing after the other happen to the Active of three processes, and compares what Explain says of it, from the
// members' directories, with what it was. Which is the whole table:
//
//	go test ./ha -run TestT22_Processes -v -causes .
func TestT22_Processes(t *testing.T) {
	t.Parallel()
	wanted, err := regexp.Compile(cmp.Or(*causes, "$.^"))
	must(t, err)
	w := newWard(t, "a", "b", "c")
	w.start("a", "b", "c")
	right := 0
	for _, c := range table {
		if !c.anyway && *causes == "" || *causes != "" && !wanted.MatchString(c.name) {
			continue
		}
		said := ""
		// On a busy machine a role may end for want of a majority, before it is ended here. Then it is tried again.
		for try := 0; ; try++ {
			w.acks = 0
			w.until("a load", func() bool { return w.acks >= 20 })
			old, active := w.epoch, w.active
			c.do(w, active)
			w.until(c.name+": the next active acknowledges", func() bool { return w.epoch > old && w.acks > 0 })
			if c.undo != nil {
				c.undo(w, active)
			}
			var f ha.Failover
			deadline := time.Now().Add(5 * time.Second)
			w.until(c.name+": it is explained", func() bool {
				for _, x := range w.explain().Failovers {
					if x.Epoch > old && (f.Epoch <= old || x.Epoch <= f.Epoch) {
						f = x
					}
				}
				return f.Epoch > old && f.Cause == c.want && strings.Contains(f.Text, c.words) && f.Cost.Silence > 0 || time.Now().After(deadline)
			})
			said = f.Text
			if f.Cause == c.want && strings.Contains(f.Text, c.words) {
				right++
				t.Logf("%-26s %-15s %s", c.name, f.Cause, f.Text)
				break
			}
			if f.Cause != ha.CauseLease && f.Cause != ha.CauseDeposed && f.Cause != ha.CauseStarved || try == 2 {
				t.Errorf("%s is said to be %q, want %q: %s", c.name, f.Cause, c.want, said)
				break
			}
		}
	}
	if *causes == "" {
		return
	}
	w = newWard(t, "a", "b", "c")
	w.start("a")
	w.until("it is said why nobody is Active yet", func() bool {
		return strings.Contains(w.explain().Now, "the cluster is not born: waiting for b")
	})
	w.start("b", "c")
	for _, c := range nobody {
		if !wanted.MatchString(c.name) {
			continue
		}
		w.acks = 0
		w.until("a load", func() bool { return w.acks >= 20 && len(w.settled) == 3 })
		active := w.active
		c.do(w, active)
		now := ""
		deadline := time.Now().Add(10 * time.Second)
		w.until(c.name+": it is explained", func() bool {
			now = w.explain().Now
			return strings.Contains(now, "nobody is Active") && strings.Contains(now, c.words) || time.Now().After(deadline)
		})
		if right++; !strings.Contains(now, "nobody is Active") || !strings.Contains(now, c.words) {
			right--
			t.Errorf("%s, and what is said is: %s", c.name, now)
		}
		t.Logf("%-26s %s", c.name, now)
		c.undo(w, active)
	}
	t.Logf("%d causes are named", right+1)
}
