package main

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// The picture: one panel per point, in each a bar per system, its length the median of appends/s, a line from the
// lowest to the highest round, and the latencies beside it. Lengths compare within a panel only.

const (
	columns    = 3
	panelWidth = 370 * vg.Length(1) // points, as all lengths here
	rowHeight  = 14 * vg.Length(1)
	barHeight  = 9 * vg.Length(1)
	titleRows  = 1.4
	headSpace  = 50 * vg.Length(1) // of the picture
	margin     = 12 * vg.Length(1)

	// Parts of the longest bar: the room for the names before it, for the figures behind it, and how long that of a floor may be at most. Whoever
	// looks at it may have a wider font, so each text has room to spare, and is placed by where it begins.
	nameSpace = 0.95
	textSpace = 1.35
	beyond    = 1.06
)

var (
	ink  = color.RGBA{0x22, 0x22, 0x22, 0xff}
	pale = color.RGBA{0x66, 0x66, 0x66, 0xff}
)

func colorOf(name string) color.Color {
	switch {
	case strings.HasPrefix(name, "baton"):
		return color.RGBA{0xd1, 0x49, 0x5b, 0xff}
	case strings.HasPrefix(name, "hraft"):
		return color.RGBA{0x3d, 0x7e, 0xa6, 0xff}
	case strings.HasPrefix(name, "dragonboat"):
		return color.RGBA{0x66, 0xa1, 0x82, 0xff}
	case name == "etcd":
		return color.RGBA{0xed, 0xae, 0x49, 0xff}
	}
	return color.RGBA{0xb0, 0xb0, 0xb0, 0xff}
}

// svg draws the picture.
func (s summary) svg(w io.Writer) error {
	cols := min(columns, len(s.points))
	rows := (len(s.points) + columns - 1) / columns
	panelHeight := rowHeight * vg.Length(float64(len(s.systems))+titleRows)
	width, height := max(panelWidth*vg.Length(cols), 2*panelWidth)+2*margin, headSpace+(panelHeight+margin)*vg.Length(rows)
	svg := vgsvg.New(width, height)
	c := draw.New(svg)
	c.FillPolygon(color.White, []vg.Point{{}, {X: width}, {X: width, Y: height}, {Y: height}})
	c.FillText(style(13, ink), vg.Point{X: margin, Y: height - 20}, "appends/s, and p50 · p99 in ms, by payload × writers")
	c.FillText(style(9, pale), vg.Point{X: margin, Y: height - 36},
		s.begin.Format("2006-01-02")+", "+harness.Machine()+"; real fsync; bars: medians, lines: lowest to highest round; † disturbed")
	tiles := draw.Tiles{Cols: cols, Rows: rows, PadTop: headSpace, PadLeft: margin, PadRight: margin, PadX: margin, PadY: margin}
	for i, p := range s.points {
		panel, err := s.panel(p)
		if err != nil {
			return err
		}
		panel.Draw(tiles.At(c, i%columns, i/columns))
	}
	_, err := svg.WriteTo(w)
	return err
}

func style(size vg.Length, c color.Color) text.Style {
	f := plot.DefaultFont
	f.Variant, f.Size = "Sans", size
	return text.Style{Color: c, Font: f, Handler: plot.DefaultTextHandler}
}

// panel draws one point.
func (s summary) panel(p point) (*plot.Plot, error) {
	top := s.top(p)
	panel := plot.New()
	panel.HideAxes()
	panel.X.Min, panel.X.Max = -nameSpace*top, (1+textSpace)*top
	panel.Y.Min, panel.Y.Max = -0.5, float64(len(s.systems))-0.5+titleRows
	if err := label(panel, panel.X.Min, panel.Y.Max-0.5, p.String(), style(11, ink)); err != nil {
		return nil, err
	}
	names := slices.Clone(s.systems)
	slices.Reverse(names) // the first comes highest
	for i, name := range names {
		row := float64(i)
		if err := label(panel, panel.X.Min, row, name, style(9, pale)); err != nil {
			return nil, err
		}
		c, ok := s.cells[name][p]
		if !ok {
			if err := label(panel, 0, row, "–", style(9, pale)); err != nil {
				return nil, err
			}
			continue
		}
		// A floor may be far beyond: its bar ends there, its number tells.
		within := func(v float64) float64 { return min(v, beyond*top) }
		bar, err := plotter.NewBarChart(plotter.Values{within(c.rate.mid)}, barHeight)
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin, bar.Color, bar.LineStyle.Width = true, row, colorOf(name), 0
		rounds, err := plotter.NewLine(plotter.XYs{{X: within(c.rate.low), Y: row}, {X: within(c.rate.high), Y: row}})
		if err != nil {
			return nil, err
		}
		rounds.Color, rounds.Width = ink, 1
		panel.Add(bar, rounds)
		figures := fmt.Sprintf("%s (%s · %s)", number(c.rate.mid), millis(c.p50.mid), millis(c.p99.mid))
		if c.disturbed() {
			figures += " †"
		}
		if err := label(panel, within(max(c.rate.high, c.rate.mid)), row, figures, style(9, ink)); err != nil {
			return nil, err
		}
	}
	return panel, nil
}

// top is the rate of the longest bar that counts: of floors only where there is nothing else.
func (s summary) top(p point) (top float64) {
	for _, floors := range []bool{false, true} {
		for _, name := range s.systems {
			if c, ok := s.cells[name][p]; ok && isFloor(name) == floors {
				top = max(top, c.rate.high)
			}
		}
		if top > 0 {
			return top
		}
	}
	return 1
}

// label writes something into a row.
func label(panel *plot.Plot, at, row float64, content string, style text.Style) error {
	l, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: at, Y: row}}, Labels: []string{content}})
	if err != nil {
		return err
	}
	style.YAlign = draw.YCenter
	l.TextStyle[0] = style
	if at >= 0 {
		l.Offset.X = 4
	}
	panel.Add(placed{l})
	return nil
}

// A placed text leaves the panel's bounds as they are.
type placed struct{ *plotter.Labels }

// DataRange implements [plot.DataRanger].
func (placed) DataRange() (xmin, xmax, ymin, ymax float64) {
	return math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
}

// GlyphBoxes implements [plot.GlyphBoxer].
func (placed) GlyphBoxes(*plot.Plot) []plot.GlyphBox { return nil }

func isFloor(name string) bool {
	s, _ := find(name)
	return s.floor
}
