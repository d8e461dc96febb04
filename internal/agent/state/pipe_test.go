//go:build linux

package state

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
)

const patience = time.Minute

// spoken is what a program hears that writes some lines and ends.
func spoken(t *testing.T, l *testLog, lines string, edit func(p *Pipe)) string {
	t.Helper()
	p := &Pipe{Node: l, Token: l.token, Machine: l.machines[0], Max: 1 << 20, Report: func(string) {}}
	if edit != nil {
		edit(p)
	}
	var heard bytes.Buffer
	if err := p.Run(t.Context(), strings.NewReader(lines), &heard); err != nil {
		t.Fatal(err)
	}
	return heard.String()
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	if got = strings.TrimSpace(got); got != strings.TrimSpace(want) {
		t.Errorf("the program hears\n%s\nwant\n%s", got, strings.TrimSpace(want))
	}
}

func TestPipe(t *testing.T) {
	l := newLog(t, new(Machine))
	compare(t, spoken(t, l, `{"record":{"user":"<ann>"}}
{"record":null,"id":"x"}
{"record":"not whole`, nil), `
{"active":"web/1/a","epoch":1,"name":"a"}
{"index":1}
{"id":"x","index":2}`)
	l.next()
	compare(t, spoken(t, l, `{"record":3}
{"snapshot":[1],"id":1,"more":true}
{"snapshot":[2],"id":2,"part":2,"more":true}
{"snapshot":[3],"id":3,"part":3}
{"record":4}
`, nil), `
{"index":1,"record":{"user":"<ann>"}}
{"index":2,"record":null}
{"active":"web/2/a","epoch":2,"name":"a"}
{"index":3}
{"id":1,"index":4}
{"id":2,"index":5}
{"id":3,"index":6}
{"index":7}`)
	l.next()
	compare(t, spoken(t, l, `{"snapshot":"all"}
`, nil), `
{"index":4,"snapshot":[1],"part":1,"more":true}
{"index":5,"snapshot":[2],"part":2,"more":true}
{"index":6,"snapshot":[3],"part":3}
{"index":7,"record":4}
{"active":"web/3/a","epoch":3,"name":"a"}
{"index":8}`)
	l.next()
	compare(t, spoken(t, l, "", nil), `
{"index":8,"snapshot":"all"}
{"active":"web/4/a","epoch":4,"name":"a"}`)
}

// A snapshot that is not whole counts for nothing, however it has broken off.
func TestPipeParts(t *testing.T) {
	for name, c := range map[string]struct {
		lines  string
		errors int
	}{
		"it ends":               {`{"snapshot":1,"part":1,"more":true}` + "\n", 0},
		"a part is missing":     {`{"snapshot":1,"part":1,"more":true}` + "\n" + `{"snapshot":3,"part":3}` + "\n", 1},
		"the first is missing":  {`{"snapshot":2,"part":2}` + "\n", 1},
		"a record between":      {`{"snapshot":1,"more":true}` + "\n" + `{"record":9}` + "\n" + `{"snapshot":2,"part":2}` + "\n", 1},
		"a part is refused":     {`{"snapshot":1,"more":true}` + "\n" + `{"snapshot":"no","part":2,"more":true}` + "\n" + `{"snapshot":3,"part":3}` + "\n", 2},
		"the last is refused":   {`{"snapshot":1,"more":true}` + "\n" + `{"snapshot":"no","part":2}` + "\n", 1},
		"a part is too long":    {`{"snapshot":1,"more":true}` + "\n" + `{"snapshot":"` + strings.Repeat("x", maxLine) + `","part":2}` + "\n" + `{"snapshot":3,"part":3}` + "\n", 2},
		"all parts are too big": {strings.Repeat(`{"snapshot":"`+strings.Repeat("y", maxLine/2)+`","part":1,"more":true}`+"\n", 1) + `{"snapshot":"` + strings.Repeat("y", maxLine*2/3) + `","part":2}` + "\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := new(Machine)
			l := newLog(t, m)
			spoken(t, l, `{"record":"kept"}`+"\n", nil)
			l.refuse = func(r []byte) error {
				if strings.Contains(string(r), `"no"`) {
					return ha.ErrNoRoom
				}
				return nil
			}
			// One at a time, so that one that is refused does not take others with it.
			p := &Pipe{Node: l, Token: l.token, Machine: m, Max: 1 << 20, Report: func(string) {}}
			var heard bytes.Buffer
			if err := p.Run(t.Context(), lineByLine(c.lines), &heard); err != nil {
				t.Fatal(err)
			}
			if got := strings.Count(heard.String(), "error"); got != c.errors {
				t.Errorf("%d errors, want %d: %s", got, c.errors, heard.String())
			}
			l.next()
			if got := spoken(t, l, "", nil); !strings.Contains(got, "kept") || strings.Contains(got, "snapshot") {
				t.Errorf("the next one hears %.200s", got)
			}
			// What has broken off is no part of the next snapshot.
			l.refuse = nil
			l.next()
			spoken(t, l, `{"snapshot":"whole","part":1,"more":true}`+"\n"+`{"snapshot":"and","part":2}`+"\n", nil)
			l.next()
			if got := spoken(t, l, "", nil); strings.Count(got, "snapshot") != 2 || !strings.Contains(got, "whole") {
				t.Errorf("after a whole snapshot the next one hears %.300s", got)
			}
		})
	}
}

