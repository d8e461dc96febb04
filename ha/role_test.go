package ha

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/baton-ha/baton/log"
)

// TestRole runs the scripts in testdata/role against the role machine of member "a", id 1. Each command
// is one step; its output is what the machine wants, and the state it is in then. Rewrite the outputs
// with: go test ./ha -run TestRole -rewrite
func TestRole(t *testing.T) {
	datadriven.Walk(t, "testdata/role", func(t *testing.T, path string) {
		var now time.Duration
		var candidate uint64
		r := newRole(roleConfig{
			name: "a", cluster: "jobs", heartbeat: 50 * time.Millisecond, electionTimeout: 500 * time.Millisecond,
			drainTimeout: 10 * time.Second, coolDown: 5 * time.Second,
			successor: func(_ time.Duration, want uint64) (uint64, error) {
				if candidate == 0 || want != 0 && want != candidate {
					return 0, ErrNoSuccessor
				}
				return candidate, nil
			},
		}, log.Epoch{})
		var wishes []*wish
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.HasArg("at") {
				var at string
				d.ScanArgs(t, "at", &at)
				parsed, err := time.ParseDuration(at)
				if err != nil {
					t.Fatal(err)
				}
				now = parsed
			}
			number := func(key string) (n uint64) {
				d.MaybeScanArgs(t, key, &n)
				return n
			}
			text := func(key string) (s string) {
				d.MaybeScanArgs(t, key, &s)
				return s
			}
			var in input
			switch d.Cmd {
			case "leader":
				id := number("id")
				in = reported{log.Leadership{Leader: id, Term: number("term"), Leading: id == 1}}
			case "lease":
				until, _ := time.ParseDuration(text("until"))
				in = reported{log.Lease{Until: until}}
			case "epoch":
				in = reported{log.EpochStarted{Epoch: log.Epoch{Epoch: number("n"), Holder: text("holder"), Term: number("term")}}}
			case "refused":
				in = reported{log.StartRefused{}}
			case "asked":
				in = reported{log.TransferAsked{By: number("by")}}
			case "returned":
				var err error
				if s := text("err"); s != "" {
					err = errors.New(s)
				}
				in = returned(err)
			case "expired":
				in = expired{r.phase.token}
			case "become":
				w := &wish{active: d.HasArg("active")}
				wishes = append(wishes, w)
				in = become{w}
			case "successor":
				candidate = number("id")
				return ""
			case "stopped":
				in = stopped{}
			case "wake":
				in = wake{}
			default:
				t.Fatalf("unknown command %s", d.Cmd)
			}
			return show(&r, r.step(now, in), now, wishes)
		})
	})
}

// show writes down what a step of the role machine wants.
func show(r *role, out output, now time.Duration, wishes []*wish) string {
	var b strings.Builder
	for _, a := range out.actions {
		switch a := a.(type) {
		case run:
			if a.phase.active {
				fmt.Fprintf(&b, "call OnActive(%v)\n", a.phase.token)
			} else {
				fmt.Fprintln(&b, "call OnStandby")
			}
		case end:
			fmt.Fprintf(&b, "end ctx: %v\n", a.cause)
		case answer:
			fmt.Fprintf(&b, "answer %d: %v\n", slices.Index(wishes, a.wish)+1, a.err)
		case report:
			fmt.Fprintf(&b, "report: %v\n", a.err)
		}
	}
	for _, e := range out.events {
		switch e := e.(type) {
		case log.Transfer:
			fmt.Fprintf(&b, "log: transfer to %d\n", e.To)
		case log.StartEpoch:
			fmt.Fprintln(&b, "log: start an epoch")
		case log.AskTransfer:
			fmt.Fprintln(&b, "log: ask for leadership")
		}
	}
	fmt.Fprint(&b, r.state(now))
	if at := r.deadline(now); at != 0 {
		fmt.Fprintf(&b, ", wake at %v", at)
	}
	return b.String() + "\n"
}
