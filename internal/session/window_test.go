package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A window grows to what its path and its reader need, and on a slow path no further: a ping comes through it in time. How far the other side is matters
// to neither.
func TestWindowFollowsThePath(t *testing.T) {
	for name, c := range map[string]struct {
		rate        int           // of the path, bytes a second
		far         time.Duration // to the other side and back
		reads       time.Duration // how long the reader takes for 4 KiB
		least, most int64
	}{
		"fast":         {rate: 1 << 30, least: 1 << 20, most: 1 << 20},
		"far":          {rate: 1 << 30, far: 2 * time.Second, least: 1 << 20, most: 1 << 20},
		"slow":         {rate: 100 << 10, least: 32 << 10, most: 100 << 10},
		"slow and far": {rate: 100 << 10, far: time.Second, least: 32 << 10, most: 100 << 10},
		"slow reader":  {rate: 1 << 30, reads: 100 * time.Millisecond, least: FirstWindow, most: 40 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := still()
				st := newStream(context.Background(), m, "x")
				defer st.stop(nil)
				const piece = 4 << 10
				credit := int64(FirstWindow)
				read := func(p []byte) {
					if _, err := st.Read(p); err != nil {
						t.Fatal(err)
					}
				}
				for range 100 {
					for p := make([]byte, piece); credit >= piece; credit -= piece {
						time.Sleep(time.Duration(piece) * time.Second / time.Duration(c.rate))
						if err := st.data(p); err != nil {
							t.Fatal(err)
						}
						if c.reads == 0 {
							read(p)
						}
					}
					for p := make([]byte, piece); st.in.n > 0; {
						time.Sleep(c.reads)
						read(p)
					}
					time.Sleep(c.far)
					m.mu.Lock()
					credit += st.grant
					st.grant, m.credits = 0, nil
					m.mu.Unlock()
				}
				if st.window < c.least || st.window > c.most {
					t.Errorf("a window of %d KiB", st.window>>10)
				}
			})
		})
	}
}
