package core

import (
	"testing"
	"time"
)

// TestLately: who has all that was there for half an election timeout lacks nothing of that, and as long as it is not known what was there, everything.
func TestLately(t *testing.T) {
	const e = 400 * time.Millisecond
	var l lately
	begin := time.Hour
	for i := range time.Duration(100) { // an entry each 10 ms, and a look at it
		now, last := begin+i*10*time.Millisecond, uint64(1000+i)
		l.note(now, e, last)
		for age, want := range map[uint64]uint64{0: 0, 20: 0, 30: 10, 90: 70} { // in entries; it may be 20 to 30 of them
			lacks := l.lacks(now, e, last-age, age)
			switch {
			case i < 20 && lacks != age:
				t.Errorf("at %v: who lacks %d of all lacks %d of those that were there, although nothing is known", now, age, lacks)
			case i >= 20 && (lacks > age-min(20, age) || lacks+10 < want):
				t.Errorf("at %v: who lacks %d of all lacks %d of those that were there, want about %d", now, age, lacks, want)
			}
		}
	}
	if lacks := l.lacks(begin+time.Second+2*e, e, 0, 7); lacks != 7 {
		t.Errorf("after a pause %d are lacking", lacks)
	}
}
