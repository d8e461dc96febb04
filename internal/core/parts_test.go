package core

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestParts plays a script with each part of the core alone, of the file's name. Times are from any moment on, the election
// timeout is 500 ms, the heartbeat interval 50 ms, the drift 0.01. Each answer is what the part says, or how it stands then.
func TestParts(t *testing.T) {
	datadriven.Walk(t, "testdata/parts", func(t *testing.T, path string) {
		name := strings.TrimSuffix(filepath.Base(path), ".txt")
		part := parts[name]
		if part == nil {
			t.Fatalf("no part is called %q", name)
		}
		do := part()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			answer, ok := do(line{t, d})
			if !ok {
				t.Fatalf("%s: %s does not know %q", d.Pos, name, d.Cmd)
			}
			if answer == "" {
				return "ok\n"
			}
			return strings.TrimRight(answer, "\n") + "\n"
		})
	})
}

var partTiming = timing{heartbeat: 50 * time.Millisecond, election: 500 * time.Millisecond, drift: 0.01}

// A line is one command of a script.
type line struct {
	t *testing.T
	d *datadriven.TestData
}

func (l line) text(key string) string {
	var v string
	l.d.MaybeScanArgs(l.t, key, &v)
	return v
}

func (l line) time(key string) time.Duration {
	if !l.d.HasArg(key) {
		return 0
	}
	d, err := time.ParseDuration(l.text(key))
	if err != nil {
		l.t.Fatalf("%s: %v", l.d.Pos, err)
	}
	return d
}

func (l line) number(key string) uint64 {
	if !l.d.HasArg(key) {
		return 0
	}
	return l.parse(l.text(key))
}

func (l line) parse(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		l.t.Fatalf("%s: %v", l.d.Pos, err)
	}
	return n
}

// list is the values of an argument, as in key=(a,b).
func (l line) list(key string) []string {
	for _, arg := range l.d.CmdArgs {
		if arg.Key == key {
			return arg.Vals
		}
	}
	return nil
}

// size is a number of bytes, as in 300k.
func (l line) size(key string) int {
	text, unit := l.text(key), 1
	if s, ok := strings.CutSuffix(text, "k"); ok {
		text, unit = s, 1<<10
	}
	if s, ok := strings.CutSuffix(text, "M"); ok {
		text, unit = s, 1<<20
	}
	return int(l.parse(text)) * unit
}

func (l line) quorum() quorum {
	var q quorum
	for i, key := range []string{"voters", "outgoing"} {
		for _, id := range l.list(key) {
			q[i] = append(q[i], l.parse(id))
		}
	}
	return q
}

