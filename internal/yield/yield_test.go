package yield

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A road carries live writes and bulk work: a write takes alone, and longer the nearer the bulk work comes to what there is room for.
type road struct {
	alone time.Duration
	room  int64 // bytes a second at which a write takes twice as long
	dice  *rand.Rand
}

func (r road) write(rate int64) time.Duration {
	took := r.alone + time.Duration(float64(r.alone)*float64(rate)/float64(r.room))
	if took = took/2 + time.Duration(r.dice.Int64N(int64(took))); r.dice.IntN(50) == 0 {
		took *= 5 // a few take longer anyway
	}
	return took
}

// drive does so many writes beside bulk work, and returns its rate and what they took, on average of the second half.
func drive(r road, s *Strain, bulk *Rate, writes int) (rate int64, took time.Duration) {
	for i := range writes {
		now := bulk.BytesPerSecond()
		w := r.write(now)
		s.Took(w, bulk.Slow())
		bulk.Wrote(s)
		if i >= writes/2 {
			rate, took = rate+now/int64(writes-writes/2), took+w/time.Duration(writes-writes/2)
		}
	}
	return rate, took
}

// calm returns a strain that knows what writes take alone.
func calm(r road) *Strain {
	s := new(Strain)
	for range 1000 {
		s.Took(r.write(0), true)
	}
	return s
}

// TestG8_BulkWorkYields: beside live writes bulk work goes as fast as leaves them what they take, roughly, whatever there is room for.
func TestG8_BulkWorkYields(t *testing.T) {
	t.Parallel()
	for _, room := range []int64{64 << 20, 200 << 20, 800 << 20} {
		r := road{time.Millisecond, room, rand.New(rand.NewPCG(1, uint64(room)))}
		s, bulk := calm(r), new(Rate)
		bulk.Begin()
		undisturbed := s.Calm
		rate, took := drive(r, s, bulk, 20_000)
		if took > undisturbed*15/10 {
			t.Errorf("room for %d MiB/s: writes take %v, and %v undisturbed", room>>20, took, undisturbed)
		}
		if rate < room/10 {
			t.Errorf("room for %d MiB/s: only %d are used", room>>20, rate>>20)
		}
		t.Logf("room for %d MiB/s: %d used, writes take %v, and %v undisturbed", room>>20, rate>>20, took, undisturbed)
	}
}

// TestBulkWorkWithoutHarm: where it does no harm it becomes as fast as anything.
func TestBulkWorkWithoutHarm(t *testing.T) {
	t.Parallel()
	s, bulk := new(Strain), new(Rate)
	bulk.Begin()
	if bulk.BytesPerSecond() != Slowest || !bulk.Slow() {
		t.Errorf("it begins at %d", bulk.BytesPerSecond())
	}
	for range 2000 {
		s.Took(time.Millisecond, bulk.Slow())
		bulk.Wrote(s)
	}
	if bulk.BytesPerSecond() != fastest {
		t.Errorf("after 2,000 writes that do not suffer it is at %d", bulk.BytesPerSecond())
	}
}

// TestLoadChangesMeanwhile: a load that has become heavier, or lighter, does not hold bulk work up for ever, nor set it free.
func TestLoadChangesMeanwhile(t *testing.T) {
	t.Parallel()
	for _, now := range []time.Duration{5 * time.Millisecond, 200 * time.Microsecond} {
		r := road{time.Millisecond, 100 << 20, rand.New(rand.NewPCG(2, uint64(now)))}
		s, bulk := calm(r), new(Rate)
		bulk.Begin()
		drive(r, s, bulk, 2000)
		r.alone = now
		drive(r, s, bulk, 2000)
		rate, took := drive(r, s, bulk, 20_000)
		if undisturbed := calm(r).Calm; rate < 10<<20 || took > undisturbed*16/10 {
			t.Errorf("writes take %v and %v undisturbed, at %d MiB/s", took, undisturbed, rate>>20)
		}
	}
}

// TestNoStrainOfItself: averages go up and down, and that is no strain.
func TestNoStrainOfItself(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(3, 3))
	for _, every := range []int{1, 2, 8, 128} { // one of so many is alone
		s, strained := new(Strain), 0
		const writes = 50_000
		for i := range writes {
			s.Took(time.Millisecond/2+time.Duration(dice.ExpFloat64()*float64(time.Millisecond)/2), i < 1000 || i%every == 0)
			if s.Strained() {
				strained++
			}
		}
		if strained > writes/20 {
			t.Errorf("one of %d alone: strained %d times of %d", every, strained, writes)
		}
	}
}
