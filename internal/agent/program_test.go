//go:build linux

package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

// A program is one with a state: it counts in records, and in two files that must be the same, and notes in another file, which outlives everything:
//
//	begin R F   it has found the number R in its records and F in its files
//	record R    R is acknowledged
//	commit F    F is
//	last R F    it was asked to end, has written R, and leaves F in its files
//	wrong …     what it has found is not what somebody has left
type program struct {
	notes *os.File
	dir   string
	out   *bufio.Reader
}

// runProgram runs one: dir has its files in the directory data, and a file for its notes is beside it.
func runProgram(dir string) error {
	notes, err := os.OpenFile(filepath.Dir(dir)+"/notes", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	p := &program{notes, dir + "/data", bufio.NewReader(os.Stdin)}
	if err := p.run(); err != nil {
		p.note("wrong", err)
		return err
	}
	return nil
}

// note is one write, which is there whole or not at all when the program is killed.
func (p *program) note(words ...any) { fmt.Fprint(p.notes, fmt.Sprintln(words...)) }

// heard is any line that a program hears.
type heard struct {
	Index    uint64
	Record   *int
	Snapshot *int
	Part     int
	Active   string
	Error    string
}

func (p *program) hear() (h heard, err error) {
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	return h, err
}

func (p *program) run() error {
	number := 0
	for index := uint64(0); ; {
		h, err := p.hear()
		if err != nil {
			return err
		}
		if h.Active != "" {
			break
		}
		if h.Index <= index {
			return fmt.Errorf("record %d after %d", h.Index, index)
		}
		index = h.Index
		switch {
		case h.Record != nil && *h.Record == number+1:
			number++
		case h.Snapshot != nil && (number == 0 && h.Part <= 1 || h.Part == 2 && *h.Snapshot == number):
			number = *h.Snapshot
		default:
			return fmt.Errorf("behind %d there is %+v", number, h)
		}
	}
	file, err := p.read()
	if err != nil {
		return err
	}
	var ends atomic.Bool
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() { <-term; ends.Store(true) }()
	p.note("begin", number, file) // from now on the test may end it
	for {
		number++
		requests := fmt.Sprintf(`{"record":%d}`+"\n", number)
		if number%40 == 0 {
			requests += fmt.Sprintf(`{"snapshot":%d,"more":true}`+"\n"+`{"snapshot":%d,"part":2}`+"\n", number, number)
		}
		fmt.Print(requests)
		for range strings.Count(requests, "\n") {
			if err := p.answered(); err != nil {
				return err
			}
		}
		p.note("record", number)
		if number%5 != 0 && !ends.Load() {
			continue
		}
		file++
		if err := p.write(file); err != nil {
			return err
		}
		if ends.Load() { // it does not wait until it hears what has become of its last record
			fmt.Printf(`{"record":%d}`+"\n", number+1)
			p.note("last", number+1, file)
			os.Exit(0)
		}
		fmt.Println(`{"commit":true}`)
		if err := p.answered(); err != nil {
			return err
		}
		p.note("commit", file)
	}
}

// answered hears one answer. One that is no longer Active has nothing to do any more.
func (p *program) answered() error {
	h, err := p.hear()
	if err != nil {
		os.Exit(1) // the agent is gone, and so are we in a moment
	}
	switch h.Error {
	case "":
		return nil
	case "not-active", "unknown", "no-room":
		os.Exit(1)
	}
	return fmt.Errorf("the answer is %+v", h)
}

// write writes a number into two files: so long that a commit has several pieces.
func (p *program) write(number int) error {
	text := []byte(strings.Repeat(fmt.Sprintln(number), 100_000))
	for _, name := range []string{"one", "sub/two"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(p.dir, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(p.dir, name), text, 0o644); err != nil {
			os.Exit(1) // the disk is full
		}
	}
	return nil
}

// read returns the number that both files must have.
func (p *program) read() (number int, err error) {
	one, err := os.ReadFile(filepath.Join(p.dir, "one"))
	if os.IsNotExist(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	two, err := os.ReadFile(filepath.Join(p.dir, "sub/two"))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(one), &number); err != nil {
		return 0, err
	}
	if string(one) != string(two) || strings.Repeat(fmt.Sprintln(number), 100_000) != string(one) {
		return 0, fmt.Errorf("half a commit of %d", number)
	}
	return number, nil
}
