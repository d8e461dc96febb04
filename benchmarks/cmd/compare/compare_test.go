package main

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

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
	if err := s.svg(&svg); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1,500 (1,000–2,000)", "200 (100–300) †", "7.50 (etcd)", "round 3: broken"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, md.String())
		}
	}
	if !strings.HasSuffix(svg.String(), "</svg>\n") || strings.Contains(svg.String(), "NaN") {
		t.Errorf("the picture is broken:\n%s", svg.String())
	}
}

// TestTexts draws what was measured and looks whether texts run into one another or into bars, also in a wide font.
func TestTexts(t *testing.T) {
	for name, least := range map[string]int{"compare": 130, "earlier": 150} { // the one has a system less
		t.Run(name, func(t *testing.T) { lookAtTexts(t, "../../results/"+name+".jsonl", least) })
	}
}

func lookAtTexts(t *testing.T, file string, least int) {
	records, err := harness.ReadLines[record](file)
	if err != nil {
		t.Fatal(err)
	}
	var svg strings.Builder
	if err := summarize(records).svg(&svg); err != nil {
		t.Fatal(err)
	}
	type span struct {
		y, from, to, size float64
		what              string
	}
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	var all []span
	for _, m := range regexp.MustCompile(`(?s)<text x="([-.\d]+)" y="-([-.\d]+)"[^>]*font-size:([.\d]+)px[^>]*>([^<]*)</text>`).FindAllStringSubmatch(svg.String(), -1) {
		from, size := number(m[1]), number(m[3])
		all = append(all, span{number(m[2]), from, from + 0.62*size*float64(utf8.RuneCountInString(m[4])), size, m[4]})
	}
	texts := len(all)
	for _, m := range regexp.MustCompile(`<path d="M([.\d]+),([.\d]+)L([.\d]+),[.\d]+L[^"]*" style="fill:#([0-9A-F]+)"`).FindAllStringSubmatch(svg.String(), -1) {
		if m[4] != "FFFFFF" { // that is the ground
			all = append(all, span{number(m[2]), number(m[1]), number(m[3]), barHeight.Points(), "a bar"})
		}
	}
	if texts < least || len(all) < texts+50 {
		t.Fatalf("found %d texts and %d bars", texts, len(all)-texts)
	}
	for i, a := range all[:texts] {
		for _, b := range all[i+1:] {
			if a.y < b.y+b.size && b.y < a.y+a.size/2 && a.from < b.to && b.from < a.to {
				t.Errorf("%q runs into %q at %.0f, %.0f", a.what, b.what, b.from, b.y)
			}
		}
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
