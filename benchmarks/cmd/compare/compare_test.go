package main

import (
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

func TestDisturbedRoundsDoNotCount(t *testing.T) {
	p := point{Payload: 128, Writers: 64, Members: 3}
	round := func(n int, sys string, rate float64, disturbed ...string) record {
		return record{
			Round: n, System: sys, Point: p, Disturbed: disturbed,
			Rate:  harness.Rate{Appends: uint64(rate), PerSecond: rate, P50: time.Millisecond, P99: 2 * time.Millisecond},
			Usage: harness.Usage{Wall: time.Second, CPU: time.Second},
		}
	}
	s := summarize([]record{
		round(1, "baton", 1000), round(1, "etcd", 100, "steal 5.0 %"),
		round(2, "baton", 9000, "steal 20.0 %"), round(2, "etcd", 300, "steal 5.0 %"),
		round(3, "baton", 2000), {Round: 3, System: "etcd", Point: p, Err: "broken"},
	})
	if c := s.cells["baton"][p]; c.disturbed() || c.counted != 2 || c.rounds != 3 || c.rate != (median{1000, 1500, 2000}) {
		t.Errorf("baton: %+v", c)
	}
	if c := s.cells["etcd"][p]; !c.disturbed() || c.rate != (median{100, 200, 300}) {
		t.Errorf("etcd: %+v", c)
	}
	var md, svg strings.Builder
	s.markdown(&md)
	s.svg(&svg)
	for _, want := range []string{"1,500 (1,000–2,000)", "200 (100–300) †", "7.50 (etcd)", "round 3: broken"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, md.String())
		}
	}
	if !strings.HasSuffix(svg.String(), "</svg>\n") || strings.Contains(svg.String(), "NaN") {
		t.Errorf("the picture is broken:\n%s", svg.String())
	}
}

func TestPoints(t *testing.T) {
	ps, err := points("128,1024", "1,64", "3", "0,20ms", "0")
	if err != nil || len(ps) != 8 {
		t.Fatalf("%v, %v", ps, err)
	}
	if got, want := ps[7].String(), "1 KiB × 64, 20ms delay"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := points("128,x", "0", "3", "-1s", "0"); err == nil {
		t.Error("wrong flags are taken")
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.5: "0.5", 12.34: "12.3", 999: "999", 1234: "1,230", 192_960: "193,000", 1_999_999: "2,000,000"} {
		if got := number(v); got != want {
			t.Errorf("%v is %q, want %q", v, got, want)
		}
	}
}
