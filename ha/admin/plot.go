package admin

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"
)

// This file draws. What is drawn is said in words, too, for whoever does not see it.

// A plot is a picture of the last ten minutes.
type plot struct {
	ID, Title, Now, Hint string
	Top                  string // what the upper edge stands for
	Label                string // the picture in words
	SVG                  template.HTML
	Empty                bool
	Nothing              string // what is said of an empty one
}

// A line is one value over time.
type line struct {
	class string
	value func(s *sample) float64
}

const (
	plotWidth, plotHeight = 300, 64
)

// draw makes a plot of lines in a unit that say writes.
func draw(id, title, hint, nothing string, samples []sample, say func(float64) string, lines ...line) plot {
	p := plot{ID: id, Title: title, Hint: hint, Nothing: nothing}
	top, last := 0.0, -1.0
	unit := 1.0
	for i := range samples {
		for _, l := range lines {
			top = max(top, l.value(&samples[i]))
		}
	}
	for i := len(samples) - 1; i >= 0 && i >= len(samples)-3 && last < 0; i-- { // of a moment ago, else it was not measured
		last = lines[len(lines)-1].value(&samples[i])
	}
	p.Now = "–"
	if last >= 0 {
		p.Now = say(last)
	}
	if top <= 0 {
		p.Empty = last < 0
		top = 1
		p.Top = ""
	} else {
		if id == "network" { // in powers of 1024
			for unit*1024 <= top {
				unit *= 1024
			}
		}
		top = ceiling(top/unit) * unit
		p.Top = say(top)
	}
	p.Label = fmt.Sprintf("%s over the last ten minutes: now %s", title, p.Now)
	if p.Top != "" {
		p.Label += ", at most " + p.Top
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" aria-hidden="true" focusable="false">`, plotWidth, plotHeight)
	fmt.Fprintf(&b, `<path class="grid" d="M0 .5H%d M0 %d.5H%d`, plotWidth, plotHeight-1, plotWidth)
	if !p.Empty { // where the words stand
		fmt.Fprintf(&b, ` M0 %dH%d`, plotHeight/2, plotWidth)
	}
	b.WriteString(`"/>`)
	x := func(i int) float64 { return float64(plotWidth) * float64(maxSamples-len(samples)+i+1) / maxSamples }
	for i := 1; i < len(samples) && !p.Empty; i++ {
		if samples[i].epoch != samples[i-1].epoch {
			fmt.Fprintf(&b, `<path class="epoch" d="M%.1f 0V%d"/>`, x(i), plotHeight)
		}
	}
	for _, l := range lines {
		var d strings.Builder
		down := false
		for i := range samples {
			v := l.value(&samples[i])
			if v < 0 || i > 0 && samples[i].at.Sub(samples[i-1].at) > 5*sampleEvery {
				down = false
			}
			if v < 0 {
				continue
			}
			y := 1 + (plotHeight-2)*(1-v/top)
			verb := "L"
			if !down {
				verb = "M"
				if i+1 == len(samples) || l.value(&samples[i+1]) < 0 { // a lone point is a dash
					fmt.Fprintf(&d, "M%.1f %.1fh1", x(i), y)
					continue
				}
			}
			fmt.Fprintf(&d, "%s%.1f %.1f", verb, x(i), y)
			down = true
		}
		fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, l.class, d.String())
	}
	b.WriteString("</svg>")
	p.SVG = template.HTML(b.String()) // of numbers and of words from here
	return p
}

// ceiling is the next of 1, 2, 5, 10 …
func ceiling(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5, 10} {
		if v <= f*unit*1.0001 {
			return f * unit
		}
	}
	return 10 * unit
}

func plots(samples []sample) []plot {
	seconds := func(v float64) string { return timeOf(time.Duration(v * 1e9)) }
	perSecond := func(v float64) string { return short(v) + "/s" }
	return []plot{
		draw("records", "Records", "committed, in the cluster", "nothing measured yet", samples, perSecond,
			line{"main", func(s *sample) float64 { return s.records }}),
		draw("append", "Append", "median and 99th percentile, by the Active", "only the Active measures it", samples, seconds,
			line{"side", func(s *sample) float64 { return s.appendMost }}, line{"main", func(s *sample) float64 { return s.appendHalf }}),
		draw("write", "Disk write", "median and 99th percentile, here", "nothing was written", samples, seconds,
			line{"side", func(s *sample) float64 { return s.writeMost }}, line{"main", func(s *sample) float64 { return s.writeHalf }}),
		draw("apply", "Apply", "median and 99th percentile, here", "nothing was applied", samples, seconds,
			line{"side", func(s *sample) float64 { return s.applyMost }}, line{"main", func(s *sample) float64 { return s.applyHalf }}),
		draw("network", "Network", "sent and received, between the members, here", "nothing measured yet", samples, func(v float64) string { return bytesOf(v) + "/s" },
			line{"side", func(s *sample) float64 { return s.received }}, line{"main", func(s *sample) float64 { return s.sent }}),
		draw("lag", "Lag", "that this member may be behind", "nothing measured yet", samples, seconds,
			line{"main", func(s *sample) float64 { return s.lag }}),
	}
}
