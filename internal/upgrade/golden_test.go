package upgrade

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/storage"
)

var makeFlag = flag.String("golden.make", "", "write golden files under names that begin like this, by members of the program in -upgrade.old")

// What a golden file must be found to hold.
type golden struct {
	Kind    string // "alone": the only member of its cluster; "left": one of three, killed; "backup"
	Bare    bool
	First   uint64 // record that is held
	Index   uint64 // last record that was acknowledged
	Epoch   uint64
	Hash    uint64 // of the state, unless bare
	Records uint64 // hash of the records from First to Index
}

// TestGolden: what older versions have written opens for ever, with everything that is in it. The files are of the versions that they are named
// after, and are never written again; add new ones with -golden.make.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/golden/*.tar.gz")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			unpack(t, file, dir)
			var g golden
			text, err := os.ReadFile(filepath.Join(dir, "want.json"))
			if err == nil {
				err = json.Unmarshal(text, &g)
			}
			if err != nil {
				t.Fatal(err)
			}
			g.check(t, dir)
		})
	}
}

func (g *golden) check(t *testing.T, dir string) {
	ctx := t.Context()
	at := filepath.Join(dir, "a")
	made := ha.NewCluster{Dir: filepath.Join(dir, "made"), Cluster: "jobs", Name: "a", Logger: slog.New(slog.DiscardHandler)}
	if g.Kind != "backup" {
		r, err := storage.Verify(ctx, at, nil)
		if err != nil || r.Start != nil || len(r.Damages) > 0 {
			t.Fatalf("verify: %+v, %v", r, err)
		}
		left, err := ha.Survey(ctx, at)
		if err != nil || left.Index < g.Index || left.Epoch != g.Epoch || g.Bare && left.First > g.First {
			t.Fatalf("survey: %+v, %v", left, err)
		}
	}
	switch g.Kind {
	case "left":
		if _, err := ha.Recover(ctx, at, made); err != nil {
			t.Fatal(err)
		}
		at = made.Dir
	case "backup":
		f, err := os.Open(filepath.Join(dir, "backup"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if info, err := ha.Restore(ctx, f, made); err != nil || info.Index != g.Index || info.Epoch != g.Epoch {
			t.Fatalf("restore: %+v, %v", info, err)
		}
		at = made.Dir
	}
	last := g.Index
	for range 2 { // as the old version has left it, and as this one has
		m := new(Machine)
		n, s := open(t, at, m, g.Bare)
		if s.Index < last || s.Epoch <= g.Epoch || s.Token.Epoch != s.Epoch {
			t.Errorf("%+v", s)
		}
		if !g.Bare && g.Kind != "left" && last == g.Index && m.Value() != g.Hash {
			t.Errorf("the state is %x after record %d, want %x", m.Value(), s.Index, g.Hash)
		}
		if (g.Bare || g.Kind != "backup") && hashOf(t, n, g.First, g.Index) != g.Records {
			t.Errorf("records %d to %d are others", g.First, g.Index)
		}
		index, err := n.Append(ctx, s.Token, []byte("more"))
		for until := time.Now().Add(patience); errors.Is(err, ha.ErrNotActive) || errors.Is(err, ha.ErrFenced); { // the machine is busy
			if time.Now().After(until) {
				break
			}
			time.Sleep(time.Millisecond)
			index, err = n.Append(ctx, n.Status().Token, []byte("more"))
		}
		if err != nil || index <= last {
			t.Fatalf("append: %d, %v", index, err)
		}
		last = index
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// open opens the only member of a cluster, and waits until it is active.
func open(t *testing.T, dir string, m *Machine, bare bool) (*ha.Node, ha.Status) {
	t.Helper()
	cfg := ha.Config{
		Name: "a", Dir: dir, Cluster: "jobs", Members: []ha.Member{{Name: "a", Addr: nextAddr()}}, Logger: slog.New(slog.DiscardHandler),
		Heartbeat: 50 * time.Millisecond, ElectionTimeout: time.Second,
	}
	if !bare {
		cfg.StateMachine = m
	}
	n, err := ha.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		switch s := n.Status(); {
		case s.State == ha.Active:
			return n, s
		case time.Now().After(deadline):
			t.Fatalf("not active: %+v", s)
		}
	}
}

// hashOf is what testdata/member answers to "records".
func hashOf(t *testing.T, n *ha.Node, from, to uint64) uint64 {
	t.Helper()
	h := fnv.New64a()
	for e, err := range n.Subscribe(t.Context(), from) {
		if err != nil {
			t.Fatal(err)
		}
		_ = binary.Write(h, binary.LittleEndian, []uint64{e.Index, e.Epoch})
		h.Write(e.Data)
		if e.Index == to {
			break
		}
	}
	return h.Sum64()
}

// TestMakeGolden writes golden files.
func TestMakeGolden(t *testing.T) {
	if *makeFlag == "" {
		t.Skip("needs -golden.make and -upgrade.old")
	}
	binary, err := filepath.Abs(*oldFlag)
	if err != nil {
		t.Fatal(err)
	}
	for _, bare := range []bool{false, true} {
		for _, kind := range []string{"alone", "left"} {
			c := newCluster(t, bare, binary)
			if kind == "alone" {
				c.list = c.list[:1]
			}
			for _, m := range c.list {
				c.start(m.Name)
			}
			c.append(400, 500)
			if kind == "alone" {
				c.stop("a")
				c.start("a")
			} else {
				c.active("a")
			}
			g := golden{Kind: kind, Bare: bare, Index: c.append(7, 50)}
			c.same(g.Index)
			s := c.running["a"].status()
			g.Epoch, g.Hash, g.First = s.epoch, s.hash, g.Index-20
			if _, err := fmt.Sscanf(c.running["a"].ask(fmt.Sprintf("records %d %d", g.First, g.Index)), "ok %d", &g.Records); err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("testdata/golden/%s-%s%s.tar.gz", *makeFlag, kind, map[bool]string{true: "-bare"}[bare])
			if kind == "left" {
				_ = c.running["a"].cmd.Process.Kill()
				_ = c.running["a"].cmd.Wait()
				delete(c.running, "a")
				pack(t, name, c.dir, g)
				continue
			}
			c.stop("a")
			pack(t, name, c.dir, g)
			m := new(Machine)
			n, _ := open(t, filepath.Join(c.dir, "a"), m, bare) // of this version, since the first had no backups
			f, err := os.Create(filepath.Join(c.dir, "backup"))
			if err != nil {
				t.Fatal(err)
			}
			info, err := n.Backup(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			g.Kind, g.Epoch, g.Index = "backup", info.Epoch, info.Index
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(c.dir, "a")); err != nil {
				t.Fatal(err)
			}
			pack(t, fmt.Sprintf("testdata/golden/%s-backup%s.tar.gz", *makeFlag, map[bool]string{true: "-bare"}[bare]), c.dir, g)
		}
	}
}

// pack writes a's directory, or a backup, and what is to be found there. The zeros at the end of files are left out, but for whole blocks.
func pack(t *testing.T, name, dir string, g golden) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	put := func(name string, content []byte) {
		content = bytes.TrimRight(content, "\x00")
		content = append(content, make([]byte, -len(content)&4095)...)
		err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))})
		if err == nil {
			_, err = w.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(g)
	if err == nil {
		err = w.WriteHeader(&tar.Header{Name: "want.json", Mode: 0o600, Size: int64(len(text))})
	}
	if err == nil {
		_, err = w.Write(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || filepath.Dir(rel) != "." && filepath.Dir(rel) != "a" && filepath.Dir(filepath.Dir(rel)) != "a" || filepath.Ext(rel) == ".tmp" {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if filepath.Ext(rel) == ".wal" {
			put(rel, content)
			return nil
		}
		if err := w.WriteHeader(&tar.Header{Name: rel, Mode: 0o600, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = z.Close()
	}
	if err == nil {
		err = os.WriteFile(name, b.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes, %s", name, b.Len(), text)
}

func unpack(t *testing.T, name, dir string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		content, err := io.ReadAll(r)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(path), 0o700)
		}
		if err == nil {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
