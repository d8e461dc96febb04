package log

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// picky is a state machine that does not take some states.
type picky struct {
	flaky
	refused map[string]bool
	asked   []string
}

func (p *picky) Restore(r io.Reader) error {
	b, err := io.ReadAll(r)
	p.asked = append(p.asked, string(b))
	if p.refused[string(b)] {
		p.n = 1 << 20 // it has begun
		return errors.New("sick")
	}
	fmt.Sscan(string(b), &p.n)
	return err
}

// TestRestoreFails: where the newest snapshot cannot be restored, the one before it and the log between the two give
// the same state. The bad one is never what is fallen back to.
func TestRestoreFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSolo(t, &flaky{})
		append := func(n int) {
			for range n {
				if err := s.append(1); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // for the checkpoint
			}
		}
		append(49)
		s.Close()
		sm := &picky{refused: map[string]bool{}}
		good, total := "", 50
		for life := range 3 { // each finds that the newest is bad
			sm.asked = nil
			newest := fmt.Sprint(s.disk.newest())
			sm.refused[newest] = true
			var err error
			if s, err = openSolo(t, s.disk, sm); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if want := total + 1; sm.n != want || len(sm.asked) != 2 || sm.asked[0] != newest || good != "" && sm.asked[1] != good {
				t.Errorf("life %d: %d records, want %d; asked to restore %v, good was %s", life, sm.n, want, sm.asked, good)
			}
			good = sm.asked[1]
			if s.problem(problemRestore) == nil {
				t.Error("no problem is told")
			}
			for total = sm.n; fmt.Sprint(s.disk.newest()) == newest; total++ {
				append(1)
			}
			s.Close()
		}
		sm.refused[fmt.Sprint(s.disk.newest())], sm.refused[good] = true, true
		if s, err := openSolo(t, s.disk, sm); err == nil {
			s.Close()
			t.Error("opened with a state from nowhere")
		}
	})
}

// careful is a state machine that verifies what is written.
type careful struct {
	flaky
	bad  bool
	seen string
}

func (c *careful) Verify(r io.Reader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bad {
		return errors.New("sick") // without having read it
	}
	b, err := io.ReadAll(r)
	c.seen = string(b)
	return err
}

// TestVerify: a state that the state machine would not restore never comes into force.
func TestVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sm := &careful{bad: true}
		s := newSolo(t, sm)
		if err := s.append(50); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.problem(problemCheckpoint) == nil || s.disk.newest() != 0 {
			t.Errorf("problem %v, snapshot at %d", s.problem(problemCheckpoint), s.disk.newest())
		}
		sm.mu.Lock()
		sm.bad = false
		sm.mu.Unlock()
		time.Sleep(2 * maxCheckpointPause)
		synctest.Wait()
		if s.problem(problemCheckpoint) != nil || s.disk.newest() != 51 || sm.seen != "51" {
			t.Errorf("problem %v, snapshot at %d, seen %q", s.problem(problemCheckpoint), s.disk.newest(), sm.seen)
		}
		s.Close()
	})
}