// parts makes each part anew, and plays one line with it.
var parts = map[string]func() func(l line) (answer string, ok bool){
	"flow":     playFlow,
	"position": playPosition,
	"voter": func() func(line) (string, bool) {
		v := voter{timing: partTiming, jitter: rand.New(rand.NewPCG(1, 1))}
		return func(l line) (string, bool) {
			now := l.time("now")
			switch l.d.Cmd {
			case "due":
				due := v.due(now, l.d.HasArg("starved"))
				return fmt.Sprintf("due: %v; campaigns at %v", due, v.electAt), true
			case "wait":
				v.wait(now, l.time("debt"), int(l.number("rank")))
			case "soon":
				v.soon(now, int(l.number("rank")))
			case "heard":
				v.heard(l.time("at"))
				return fmt.Sprintf("heard at %v", v.heardAt), true
			case "hunt":
				v.hunt(now, int(l.number("rank")))
			case "again":
				v.again(now, l.time("debt"), int(l.number("voters")))
			case "not-before":
				v.notBefore(l.time("free"))
			case "stand-aside":
				v.standAside(now, l.time("wait"))
			default:
				return "", false
			}
			return fmt.Sprintf("campaigns at %v, quick campaigns left: %d", v.electAt, v.hunts), true
		}
	},
	"promise": func() func(line) (string, bool) {
		var p promises
		return func(l line) (string, bool) {
			switch l.d.Cmd {
			case "restart":
				guard, keep := Guard(l.time("kept"), l.time("length"))
				p = promises{guard: l.time("now") + guard}
				return fmt.Sprintf("guard until %v; the directory is to say %v", p.guard, keep), true
			case "owe":
				p.owe(promise{leader: l.number("to"), term: l.number("term"), stamp: int64(l.number("stamp")), until: l.time("until"), firm: l.d.HasArg("firm")})
				return fmt.Sprintf("owes %d, of term %d, stamp %d, until %v", p.leader, p.term, p.stamp, p.until), true
			case "forgive":
				p.forgive()
			case "evidence":
				return fmt.Sprintf("counts: %v", p.countsEvidence(l.number("against"))), true
			case "vote":
				return map[bool]string{true: "it would break a promise", false: "it may"}[p.forbids(l.time("now"), l.number("term"), int64(l.number("released")))], true
			default:
				return "", false
			}
			return fmt.Sprintf("free at %v", p.free()), true
		}
	},
	"lease": func() func(line) (string, bool) {
		le := lease{timing: partTiming}
		return func(l line) (string, bool) {
			q := quorum{{1, 2, 3}}
			if l.d.HasArg("voters") {
				q = l.quorum()
			}
			switch l.d.Cmd {
			case "round":
				le.round(l.time("now"), 1)
			case "echo":
				le.heard(l.number("of"), le.echoOf(vow{stamp: int64(l.time("stamp")), length: l.time("promises"), drift: 0.01}))
				le.answer(max(l.time("now"), l.time("stamp")), q)
			case "give-up":
				le.giveUp()
			case "transfer":
				le.transfer(l.time("now"))
			case "transfer-failed":
				le.transferring = 0
			case "forget":
				le.forget()
			default:
				return "", false
			}
			return fmt.Sprintf("lease until %v, a heartbeat each %v, with stamps: %v, deaf: %v", le.end(q), le.interval(q, le.supported(q) != 0), le.stamps(), !le.rests), true
		}
	},
	"pace": func() func(line) (string, bool) {
		var p pace
		var now time.Duration
		batch := func(l line) *Batch { return &Batch{size: l.size("size")} }
		return func(l line) (string, bool) {
			switch l.d.Cmd {
			case "begin":
				for range max(1, l.number("times")) {
					p.begin(0, batch(l))
				}
			case "end":
				for range max(1, l.number("times")) {
					p.end(batch(l))
				}
			case "measured":
				p = pace{batches: p.batches, bytes: p.bytes, partial: p.partial}
				for range 100 {
					p.wrote(l.time("write"))
					p.committed(0, l.time("commit"), true)
				}
				return fmt.Sprintf("patience %v", p.patience().Round(100*time.Microsecond)), true
			case "batches":
				for range l.number("times") {
					now += l.time("gap")
					p.begin(now, batch(l))
					now += l.time("commit")
					p.end(batch(l))
					p.committed(now, l.time("commit"), true)
				}
				return fmt.Sprintf("another follows soon: %v", p.follows()), true
			case "room":
				idle := l.d.HasArg("idle")
				return fmt.Sprintf("for a small batch: %v, for a full one: %v", p.room(1000, idle), p.room(FullBatch, idle)), true
			default:
				return "", false
			}
			return fmt.Sprintf("%d batches, %d bytes, %d not full", p.batches, p.bytes, p.partial), true
		}
	},
	"fate": func() func(line) (string, bool) {
		f := fate{next: 1}
		show := func(b *Batch) string {
			return fmt.Sprintf("records %d to %d of epoch %d", b.First, b.First+uint64(b.Count)-1, b.Epoch)
		}
		return func(l line) (string, bool) {
			switch l.d.Cmd {
			case "propose":
				b := &Batch{Epoch: l.number("epoch"), Count: int(l.number("count")), First: f.next}
				f.propose(0, b)
				return show(b), true
			case "epoch": // that this member opens
				f.next = l.number("first")
			case "committed":
				if b := f.committed(Header{Epoch: l.number("epoch"), First: l.number("first")}); b != nil {
					return show(b) + " are committed", true
				}
				return "not ours", true
			case "history":
				var history []Epoch
				for _, row := range l.list("epochs") {
					e, first, _ := strings.Cut(row, "@")
					history = append(history, Epoch{Epoch: l.parse(e), First: l.parse(first)})
				}
				var out strings.Builder
				for b, err := f.over(history); b != nil; b, err = f.over(history) {
					fmt.Fprintf(&out, "%s: %v\n", show(b), err)
				}
				fmt.Fprintf(&out, "%d open", len(f.open))
				return out.String(), true
			default:
				return "", false
			}
			return fmt.Sprintf("the next record is %d", f.next), true
		}
	},
	"stall": func() func(line) (string, bool) {
		s := stall{timing: partTiming}
		return func(l line) (string, bool) {
			now := l.time("now")
			switch l.d.Cmd {
			case "write":
				s.write(now, &Write{Bytes: l.size("size")})
			case "writing":
				s.writing(now)
			case "written":
				if err := s.written(now, s.writes[0]); err != nil {
					l.t.Fatal(err)
				}
			case "apply":
				s.apply(now)
			case "applied":
				s.applied(now)
			case "resumed":
				s.resume(l.time("after"))
			case "at":
			default:
				return "", false
			}
			return fmt.Sprintf("disk stalled: %v, member stalled: %v", s.unwritten(now), s.stalled(now)), true
		}
	},
	"progress": func() func(line) (string, bool) {
		p := progress{timing: partTiming}
		return func(l line) (string, bool) {
			now := l.time("now")
			var out strings.Builder
			switch l.d.Cmd {
			case "watch":
				s := sight{commit: l.number("committed"), last: l.number("last"), busy: l.d.HasArg("busy")}
				for _, peer := range l.list("peers") {
					id, match, _ := strings.Cut(peer, "@")
					match, dead := strings.CutSuffix(match, "-silent")
					match, restoring := strings.CutSuffix(match, "-restoring")
					match, observes := strings.CutSuffix(match, "-observes")
					match, outrun := strings.CutSuffix(match, "-outrun")
					match, snapshot, _ := strings.Cut(match, "/")
					s.peers = append(s.peers, sighted{id: l.parse(id), match: l.parse(match), alive: !dead, restoring: restoring, observes: observes,
						outrun: outrun, snapshot: l.parse(cmp.Or(snapshot, "0"))})
				}
				waited := p.watch(now, s, func(ids []uint64) string { return strings.Trim(fmt.Sprint(ids), "[]") })
				gives := p.givesWay(waited, 0)
				fmt.Fprintf(&out, "nothing has moved for %v, gives way: %v\n", waited, gives)
				if gives {
					p.gaveWay(now)
				}
			case "end":
				p.end(l.d.HasArg("another-leads"))
			default:
				return "", false
			}
			for _, problem := range p.take() {
				about := "the log"
				if problem.Peer != 0 {
					about = fmt.Sprint(problem.Peer)
				}
				if problem.Err == nil {
					fmt.Fprintf(&out, "the problem of %s is over\n", about)
				} else {
					fmt.Fprintf(&out, "a problem of %s: %v\n", about, problem.Err)
				}
			}
			return out.String(), true
		}
	},
	"starved": func() func(line) (string, bool) {
		s := starvation{timing: partTiming}
		return func(l line) (string, bool) {
			var out strings.Builder
			now := l.time("now")
			switch l.d.Cmd {
			case "awake":
				if length := s.resume(now); length > 0 {
					fmt.Fprintf(&out, "a pause of %v; ", length)
				}
				s.awake(now, l.d.HasArg("busy"), now+4*s.heartbeat)
			case "on-time":
				for now = s.wakeAt; now < l.time("until"); now = s.wakeAt {
					s.awake(now, l.d.HasArg("busy"), now+4*s.heartbeat)
				}
			case "busy":
				s.busy(now)
			case "large":
				s.large(now)
			case "lapsed":
				s.lapsed(now)
				return fmt.Sprintf("no lease until %v", s.holdTill), true
			default:
				return "", false
			}
			fmt.Fprintf(&out, "debt %v, starved: %v, another would do better: %v, wakes at %v", s.debt, s.starved(), s.pressed(now), s.wakeAt)
			return out.String(), true
		}
	},
	"quorum": func() func(line) (string, bool) {
		return func(l line) (string, bool) {
			switch q := l.quorum(); l.d.Cmd {
			case "agreed":
				return fmt.Sprint(q.agreed(func(id uint64) time.Duration {
					for _, reached := range l.list("reached") {
						if name, at, _ := strings.Cut(reached, "@"); l.parse(name) == id {
							d, err := time.ParseDuration(at)
							if err != nil {
								l.t.Fatal(err)
							}
							return d
						}
					}
					return 0
				})), true
			case "rank":
				m := membersWith(Roster{}, q)
				var out []string
				for _, id := range slices.DeleteFunc(slices.Clone(q.all()), func(id uint64) bool { return id == l.number("without") }) {
					out = append(out, fmt.Sprintf("%d is %d", id, m.rank(id, l.number("without"))))
				}
				return strings.Join(out, ", "), true
			}
			return "", false
		}
	},
}
