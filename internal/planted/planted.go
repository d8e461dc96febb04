// Package planted plants bugs: small named changes of this module's own source, each of them a mistake that a real system of
// this kind has made or could make. A test builds itself with one of them and shows that it is found; a planted bug that
// is not found is a hole in the test. The product knows nothing of them: a bug is a file beside the test, and go's -overlay
// shows the compiler another text of the files that it changes.
//
// A bug's file says first what is wrong with it, then what it changes, as a diff whose hunks have no line numbers:
//
//	A vote and a term are answered but never written.
//
//	--- internal/core/core.go
//	@@
//	 	c.stall.write(now, w)
//	-	c.eff.Writes = append(c.eff.Writes, w)
//	+	w.Hard = nil
//
// The lines of a hunk that begin with a space or a minus must occur in the file, one after the other, exactly once. So a bug
// cannot rot: code that moves takes it along, and code that changes makes [Bug.Plant] fail.
package planted

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A Bug is a planted bug.
type Bug struct {
	Name    string // of its file, without the extension
	About   string // what is wrong
	changes []change
}

// change replaces a text of a file, which must occur once.
type change struct {
	file     string // below the root of the module, with slashes
	old, new string
}

// Load reads the bugs of a directory, one from each file that ends in .diff.
func Load(dir string) ([]Bug, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.diff"))
	if err != nil {
		return nil, err
	}
	var bugs []Bug
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		b, err := parse(strings.TrimSuffix(filepath.Base(f), ".diff"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		bugs = append(bugs, b)
	}
	return bugs, nil
}

func parse(name, text string) (Bug, error) {
	parts := strings.Split(text, "\n--- ")
	b := Bug{Name: name, About: strings.TrimSpace(parts[0])}
	if len(parts) == 1 || b.About == "" {
		return b, errors.New("no description that a file follows")
	}
	for _, part := range parts[1:] {
		file, hunks, _ := strings.Cut(strings.TrimRight(part, "\n"), "\n")
		if path.IsAbs(file) || path.Clean(file) != file || strings.HasPrefix(file, "..") || !strings.HasSuffix(file, ".go") {
			return b, fmt.Errorf("%q is no Go file of the module", file)
		}
		if err := b.parseHunks(file, hunks); err != nil {
			return b, fmt.Errorf("%s: %w", file, err)
		}
	}
	return b, nil
}

func (b *Bug) parseHunks(file, hunks string) error {
	var at *change
	for line := range strings.SplitSeq(hunks, "\n") {
		switch {
		case line == "@@":
			b.changes = append(b.changes, change{file: file})
			at = &b.changes[len(b.changes)-1]
		case at == nil:
			return fmt.Errorf("%q is in no hunk", line)
		case line == "":
			at.old += "\n"
			at.new += "\n"
		case line[0] == ' ':
			at.old += line[1:] + "\n"
			at.new += line[1:] + "\n"
		case line[0] == '-':
			at.old += line[1:] + "\n"
		case line[0] == '+':
			at.new += line[1:] + "\n"
		default:
			return fmt.Errorf("a line begins with %q", line[0])
		}
	}
	for _, c := range b.changes {
		if c.old == "" || c.old == c.new {
			return errors.New("a hunk finds nothing, or changes nothing")
		}
	}
	return nil
}

// Plant returns the files that the bug changes, by name, as they are with it, of the module with this root.
func (b Bug) Plant(root string) (map[string]string, error) {
	files := map[string]string{}
	for _, c := range b.changes {
		text, ok := files[c.file]
		if !ok {
			source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(c.file)))
			if err != nil {
				return nil, err
			}
			text = string(source)
		}
		// Whole lines: what is looked for begins where a line does.
		before, after, found := strings.Cut("\n"+text, "\n"+c.old)
		switch {
		case !found:
			return nil, fmt.Errorf("planted bug %s: %s does not have these lines:\n%s", b.Name, c.file, c.old)
		case strings.Contains("\n"+after, "\n"+c.old):
			return nil, fmt.Errorf("planted bug %s: %s has these lines more than once:\n%s", b.Name, c.file, c.old)
		}
		files[c.file] = strings.TrimPrefix(before+"\n"+c.new+after, "\n")
	}
	return files, nil
}

// Overlay writes what go build's -overlay needs into an empty directory of its own, and returns the name of the file to give it. The files of
// without, below the current directory, are as if they were not there.
func (b Bug) Overlay(root, dir string, without ...string) (string, error) {
	files, err := b.Plant(root)
	if err != nil {
		return "", err
	}
	if root, err = filepath.Abs(root); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for name, text := range files {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "+"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, filepath.FromSlash(name))] = to
	}
	for _, name := range without {
		if name, err = filepath.Abs(name); err != nil {
			return "", err
		}
		replace[name] = ""
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}
