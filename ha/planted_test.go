package ha

import (
	"flag"
	"os/exec"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/planted"
)

var simHunt = flag.String("sim.hunt", "", "look for a fault in the scenarios whose names match this, and fail if there is none")

// hunted are the scenarios in which planted bugs are looked for.
var hunted = []struct {
	name string
	run  func(seed uint64) *simCluster
}{
	{"T2", func(seed uint64) *simCluster { return runT2(seed, 20*time.Second) }},
	{"T4", func(seed uint64) *simCluster { return t4(seed, 50, false) }},
	{"T6", t6},
	{"the restart after a snapshot", snapshotAndRestart},
	{"snapshots across leaderships", snapshotAcrossLeaderships},
	{"snapshots under load", snapshotUnderLoad},
	{"snapshots on snapshots", snapshotOnSnapshot},
	{"T7", t7},
	{"births", births},
	{"repeated", repeated},
	{"starved", starvedActive},
	{"paused", paused},
	{"votes", votesForgotten},
	{"a paused machine", pausedMachine},
	{"slewed clocks", slewed},
	{"entries swallowed", stuck},
	{"sickness", sickness},
	{"kept out", kept},
	{"preferred", preferred},
	{"mixed timing", func(seed uint64) *simCluster { return mixedTiming(seed, false) }},
	{"mixed timing with a restart", func(seed uint64) *simCluster { return mixedTiming(seed, true) }},
	{"calm timing", calmTiming},
	{"readers", readers},
	{"callers", callers},
	{"callers of who comes back", recalled},
	{"reshaped", reshaped},
	{"prudent", prudent},
	{"arbitrated", arbitrated},
	{"healing", healing},
	{"members", func(seed uint64) *simCluster { return memberChanges(seed, 20*time.Second) }},
	{"heard late", heardLate},
	{"catching up", catchingUp},
	{"outrun", outrun},
	{"far away", farAway},
	{"the recorder's disk stands", recorderStands},
	{"restarted before a hand-over", restarted},
	{"T4 with a restart", func(seed uint64) *simCluster { return t4(seed, 50, true) }},
}

// plantedIn says in which test each planted bug must show that is outside what is simulated.
var plantedIn = map[string]string{
	"changed-by-apply":       "TestMutate_ApplyWrites",
	"checkpoint-stops":       "TestSnaperr",
	"copy-sighted":           "TestWhereabouts",
	"cursor-of-before":       "TestCursor_AfterAnElection",
	"epoch-forgotten":        "TestStatus_ARestartedStandbyKnowsTheActive",
	"handler-error-definite": "TestHandleLater",
	"lease-timer-late":       "TestLeaseTimer",
	"lost-before-chosen":     "TestRole",
	"moved-unheard":          "TestMoved_Needed",
	"reset-is-evidence":      "TestG4_AddressTaken",
	"restore-epoch":          "TestBackupRestore",
	"state-guessed":          "TestDrainedQueueIsAState",
	"wall-ignored":           "TestG4_WallJumps",
}

// TestHunt finds the bug that it was built with.
func TestHunt(t *testing.T) {
	if *simHunt == "" {
		t.Skip("nothing to hunt: see -sim.hunt")
	}
	scenarios, err := regexp.Compile(*simHunt)
	if err != nil {
		t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(2000))
	began := time.Now()
	for seed := uint64(1); seed <= 100; seed++ {
		for _, s := range hunted {
			if !scenarios.MatchString(s.name) {
				continue
			}
			if c := s.run(seed); len(c.check.faults) > 0 {
				t.Logf("found by seed %d of %s after %v: %.300s", seed, s.name, time.Since(began).Round(10*time.Millisecond), c.check.faults[0])
				return
			}
		}
	}
	t.Errorf("not found by 100 seeds in %v", time.Since(began).Round(time.Second))
}

// TestPlanted builds this test with one planted bug after the other and expects that the simulator finds it, or the test in plantedIn. A planted bug that
// is not found is a hole in those. Run it with: go test ./ha -run TestPlanted -planted . -v
//
// Without the flag it only sees to it that each can be planted.
func TestPlanted(t *testing.T) {
	// Two bugs must show in the partitions that TestT4_NoOverlap survives: without the lease, and without the guard of a
	// restarted voter, they bring two Actives about.
	needed := map[string]string{"lease-from-raft": "^T4$", "no-restart-guard": "^T4 with a restart$"}
	builds := make(chan struct{}, runtime.GOMAXPROCS(0)) // as many at a time
	_, wanted := planted.Wanted(t, "..")
	for _, b := range wanted {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			builds <- struct{}{}
			defer func() { <-builds }()
			if test := plantedIn[b.Name]; test != "" {
				planted.Fails(t, b.Build(t, ".."), test, "-patience=5s")
				return
			}
			binary := b.Build(t, "..", outside(t)...)
			found := hunt(t, binary, ".")
			t.Logf("%s: %s", b.Name, found)
			if in := needed[b.Name]; in != "" {
				if found := hunt(t, binary, in); !strings.Contains(found, "(G4)") {
					t.Errorf("%s saw no two actives: %s", in, found)
				}
			}
		})
	}
}

// outside are the files with tests of programs that use the package: a third of what a build takes, and the simulator is in none of them.
func outside(t *testing.T) []string {
	list, err := exec.Command("go", "list", "-f", `{{join .XTestGoFiles "\n"}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(list))
}

// hunt lets a build look for its bug, and returns what it says of it.
func hunt(t *testing.T, binary, scenarios string) string {
	cmd := exec.Command(binary, "-test.run=^TestHunt$", "-test.v", "-test.timeout=5m", "-sim.hunt="+scenarios)
	out, err := cmd.CombinedOutput()
	_, found, ok := strings.Cut(string(out), "found by ")
	if err != nil || !ok {
		t.Fatalf("%v\n%s", err, out)
	}
	found, _, _ = strings.Cut(found, "\n")
	return found
}
