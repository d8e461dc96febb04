package cmdtest

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var picture = flag.String("picture", "", "a file to write the picture of a terminal in the documentation to (SVG)")

// TestPicture draws a terminal in which somebody looks at a real cluster, and moves its role.
func TestPicture(t *testing.T) {
	if *picture == "" {
		t.Skip("see -picture")
	}
	c, env := newCluster(t)
	active, err := c.active()
	if err != nil {
		t.Fatal(err)
	}
	to := "a"
	if active == to {
		to = "b"
	}
	orders := exec.Command("baton", "append", "-lines")
	orders.Env, orders.Stdin = append(os.Environ(), env...), strings.NewReader(strings.Repeat("order\n", 1200))
	if out, err := orders.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var lines []string
	for _, args := range [][]string{{"status"}, {"handover", "-to", to}, {"why", "-last", "1"}} {
		cmd := exec.Command("baton", args...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		lines = append(lines, "$ baton "+strings.Join(args, " "))
		for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
			lines = append(lines, wrap(strings.TrimRight(line, " "), terminalColumns)...)
		}
		lines = append(lines, "")
	}
	if err := os.WriteFile(*picture, drawTerminal(append(lines, "$ ")), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	terminalColumns = 104
	columnWidth     = 8.0 // pixels, about; each line says how long it is
	lineHeight      = 20
	terminalMargin  = 18
)

// wrap breaks a line between words, as far as it has any.
func wrap(line string, width int) (lines []string) {
	for len(line) > width {
		at := strings.LastIndexByte(line[:width], ' ')
		if at <= 0 {
			at = width
		}
		lines, line = append(lines, line[:at]), strings.TrimLeft(line[at:], " ")
	}
	return append(lines, line)
}

// drawTerminal draws lines of a terminal as SVG.
func drawTerminal(lines []string) []byte {
	var b bytes.Buffer
	width, height := int(terminalColumns*columnWidth)+2*terminalMargin, len(lines)*lineHeight+2*terminalMargin+8
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="baton status, handover and why in a terminal">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="10" fill="#0f141b"/>`+"\n", width, height)
	b.WriteString(`<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="13" fill="#e6ebf2">` + "\n")
	for i, line := range lines {
		style := ""
		switch {
		case strings.HasPrefix(line, "$ "):
			style = ` fill="#2dd4bf" font-weight="bold"`
		case strings.HasPrefix(line, "*"), strings.HasPrefix(line, "cluster "):
			style = ` font-weight="bold"`
		}
		if line == "" {
			continue
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" textLength="%.0f"%s>`, terminalMargin, terminalMargin+(i+1)*lineHeight-4, columnWidth*float64(len([]rune(line))), style)
		_ = xml.EscapeText(&b, []byte(strings.ReplaceAll(line, " ", "\u00a0"))) // to memory; other spaces run together
		b.WriteString("</text>\n")
	}
	b.WriteString("</g>\n</svg>\n")
	return b.Bytes()
}