// lineByLine is a reader that never has two lines at once.
func lineByLine(lines string) io.Reader {
	var list []io.Reader
	for _, line := range strings.SplitAfter(lines, "\n") {
		list = append(list, strings.NewReader(line))
	}
	return io.MultiReader(list...)
}

func TestPipeNonsense(t *testing.T) {
	l := newLog(t, new(Machine))
	var reported []string
	got := spoken(t, l, strings.Join([]string{
		`hello`, `{}`, `[1]`, `{"record":1,"snapshot":2}`, `{"recrod":1}`, `{"record":1} {"record":2}`, `{"record":1,"more":true}`, `{"snapshot":1,"part":-1}`,
		`{"commit":true}`, `{"id":7,"record":1,"commit":true}`, `{"record":`, ``, "{\"record\":\"\x00\"}",
		`{"record":"` + strings.Repeat("x", 3*maxLine) + `"}`, `{"record":"good"}` + "\r", ``,
	}, "\n"), func(p *Pipe) { p.Report = func(line string) { reported = append(reported, line) } })
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 16 {
		t.Fatalf("%d answers:\n%s", len(lines), got)
	}
	for i, line := range lines[1:14] {
		if !strings.Contains(line, `"error":"bad-line"`) || strings.Contains(line, `"id":7`) != (i == 9) {
			t.Errorf("answer %d is %s", i+1, line)
		}
	}
	if !strings.Contains(lines[14], `"error":"too-large"`) || lines[15] != `{"index":1}` {
		t.Errorf("the last answers are %s, %s", lines[14], lines[15])
	}
	if len(reported) != 1 || reported[0] != "hello" {
		t.Errorf("reported: %q", reported)
	}
}

// A program that has written as much as may be must write a snapshot, and can go on at once behind it.
func TestPipeFull(t *testing.T) {
	l := newLog(t, new(Machine))
	record := `{"record":"` + strings.Repeat("x", 1000) + `"}` + "\n"
	got := spoken(t, l, strings.Repeat(record, 12)+`{"snapshot":1}`+"\n"+strings.Repeat(record, 9), func(p *Pipe) { p.Max = 10 * (1002 + overhead) })
	if n := strings.Count(got, `"error":"full"`); n != 2 {
		t.Errorf("%d records were refused, want 2:\n%.500s", n, got)
	}
	if n := strings.Count(got, "index"); n != 20 {
		t.Errorf("%d requests were done", n)
	}
	got = spoken(t, l, `{"record":2}`+"\n"+`{"snapshot":2}`+"\n"+`{"record":3}`+"\n", func(p *Pipe) { p.Max = 150 })
	if !strings.HasSuffix(got, "}\n"+`{"index":21}`+"\n"+`{"index":22}`+"\n") || strings.Count(got, "full") != 1 {
		t.Errorf("the program hears at its end %s", got[max(0, len(got)-300):])
	}
}

// What one who is not Active any more writes is refused, and so is what could not be told.
func TestPipeErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		code string
	}{{ha.ErrFenced, "not-active"}, {&ha.NotActiveError{}, "not-active"}, {ha.ErrUnknown, "unknown"}, {&ha.NoRoomError{}, "no-room"}, {fmt.Errorf("it burns"), "failed"}} {
		l := newLog(t, new(Machine))
		l.refuse = func([]byte) error { return c.err }
		if got := spoken(t, l, `{"record":1}`+"\n", nil); !strings.Contains(got, `{"error":"`+c.code+`"`) {
			t.Errorf("%v: %s", c.err, got)
		}
	}
}

// A program that does not read its answers is not heard any more: nothing is kept for it.
func TestPipeDeaf(t *testing.T) {
	l := newLog(t, new(Machine))
	requests, theirs := io.Pipe()
	heard, answers := io.Pipe()
	p := &Pipe{Node: l, Token: l.token, Machine: l.machines[0], Max: 1 << 20, Report: func(string) {}}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(context.WithoutCancel(t.Context()), requests, answers) }()
	r := bufio.NewReader(heard)
	if _, err := r.ReadString('\n'); err != nil { // it is Active
		t.Fatal(err)
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		for err := error(nil); err == nil; {
			_, err = io.WriteString(theirs, `{"record":1}`+"\n")
		}
	}()
	if _, err := r.Peek(1); err != nil { // an answer is under way
		t.Fatal(err)
	}
	heard.Close() // as the end of the role does
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
	requests.Close()
	<-written
	if n := len(l.entries); n > 10_000 {
		t.Errorf("%d records were taken from a program that has read no answer", n)
	}
}
