package admin

import (
	"testing"
	"time"

	"github.com/baton-ha/baton/ha/admin/internal/fake"
)

// BenchmarkPage is what a second costs while somebody looks at the page of a cluster with 3 × 1,024 events.
func BenchmarkPage(b *testing.B) {
	s := fake.Three("b", 3)
	for _, name := range []string{"a", "b", "c"} {
		for seq := range uint64(maxEvents) {
			s.Events[name] = append(s.Events[name], event(name, 1, seq+1))
		}
	}
	n := fake.New(s)
	h := New(n, Config{})
	defer h.Close()
	for len(h.explain().Events) < 3*maxEvents {
		time.Sleep(10 * time.Millisecond)
	}
	for range maxSamples {
		h.past.take(n, time.Now())
	}
	for b.Loop() {
		if len(h.parts()) != len(parts) {
			b.Fatal("a part is missing")
		}
	}
}

// BenchmarkLook is what is done every two seconds, whether or not somebody looks, without what the member itself does for it.
func BenchmarkLook(b *testing.B) {
	n := fake.New(fake.Three("b", 3))
	var p history
	for b.Loop() {
		p.take(n, time.Now())
	}
}
