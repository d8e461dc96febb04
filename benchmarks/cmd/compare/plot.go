package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// The picture: one panel per point, in each a bar per system, its length the median of appends/s, a line from the
// lowest to the highest round, and the latencies beside it. Lengths compare within a panel only.

const (
	panelWidth = 430
	labelWidth = 128
	barsWidth  = 150
	rowHeight  = 17
	headHeight = 30
	columns    = 3
)

func color(name string) string {
	switch {
	case name == "baton":
		return "#d1495b"
	case strings.HasPrefix(name, "hraft"):
		return "#3d7ea6"
	case strings.HasPrefix(name, "dragonboat"):
		return "#66a182"
	case name == "etcd":
		return "#edae49"
	}
	return "#b0b0b0"
}

func (s summary) svg(w io.Writer) {
	panelHeight := headHeight + rowHeight*len(s.systems) + 14
	rows := (len(s.points) + columns - 1) / columns
	width, height := panelWidth*min(columns, len(s.points))+20, rows*panelHeight+58
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="system-ui,sans-serif" font-size="11" fill="#222">`+"\n", width, height, width, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="#fff"/>`+"\n")
	text := func(x, y int, attr, content string) {
		fmt.Fprintf(w, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attr, escape.Replace(content))
	}
	text(12, 22, `font-size="15" font-weight="600"`, "appends/s, and p50 · p99 in ms, by payload × writers")
	text(12, 38, `fill="#666"`, s.begin.Format("2006-01-02")+", "+harness.Machine()+"; real fsync; bars: medians, lines: lowest to highest round; † disturbed")
	for i, p := range s.points {
		x, y := 12+i%columns*panelWidth, 52+i/columns*panelHeight
		text(x, y+16, `font-size="13" font-weight="600"`, p.String())
		top := 0.0
		for _, name := range s.systems {
			if c, ok := s.cells[name][p]; ok && !isFloor(name) {
				top = max(top, c.rate.high)
			}
		}
		if top == 0 {
			for _, name := range s.systems {
				top = max(top, s.cells[name][p].rate.high)
			}
		}
		for j, name := range s.systems {
			ry := y + headHeight + j*rowHeight
			text(x, ry+10, `fill="#444"`, name)
			c, ok := s.cells[name][p]
			if !ok {
				text(x+labelWidth, ry+10, `fill="#999"`, "–")
				continue
			}
			// A floor may be far beyond: its bar ends open, its number tells.
			length := func(v float64) int { return int(min(v/top, 1.06) * barsWidth) }
			mark := ""
			if c.disturbed() {
				mark = " †"
			}
			fmt.Fprintf(w, `<rect x="%d" y="%d" width="%d" height="11" fill="%s"/>`+"\n", x+labelWidth, ry+1, max(1, length(c.rate.mid)), color(name))
			fmt.Fprintf(w, `<path d="M%d %dH%d" stroke="#222" stroke-width="1"/>`+"\n", x+labelWidth+length(c.rate.low), ry+7, x+labelWidth+max(length(c.rate.high), length(c.rate.low)+1))
			text(x+labelWidth+length(c.rate.high)+5, ry+10, "", fmt.Sprintf("%s  (%s · %s)%s", number(c.rate.mid), millis(c.p50.mid), millis(c.p99.mid), mark))
		}
	}
	fmt.Fprintln(w, `</svg>`)
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func isFloor(name string) bool {
	s, _ := find(name)
	return s.floor
}
