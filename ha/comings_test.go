package ha

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pad is written by any goroutine.
type pad struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *pad) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(line)
}

// tear returns what was written, and begins anew.
func (p *pad) tear() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.b.Reset()
	return p.b.String()
}

// teller returns a node that does nothing but tell, and what it has said since it was asked last, one line after the other.
func teller() (n *Node, lines func() string) {
	var out pad
	plain := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == "member" {
			return slog.Attr{}
		}
		return a
	}}
	n = &Node{cfg: Config{Name: "a", Logger: slog.New(slog.NewTextHandler(&out, plain))}.withDefaults(), ended: make(chan struct{})}
	return n, func() string {
		synctest.Wait()
		return strings.ReplaceAll(strings.TrimSpace(out.tear()), "\n", "; ")
	}
}

func (n *Node) begins(epoch uint64) {
	n.event(Event{Kind: EventActive, Epoch: epoch, Text: fmt.Sprintf("active in epoch %d", epoch)})
}

func (n *Node) fails(text string) {
	err := errors.New("OnActive: " + text)
	n.eventOf(Event{Kind: EventFailed, Text: firstLine(err)}, err)
	n.event(Event{Kind: EventEnded, Cause: CauseOnActive, Text: "the role ends: " + text})
}

func (n *Node) ends(epoch uint64, cause string) {
	n.event(Event{Kind: EventEnded, Epoch: epoch, Cause: cause, Text: "the role ends: " + cause})
}

// TestLog_RolesThatEndBadly: what repeats is said once, then counted and said after growing pauses, and nothing new waits for that.
func TestLog_RolesThatEndBadly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lines := teller()
		want := func(what, want string) {
			t.Helper()
			if got := lines(); got != want {
				t.Errorf("%s:\n got %s\nwant %s", what, got, want)
			}
		}
		n.begins(1)
		n.fails("no licence")
		want("the first failure", `msg=active epoch=1; msg="callback failed" err="OnActive: no licence"`)
		time.Sleep(time.Second)
		n.begins(2)
		n.fails("no licence")
		want("the same again", "")
		n.begins(3)
		n.fails("no disk")
		want("another one", `msg=active epoch=3; msg="callback failed" times=2 err="OnActive: no disk"`)
		n.begins(4)
		n.fails("no licence")
		n.begins(5)
		n.fails("no disk")
		want("both again", "")
		time.Sleep(8 * time.Second)
		want("before the pause is over", "")
		time.Sleep(2 * time.Second)
		want("at the end of the pause", `msg="callback failed" times=2 err="OnActive: no disk"`)

		n.begins(6)
		n.event(Event{Kind: EventServing, Summary: &Summary{Silence: time.Second}, Text: "served: nobody acknowledged one for 1s"})
		want("a role that may fail at once", "")
		time.Sleep(time.Minute)
		want("one that goes on", `msg=active epoch=6; msg="the first append is acknowledged" why="nobody acknowledged one for 1s"`)
		n.ends(6, CauseLease)
		n.event(Event{Kind: EventSettled, Epoch: 6, Summary: &Summary{Refused: 1}, Text: "settled: 1 was refused"})
		want("and ends badly", `msg="the role ends" epoch=6 cause=lease-expired why=lease-expired; `+
			`msg="appends were refused, or their fate is unknown, since the role has ended" epoch=6 why="1 was refused"`)
		n.begins(7)
		n.ends(7, CauseAsked)
		want("one that ends in order", `msg=active epoch=7; msg="the role ends" epoch=7 cause=asked why=asked`)
		n.begins(8)
		n.ends(8, CauseAsked)
		want("all that end in order are said", `msg=active epoch=8; msg="the role ends" epoch=8 cause=asked why=asked`)
	})
}

// TestLog_GrowsWithTheLogarithm: a day of roles that all fail, whatever they say, and of a standby and a handler that do, are some lines, which
// count all of them.
func TestLog_GrowsWithTheLogarithm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, lines := teller()
		const rounds = 24 * 360
		for i := range uint64(rounds) {
			n.begins(i)
			n.fails(fmt.Sprintf("at %d", i))
			err := fmt.Errorf("OnStandby: at %d", i)
			n.eventOf(Event{Kind: EventFailed, Text: firstLine(err)}, err)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(maxSaidPause) // the last pause
		said := lines()
		times := 0
		for _, line := range strings.Split(said, "; ") {
			if !strings.Contains(line, "callback failed") {
				continue
			}
			k := 1
			if m := regexp.MustCompile(`times=(\d+)`).FindStringSubmatch(line); m != nil {
				k, _ = strconv.Atoi(m[1])
			}
			times += k
		}
		if count := strings.Count(said, "msg="); count > 400 || times != 2*rounds {
			t.Errorf("%d lines count %d failures, want at most 400 and %d:\n%s", count, times, 2*rounds, said)
		}
		// A fence that fails does, too, and its call with it.
		for i := range rounds {
			n.event(Event{Kind: EventFencing, Peer: "b", Text: "OnFence is called"})
			err := fmt.Errorf("OnFence: at %d", i)
			n.eventOf(Event{Kind: EventFailed, Text: firstLine(err)}, err)
			time.Sleep(10 * time.Second)
		}
		if count := strings.Count(lines(), "msg="); count > 300 {
			t.Errorf("%d lines of a fence that fails", count)
		}
		close(n.ended)
	})
}
