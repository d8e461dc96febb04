package sim

import (
	"testing"
	"time"
)

// TestWorld_Order: whatever is asked for, and from within what, happens at its time, and of what is due at the same time the
// first that was asked for; to who is dead by then, nothing.
func TestWorld_Order(t *testing.T) {
	for seed := range uint64(200) {
		w := NewWorld(seed)
		p := w.NewProcess()
		p.Begin()
		const asked = 1000
		var at, doneAt time.Duration
		asks, done, dead, lastAsked := 0, 0, 0, -1
		var ask func()
		ask = func() {
			n, due := asks, w.Now()+w.Between(0, 50)
			asks++
			happens := func() {
				if w.Now() != due || due < at || due == doneAt && n < lastAsked {
					t.Fatalf("seed %d: what was asked for as the %dth for %d happens at %d, after the %dth at %d", seed, n, due, w.Now(), lastAsked, doneAt)
				}
				at, doneAt, lastAsked = w.Now(), due, n
				done++
				for range w.Rand.IntN(4) {
					if asks < asked {
						ask()
					}
				}
			}
			if n%10 == 9 {
				life := p.Life()
				p.After(due-w.Now(), func() {
					if p.Life() != life {
						t.Fatalf("seed %d: something happens to a life that is over", seed)
					}
					happens()
				})
				dead++
				return
			}
			w.After(due-w.Now(), happens)
		}
		for asks < 20 {
			ask()
		}
		w.After(100, func() {
			p.End()
			p.Begin()
		})
		w.Run(time.Second, nil)
		if n := w.Events(); n != asks+1 || done > asks || done < asks-dead {
			t.Fatalf("seed %d: of %d that were asked for %d have happened, %d with those to the dead", seed, asks, done, n)
		}
		if w.Now() != time.Second {
			t.Fatalf("seed %d: it is %v", seed, w.Now())
		}
	}
}
