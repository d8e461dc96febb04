package benchmarks

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/ha"
)

// A table is the state that a program reads: values by key.
type table struct {
	mu sync.RWMutex
	m  map[string][]byte
}

func (t *table) set(entries []ha.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		t.m[string(e.Data[:8])] = e.Data
	}
}

func (t *table) get(key string) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.m[key]
}

// BenchmarkLeaseRead reads one key of a map on the Active: as it is, and behind a ReadBarrier, which the lease answers; by one reader, and by one on each
// processor. Nobody appends meanwhile.
func BenchmarkLeaseRead(b *testing.B) {
	tables := make(map[*baton.Machine]*table)
	s := start(b, harness.Options{}, func(_ *ha.Config, m *baton.Machine) {
		t := &table{m: map[string][]byte{}}
		tables[m], m.OnApply = t, t.set
	})
	if err := s.Append(b.Context(), harness.Payload(128)); err != nil {
		b.Fatal(err)
	}
	key := string(harness.Payload(128)[:8])
	active, machine := s.Active()
	here := tables[machine]
	reads := map[string]func(context.Context) error{
		"map": func(context.Context) error { return nil }, "lease": active.ReadBarrier,
	}
	for _, readers := range []string{"one", "each"} {
		for _, read := range []string{"map", "lease"} {
			b.Run(fmt.Sprintf("read=%s/readers=%s", read, readers), func(b *testing.B) {
				do := func() {
					if err := reads[read](b.Context()); err != nil || here.get(key) == nil {
						b.Error(err, "or nothing is there")
					}
				}
				b.ReportAllocs()
				if readers == "one" {
					for b.Loop() {
						do()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						do()
					}
				})
			})
		}
	}
}
