package baton_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// markdown are the pages that users read.
func markdown(t *testing.T) []string {
	t.Helper()
	var pages []string
	for _, glob := range []string{"*.md", "docs/*.md", "*/README.md", "*/*/README.md"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	return pages
}

var (
	mdLink    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	mdHeading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	mdCode    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// anchors are the names of a page's headings, as GitHub makes them.
func anchors(page string) map[string]bool {
	names := make(map[string]bool)
	for _, m := range mdHeading.FindAllStringSubmatch(regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		names[name] = true
	}
	return names
}

// TestPageLinks: what the pages refer to in this repository is there, files and headings.
func TestPageLinks(t *testing.T) {
	links := 0
	for _, page := range markdown(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mdLink.FindAllStringSubmatch(mdCode.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, heading, _ := strings.Cut(m[1], "#")
			to := page
			if file != "" {
				to = filepath.Join(filepath.Dir(page), file)
			}
			there, err := os.ReadFile(to)
			if info, statErr := os.Stat(to); statErr != nil || err != nil && !info.IsDir() {
				t.Errorf("%s refers to %s, which is not there", page, m[1])
				continue
			}
			if heading != "" && !anchors(string(there))[heading] {
				t.Errorf("%s refers to %s, and there is no such heading", page, m[1])
			}
		}
	}
	if links < 20 {
		t.Errorf("only %d links were found", links)
	}
}

// TestReadmeProgram: the program in the README is the one in examples/hello, to the letter.
func TestReadmeProgram(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("examples/hello/main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(program), "\npackage main")
	if !strings.Contains(string(page), "```go\npackage main"+code+"```") {
		t.Error("README.md does not show examples/hello/main.go as it is")
	}
}

var runDocs = flag.Bool("docs.run", false, "follow docs/tutorial.md from its first to its last line: needs bash and curl, ports 7001 to 7003 and 8001 to 8003, and a minute")

var mdBlock = regexp.MustCompile("(?ms)^```(\\w+)(?: ([\\w/.]+))?\n(.*?)^```$")

// TestTutorial does what docs/tutorial.md says.
func TestTutorial(t *testing.T) {
	if !*runDocs {
		t.Skip("see -docs.run")
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	script, expected, err := tutorial(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		logs, _ := exec.Command("bash", "-c", "tail -n 20 "+dir+"/kv/*.log").Output()
		t.Fatalf("%v\n%s%s\n%s", err, out, stderr.Bytes(), logs)
	}
	if err := printed(string(out), expected); err != nil {
		t.Error(err)
	}
}

// tutorial makes a script of docs/tutorial.md, which writes its files and runs its commands, with this version, at root, in the place of the one that
// is published; and what each run of commands is to print.
func tutorial(root string) (script string, expected []string, err error) {
	page, err := os.ReadFile("docs/tutorial.md")
	if err != nil {
		return "", nil, err
	}
	files := make(map[string]string)
	var b strings.Builder
	b.WriteString("set -e\ntrap 'kill -9 $(cat *.pid) 2>/dev/null || true' EXIT\n")
	write := func(name, text string) {
		files[name] = text
		fmt.Fprintf(&b, "mkdir -p $(dirname %[1]s)\ncat >%[1]s <<'END OF FILE'\n%[2]sEND OF FILE\n", name, text)
	}
	for _, m := range mdBlock.FindAllStringSubmatch(string(page), -1) {
		switch kind, name, text := m[1], m[2], m[3]; kind {
		case "go":
			write(name, text)
		case "diff":
			var before, after strings.Builder
			for line := range strings.Lines(text) {
				if line[0] != '+' {
					before.WriteString(line[1:])
				}
				if line[0] != '-' {
					after.WriteString(line[1:])
				}
			}
			if strings.Count(files[name], before.String()) != 1 {
				return "", nil, fmt.Errorf("a change of %s does not fit:\n%s", name, text)
			}
			write(name, strings.Replace(files[name], before.String(), after.String(), 1))
		case "sh":
			text = strings.ReplaceAll(text, "go get github.com/baton-ha/baton@latest",
				"go mod edit -require=github.com/baton-ha/baton@v0.0.0 -replace=github.com/baton-ha/baton="+root)
			fmt.Fprintf(&b, "echo '@ %d'\n%s", len(expected), text)
			expected = append(expected, "")
		case "text":
			expected[len(expected)-1] = text
		default:
			return "", nil, fmt.Errorf("a block of %q", kind)
		}
	}
	return b.String(), expected, nil
}

// printed compares what a script has printed with what it was to print, where "…" stands for anything within a line.
func printed(out string, expected []string) error {
	parts := regexp.MustCompile(`(?m)^@ \d+\n`).Split(out, -1)[1:]
	if len(parts) != len(expected) {
		return fmt.Errorf("%d runs of commands have printed something, of %d", len(parts), len(expected))
	}
	var errs []error
	for i, want := range expected {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$"
		if !regexp.MustCompile(pattern).MatchString(parts[i]) {
			errs = append(errs, fmt.Errorf("printed\n%s\nand not\n%s", parts[i], want))
		}
	}
	return errors.Join(errs...)
}
