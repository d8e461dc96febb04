package log

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/baton-ha/baton/internal/sim"
)

// TestCrowd: appenders that take a while to come back, as those in other processes do, end up in one batch; others are not waited for.
func TestCrowd(t *testing.T) {
	const commit, back = 4 * time.Millisecond, time.Millisecond
	for _, test := range []struct {
		name    string
		run     func(s *solo)
		batches int // in a second, at least
		each    float64
	}{
		{"two halves", func(s *solo) {
			for i := range 64 {
				go func() {
					time.Sleep(time.Duration(i/32) * (back + commit/2))
					for s.append(1) == nil {
						time.Sleep(back)
					}
				}()
			}
		}, 150, 60},
		{"alone", func(s *solo) {
			go func() {
				for s.append(1) == nil {
					time.Sleep(back)
				}
			}()
		}, 190, 1},
		{"nobody waits for answers", func(s *solo) {
			s.mu.Lock()
			epoch := s.epoch
			s.mu.Unlock()
			go func() {
				for {
					if _, err := s.AppendAsync(epoch, make([]byte, 100)); err != nil {
						return
					}
					time.Sleep(100 * time.Microsecond)
				}
			}()
		}, 225, 30},
		{"who takes too long", func(s *solo) {
			for i := range 64 {
				go func() {
					time.Sleep(time.Duration(i) * time.Millisecond)
					for s.append(1) == nil {
						time.Sleep(40 * time.Millisecond)
					}
				}()
			}
		}, 200, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := &soloDisk{Disk: sim.NewDisk(Boot([]Member{{ID: 1, Name: "a"}})), takes: commit}
				// Whoever can append at a moment does, in whatever order the scheduler would run them.
				s := must(openSolo(t, disk, nil, func(l *Log) { l.yield = synctest.Wait }))
				test.run(s)
				time.Sleep(2 * time.Second)
				was := s.Stats()
				time.Sleep(4 * time.Second)
				is := s.Stats()
				records, batches := is.Appended-was.Appended, is.Batches-was.Batches
				if each := float64(records) / float64(batches); each < 0.99*test.each { // a batch may be counted whose records are not yet
					t.Errorf("%.1f records in a batch, want at least %.0f", each, test.each)
				}
				if got := int(batches / 4); got < test.batches {
					t.Errorf("%d batches in a second, want at least %d", got, test.batches)
				}
				t.Logf("%d records in %d batches", records/4, batches/4)
				s.Close()
				time.Sleep(time.Second)
			})
		})
	}
}
