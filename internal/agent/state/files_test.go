//go:build linux

package state

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/ha"
)

var seeds = flag.Uint64("state.seeds", 1, "of TestFilesModel")

// A site is the directory of one member.
type site struct {
	*testing.T
	dir string
	m   *Machine
	log *testLog
}

func newSite(l *testLog, m *Machine) *site {
	return &site{l.T, l.TempDir(), m, l}
}

// files is a role of the site's member.
func (s *site) files() *Files {
	return &Files{Node: s.log, Token: s.log.next(), Machine: s.m, Dir: s.dir + "/data", Mark: s.dir + "/mark", Max: 64 << 20}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, "data", name) }

func (s *site) write(name, text string, mode fs.FileMode) {
	s.Helper()
	if err := os.MkdirAll(filepath.Dir(s.path(name)), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
	if err := os.Chmod(s.path(name), mode); err != nil {
		s.Fatal(err)
	}
}

// look is what is in the directory, as a text.
func (s *site) look() string {
	s.Helper()
	var b strings.Builder
	err := filepath.WalkDir(s.path(""), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || p == s.path("") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %v", strings.TrimPrefix(p, s.path("")), info.Mode())
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %.20q %x", len(content), content, crc32.ChecksumIEEE(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return b.String()
}

func TestFiles(t *testing.T) {
	a, b := new(Machine), new(Machine)
	l := newLog(t, a, b)
	first, second := newSite(l, a), newSite(l, b)
	first.write("app.db", "one", 0o640)
	first.write("sub/empty", "", 0o444)
	first.write("sub/deep/tool", "#!", 0o755|fs.ModeSetgid)
	if err := os.MkdirAll(first.path("hollow"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(first.path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := first.files()
	if err := f.Begin(t.Context()); err != nil { // what is there is the beginning
		t.Fatal(err)
	}
	os.Remove(first.path("pipe")) // which is not replicated
	was := first.look()
	records := len(l.entries)
	if index, err := f.Commit(t.Context()); err != nil || index != 1 || len(l.entries) != records {
		t.Errorf("nothing has changed, and Commit says %d, %v, with %d records", index, err, len(l.entries)-records)
	}
	first.write("app.db", "never committed", 0o640)

	// The next one begins with what was committed, whatever it had.
	if err := second.files().Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := second.look(); got != was {
		t.Errorf("the second has\n%swant\n%s", got, was)
	}
}

// What a deposed Active, or anybody, has left in the directory is gone, and nothing outside is touched.
func TestFilesRestore(t *testing.T) {
	m := new(Machine)
	l := newLog(t, m)
	s := newSite(l, m)
	s.write("app.db", "one", 0o640)
	s.write("sub/deep/file", "two", 0o600)
	f := s.files()
	if err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	was := s.look()
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/app.db", []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(){
		"written":   func() { s.write("app.db", "two", 0o640) },
		"longer":    func() { s.write("app.db", "one and more", 0o640) },
		"mode":      func() { os.Chmod(s.path("app.db"), 0o777) },
		"removed":   func() { os.RemoveAll(s.path("sub")) },
		"more":      func() { s.write("sub/other/file", "x", 0o600) },
		"directory": func() { os.Remove(s.path("app.db")); s.write("app.db/in", "x", 0o600) },
		"file":      func() { os.RemoveAll(s.path("sub")); s.write("sub", "x", 0o600) },
		"symlink":   func() { os.Remove(s.path("app.db")); os.Symlink(outside+"/app.db", s.path("app.db")) },
		"linked directory": func() {
			os.RemoveAll(s.path("sub/deep"))
			os.Symlink(outside, s.path("sub/deep"))
		},
		"closed": func() { os.Chmod(s.path("sub"), 0) },
		"all":    func() { os.RemoveAll(s.path("")) },
		"hard link": func() {
			os.Remove(s.path("app.db"))
			os.Link(outside+"/app.db", s.path("app.db"))
		},
	} {
		spoil()
		if s.look() == was && name != "hard link" {
			t.Errorf("%s: nothing was spoilt", name)
		}
		if err := s.files().Begin(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.look(); got != was {
			t.Errorf("%s: there is\n%swant\n%s", name, got, was)
		}
		if b, err := os.ReadFile(outside + "/app.db"); string(b) != "mine" {
			t.Errorf("%s: outside there is %q, %v", name, b, err)
		}
		if info, err := os.Stat(outside + "/app.db"); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: outside it is %v, %v", name, info.Mode(), err)
		}
		if list, err := os.ReadDir(outside); len(list) != 1 || err != nil {
			t.Errorf("%s: outside there are %v, %v", name, list, err)
		}
	}
}

// A directory that the state was never in is left as it is.
func TestFilesForeign(t *testing.T) {
	a, b := new(Machine), new(Machine)
	l := newLog(t, a, b)
	first, second := newSite(l, a), newSite(l, b)
	first.write("app.db", "one", 0o644)
	if err := first.files().Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.write("photos", "of a whole life", 0o644)
	if err := second.files().Begin(t.Context()); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("a directory with something else in it: %v", err)
	}
	if got := second.look(); !strings.Contains(got, "photos") || strings.Contains(got, "app.db") {
		t.Errorf("there is %s", got)
	}
	os.Remove(second.path("photos"))
	second.write("app.db", "one", 0o644) // the same, but for the mark
	if err := second.files().Begin(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFilesErrors(t *testing.T) {
	m := new(Machine)
	l := newLog(t, m)
	s := newSite(l, m)
	f := s.files()
	f.Max = 1000
	if err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.write("a", strings.Repeat("x", 900), 0o644)
	if _, err := f.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	s.write("b", "x", 0o644)
	if _, err := f.Commit(t.Context()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	os.Remove(s.path("b"))
	if err := os.Symlink("a", s.path("link")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Commit(t.Context()); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a symbolic link: %v", err)
	}
	os.Remove(s.path("link"))
	l.next()
	if _, err := f.Commit(t.Context()); !errors.Is(err, ha.ErrFenced) {
		t.Errorf("deposed, with nothing new: %v", err)
	}
	s.write("a", "new", 0o644)
	if _, err := f.Commit(t.Context()); !errors.Is(err, ha.ErrFenced) {
		t.Errorf("deposed: %v", err)
	}
	f = s.files()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Begin(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a role that is over: %v", err)
	}
}

// A file that is written to while it is committed is noticed.
func TestFilesChange(t *testing.T) {
	m := new(Machine)
	l := newLog(t, m)
	s := newSite(l, m)
	f := s.files()
	if err := f.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	tries := 0
	l.turn = func() { // after a piece of a large file
		tries++
		s.write("a", strings.Repeat(fmt.Sprint(tries), 3<<20), 0o644)
	}
	s.write("a", strings.Repeat("0", 3<<20), 0o644)
	if _, err := f.Commit(t.Context()); !errors.Is(err, errChanged) {
		t.Errorf("a file that changes all the time: %v", err)
	}
	l.turn = func() {
		if tries > 0 {
			tries = 0
			s.write("a", strings.Repeat("z", 3<<20), 0o644)
		}
	}
	if _, err := f.Commit(t.Context()); err != nil {
		t.Errorf("a file that has changed once: %v", err)
	}
	if files, _ := m.filesNow(); !bytes.Equal(files["a"].piece(17), []byte(strings.Repeat("z", pieceSize))) {
		t.Error("something else was committed")
	}
}

// A directory that cannot be made what it should be is none; with room again it is.
func TestFilesFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a file system of its own needs root")
	}
	a, b := new(Machine), new(Machine)
	l := newLog(t, a, b)
	first, second := newSite(l, a), newSite(l, b)
	first.write("one", strings.Repeat("x", 300_000), 0o644)
	first.write("two", strings.Repeat("y", 300_000), 0o644)
	if err := first.files().Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(second.path(""), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", second.path(""), "tmpfs", 0, "size=400k"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(second.path(""), 0)
	if err := second.files().Begin(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	if err := syscall.Mount("tmpfs", second.path(""), "tmpfs", syscall.MS_REMOUNT, "size=1m"); err != nil {
		t.Fatal(err)
	}
	if err := second.files().Begin(t.Context()); err != nil || second.look() != first.look() {
		t.Errorf("with room again there is %s, %v", second.look(), err)
	}
}

// TestFilesModel commits a directory in which anything happens, has Actives die in the middle of commits, and machines be restored from checkpoints at
// any moment: all machines have what was committed last, and the directory of the next Active is just that.
func TestFilesModel(t *testing.T) {
	for seed := range *seeds {
		random := rand.New(rand.NewPCG(seed, 0))
		machines := []*Machine{new(Machine), new(Machine)}
		l := newLog(t, machines...)
		sites := []*site{newSite(l, machines[0]), newSite(l, machines[1])}
		committed, breaks := "", 0
		for role := range 10 {
			s := sites[role%2]
			f := s.files()
			if err := f.Begin(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.look(); role > 0 && got != committed {
				t.Fatalf("seed %d, role %d begins with\n%swant\n%s", seed, role, got, committed)
			}
			committed = s.look()
			for range 3 {
				disturb(random, s)
				l.turn = func() {
					if random.IntN(3) == 0 {
						m := machines[(role+1)%2]
						var b bytes.Buffer
						c, err := m.Snapshot()
						if err == nil {
							_, err = c.WriteTo(&b)
						}
						if err == nil {
							err = m.Restore(&b)
						}
						if err != nil {
							t.Error(err)
						}
					}
					if random.IntN(8) == 0 && breaks < 1000 {
						l.token.Epoch++ // somebody else is Active, who has not begun yet
						breaks++
					}
				}
				before := len(l.entries)
				if _, err := f.Commit(t.Context()); err == nil || len(l.entries) > before && last(t, l.entries[len(l.entries)-1]) {
					committed = s.look()
				} else if !errors.Is(err, ha.ErrFenced) {
					t.Fatal(err)
				}
			}
			l.turn = nil
			disturb(random, s)
		}
		if !maps.EqualFunc(machines[0].s.files, machines[1].s.files, func(a, b *node) bool {
			return a.mode == b.mode && a.size == b.size && slices.EqualFunc(a.pieces, b.pieces, bytes.Equal)
		}) {
			t.Errorf("seed %d: the machines differ", seed)
		}
		if breaks == 0 {
			t.Errorf("seed %d: no commit was broken off", seed)
		}
	}
}

// last reports whether an entry ends a commit.
func last(t *testing.T, e ha.Entry) bool {
	c, err := decodeChange(e.Data[1:])
	if err != nil {
		t.Fatal(err)
	}
	return c.Last
}

// disturb does something in the directory.
func disturb(random *rand.Rand, s *site) {
	names := []string{"a", "b", "sub/a", "sub/b", "sub/deep/a", "c\n'\"", "sub/ä"}
	for range 1 + random.IntN(6) {
		name := names[random.IntN(len(names))]
		switch random.IntN(8) {
		case 0:
			os.RemoveAll(s.path(name))
		case 1:
			os.RemoveAll(s.path("sub"))
		case 2:
			if info, err := os.Stat(s.path(name)); err == nil && !info.IsDir() {
				os.Truncate(s.path(name), int64(random.IntN(300_000)))
			}
		case 3:
			os.RemoveAll(s.path(name))
			os.MkdirAll(s.path(name), 0o755)
		case 4:
			if file, err := os.OpenFile(s.path(name), os.O_WRONLY, 0); err == nil {
				file.WriteAt([]byte{byte(random.Uint32())}, int64(random.IntN(300_000)))
				file.Close()
			}
		default:
			os.RemoveAll(s.path(name))
			if info, err := os.Stat(filepath.Dir(s.path(name))); err == nil && !info.IsDir() {
				os.Remove(filepath.Dir(s.path(name)))
			}
			s.write(name, strings.Repeat(fmt.Sprint(random.Uint32()), random.IntN(60_000)), []fs.FileMode{0o644, 0o600, 0o755}[random.IntN(3)])
		}
	}
}
