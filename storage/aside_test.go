package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/vfs"
)

var asideAt = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// ending is a file system on which a process ends at one of its changes of names.
type ending struct {
	vfs.FS
	left int // changes before the end
}

var errEnded = errors.New("the process ends here")

func (e *ending) change() error {
	if e.left--; e.left < 0 {
		return errEnded
	}
	return nil
}

func (e *ending) Rename(from, to string) error {
	if err := e.change(); err != nil {
		return err
	}
	return e.FS.Rename(from, to)
}

func (e *ending) Mkdir(name string, perm fs.FileMode) error {
	if err := e.change(); err != nil {
		return err
	}
	return e.FS.Mkdir(name, perm)
}

// kept returns what is in a member's files, by their paths below its directory or below what is set aside in there.
func kept(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == lockName || e.Name() == spareName {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if first, rest, ok := strings.Cut(rel, string(filepath.Separator)); ok && isAside(first) {
			rel = rest
		}
		b, rerr := os.ReadFile(path)
		out[rel] = string(b)
		return errors.Join(err, rerr)
	}))
	return out
}

// TestSetAside: whatever is in a member's directory is kept whole, in one place, and a new member can be made beside it; also if the process
// ends at any point of that and it is begun again, and if it comes to that twice.
func TestSetAside(t *testing.T) {
	origin := filepath.Join(fastDir(t), "m")
	w, err := openBed(origin)
	must(t, err)
	must(t, w.Save(hard(2, testID.ID, 1), entries(2, 60, 2, 200)))
	must(t, w.Close())
	must(t, os.Remove(filepath.Join(origin, identityName))) // as damage may leave it
	want := kept(t, origin)
	if len(want) < 4 {
		t.Fatalf("only %d files", len(want))
	}
	for left := 0; ; left++ {
		dir := copyTree(t, origin)
		_, err := disk{&ending{FS: vfs.OS, left: left}}.setAside(dir, asideAt)
		whole := err == nil
		if !whole && !errors.Is(err, errEnded) {
			t.Fatal(err)
		}
		what := fmt.Sprintf("%d changes", left)
		path := filepath.Join(dir, "damaged-20260102T030405.000000006Z")
		if !whole {
			again, err := SetAside(dir, asideAt.Add(time.Hour))
			if err != nil {
				t.Fatalf("%s: again: %v", what, err)
			}
			if left > 0 && again != path {
				t.Errorf("%s: it goes on in %s", what, again)
			}
			path = again
		}
		if empty, err := Empty(dir); !empty || err != nil {
			t.Fatalf("%s: afterwards empty: %v, %v", what, empty, err)
		}
		for name, content := range want {
			if b, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(b) != content {
				t.Errorf("%s: %s: %d bytes, want %d; %v", what, name, len(b), len(content), err)
			}
		}
		w, err := openBed(dir)
		if err != nil {
			t.Fatalf("%s: a new member: %v", what, err)
		}
		must(t, w.Close())
		if _, err := SetAside(dir, asideAt.Add(2*time.Hour)); err != nil {
			t.Fatalf("%s: of the new one: %v", what, err)
		}
		if all, err := filepath.Glob(filepath.Join(dir, "damaged-*Z")); len(all) != 2 || err != nil {
			t.Errorf("%s: set aside are %q, %v", what, all, err)
		}
		if whole {
			if left < 5 {
				t.Errorf("it takes %d changes", left)
			}
			return
		}
	}
}

// TestCondemn: a directory that was condemned is refused, with the reason, until it is set aside, and that is kept with it.
func TestCondemn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	must(t, w.Condemn(errors.New("segment 3 is rotten")))
	must(t, w.Close())
	before := tree(t, dir)
	_, err := Open(dir, testOptions())
	var ce *CorruptError
	if !errors.As(err, &ce) || !strings.Contains(err.Error(), "segment 3 is rotten") {
		t.Errorf("open: %v", err)
	}
	if after := tree(t, dir); !maps.Equal(before, after) {
		t.Errorf("the refused start has changed the directory from %v to %v", before, after)
	}
	report, err := Verify(t.Context(), dir, nil)
	must(t, err)
	if len(report.Damages) != 1 || !errors.As(report.Start, &ce) {
		t.Errorf("verified: %+v", report)
	}
	path, err := SetAside(dir, asideAt)
	must(t, err)
	if why, err := os.ReadFile(filepath.Join(path, condemnedName)); string(why) != "segment 3 is rotten" || err != nil {
		t.Errorf("what is kept says %q, %v", why, err)
	}
	must(t, mustOpen(t, dir).Close())
}

func TestSetAsideRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	w := mustOpen(t, dir)
	if _, err := SetAside(dir, asideAt); !errors.Is(err, ErrLocked) {
		t.Errorf("of one that is open: %v", err)
	}
	must(t, w.Close())
	must(t, os.Remove(filepath.Join(dir, identityName)))
	thesis := filepath.Join(dir, "thesis.tex")
	must(t, os.WriteFile(thesis, []byte("years of work"), 0o600))
	before := tree(t, dir)
	if _, err := SetAside(dir, asideAt); !errors.Is(err, ErrForeign) {
		t.Errorf("beside a foreign file: %v", err)
	}
	for name, was := range tree(t, dir) {
		if before[name] != was {
			t.Errorf("%s has changed", name)
		}
	}
	if _, err := SetAside(filepath.Join(dir, "absent"), asideAt); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("of what is not there: %v", err)
	}
}
