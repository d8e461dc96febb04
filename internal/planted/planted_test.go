package planted

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const source = "package p\n\nfunc f(a, b int) int {\n\tif a < b {\n\t\treturn a\n\t}\n\treturn b\n}\n"

// TestPlant: hunks change whole lines that occur once, several in one file, and nothing else is planted.
func TestPlant(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want, wrong string }{
		{name: "two hunks", text: "It is not the least.\n\n--- p.go\n@@\n-\tif a < b {\n+\tif a > b {\n@@\n \t}\n-\treturn b\n", want: strings.Replace(strings.Replace(source, "<", ">", 1), "\treturn b\n", "", 1)},
		{name: "blank line", text: "About.\n\n--- p.go\n@@\n package p\n\n+var x int\n", want: strings.Replace(source, "p\n\n", "p\n\nvar x int\n", 1)},
		{name: "file twice", text: "About.\n\n--- p.go\n@@\n-package p\n+package q\n\n--- p.go\n@@\n-\treturn b\n+\treturn 0\n", want: strings.Replace(strings.Replace(source, "package p", "package q", 1), "return b", "return 0", 1)},
		{name: "not there", text: "About.\n\n--- p.go\n@@\n-\tif a <= b {\n", wrong: "does not have"},
		{name: "part of a line", text: "About.\n\n--- p.go\n@@\n-return b\n", wrong: "does not have"},
		{name: "twice", text: "About.\n\n--- p.go\n@@\n-}\n", want: strings.TrimSuffix(source, "}\n")}, // the other is indented
		{name: "no file", text: "About.\n\n--- q.go\n@@\n-}\n", wrong: "q.go"},
		{name: "outside", text: "About.\n\n--- ../p.go\n@@\n-}\n", wrong: "no Go file"},
		{name: "no hunk", text: "About.\n\n--- p.go\n", wrong: "in no hunk"},
		{name: "changes nothing", text: "About.\n\n--- p.go\n@@\n }\n", wrong: "changes nothing"},
		{name: "no context", text: "About.\n\n--- p.go\n@@\n+}\n", wrong: "finds nothing"},
		{name: "no description", text: "\n--- p.go\n@@\n-}\n", wrong: "no description"},
		{name: "stray line", text: "About.\n\n--- p.go\n-}\n", wrong: "in no hunk"},
		{name: "stray mark", text: "About.\n\n--- p.go\n@@\n}\n", wrong: "line begins"},
	} {
		b, err := parse(c.name, c.text)
		var files map[string]string
		if err == nil {
			files, err = b.Plant(root)
		}
		switch {
		case c.wrong == "" && (err != nil || files["p.go"] != c.want):
			t.Errorf("%s: %v, planted:\n%s", c.name, err, files["p.go"])
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
	}
	twice, err := parse("twice", "About.\n\n--- p.go\n@@\n-\tx()\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "p.go"), []byte("\tx()\n\tx()\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := twice.Plant(root); err == nil || !strings.Contains(err.Error(), "more than once") {
		t.Errorf("what occurs twice was planted: %v", err)
	}
}
