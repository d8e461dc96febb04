package cmdtest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	docs "github.com/urfave/cli-docs/v3"
	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/internal/cmdline"
)

var manual = flag.Bool("manual", false, "write docs/cli.md and docs/baton.1 instead of comparing them")

const (
	manualPath = "../../../docs/cli.md"
	manPath    = "../../../docs/baton.1"
)

// TestManual compares docs/cli.md and the manual page with the program: every command, flag and exit code is there, and nothing else.
func TestManual(t *testing.T) {
	root := cmdline.Root()
	man, err := docs.ToManWithSection(root, 1)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{manualPath: manualOf(root), manPath: man} {
		if *manual {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s is not what the program says: go generate ./... in internal/cmdline/cmdtest writes it anew. %s", path, differ(string(got), want))
		}
	}
}

// differ says where two texts begin to.
func differ(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("Line %d is %q, and should be %q", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("It has %d lines, and should have %d", len(a), len(b))
}

// manualOf is docs/cli.md.
func manualOf(root *cli.Command) string {
	var b strings.Builder
	b.WriteString("# The command line\n\n`go install github.com/baton-ha/baton/cmd/baton@latest`. This page says what `baton -h` and `baton COMMAND -h` say; it is made of the program,\n" +
		"as the manual page beside it (`man -l docs/baton.1`). `baton completion bash`, `zsh`, `fish` or `pwsh` prints what completes its words in a shell.\n\n")
	writeCommand(&b, root, "baton", 2)
	return b.String()
}

func writeCommand(b *strings.Builder, c *cli.Command, name string, level int) {
	fmt.Fprintf(b, "%s %s\n\n", strings.Repeat("#", level), name)
	line := strings.TrimSpace(name + " " + c.ArgsUsage)
	if len(c.Commands) > 0 {
		line = name + " COMMAND"
	}
	fmt.Fprintf(b, "%s%s.\n\n    %s\n\n", strings.ToUpper(c.Usage[:1]), c.Usage[1:], line)
	if c.Description != "" {
		fmt.Fprintf(b, "%s\n\n", strings.TrimSpace(c.Description))
	}
	if len(c.Flags) > 0 {
		b.WriteString("| Flag | What it does | Default | Environment |\n| --- | --- | --- | --- |\n")
		for _, f := range c.Flags {
			writeFlag(b, f)
		}
		b.WriteString("\n")
	}
	for _, sub := range c.Commands {
		writeCommand(b, sub, name+" "+sub.Name, min(level+1, 4))
	}
}

var placeholder = regexp.MustCompile("`([^`]+)`")

func writeFlag(b *strings.Builder, f cli.Flag) {
	d := f.(cli.DocGenerationFlag)
	names := make([]string, 0, 2)
	for _, n := range f.Names() {
		names = append(names, "-"+n)
	}
	flag := strings.Join(names, ", ")
	if m := placeholder.FindStringSubmatch(d.GetUsage()); m != nil {
		flag += " " + m[1]
	} else if d.TakesValue() {
		flag += " " + strings.ToUpper(d.TypeName())
	}
	value := d.GetValue()
	if value == "0" || value == "false" {
		value = ""
	}
	fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", flag, strings.ReplaceAll(placeholder.ReplaceAllString(d.GetUsage(), "$1"), "|", `\|`), value, strings.Join(d.GetEnvVars(), ", "))
}
