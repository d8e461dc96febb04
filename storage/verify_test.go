package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

func verifyIn(s *faultfs.FS) (*Report, error) {
	return disk{s}.verify(context.Background(), lifeDir, nil)
}

// logEnds returns where the log ends in the last segment of a bed, and which file that is.
func (b *bed) logEnds() (tail string, end int64) {
	segs := b.segments()
	tail = segs[len(segs)-1]
	content := b.files[tail]
	r := newFrameReader(tail, bytes.NewReader(content), 0, int64(len(content)))
	for {
		if _, err := r.next(); err != nil {
			return tail, r.off
		}
	}
}

func TestVerifyIntact(t *testing.T) {
	for _, clean := range []bool{true, false} {
		b := newBed(t, clean)
		root := filepath.Join(t.TempDir(), "m")
		must(t, onDisk.makeDir(filepath.Join(root, walName)))
		must(t, onDisk.mkdir(filepath.Join(root, snapName)))
		for rel, content := range b.files {
			must(t, os.WriteFile(filepath.Join(root, rel), content, 0o600))
		}
		before := tree(t, root)
		var files []string
		var all []Progress
		last := Progress{}
		report, err := Verify(t.Context(), root, func(p Progress) {
			if p.Done < last.Done || p.Done > p.Total {
				t.Errorf("%+v after %+v", p, last)
			}
			all = append(all, p)
			if last = p; !slices.Contains(files, p.File) {
				files = append(files, p.File)
			}
		})
		must(t, err)
		if len(report.Damages) > 0 || len(report.Unfinished) > 0 || report.Start != nil || report.Identity != testID {
			t.Errorf("%+v", report)
		}
		log := int64(0)
		for rel, content := range b.files {
			if strings.HasSuffix(rel, ".wal") {
				log += int64(len(content))
			}
		}
		if again := func(p Progress) bool { return p.File != "" && p.Done > report.Bytes }; !slices.ContainsFunc(all, again) {
			t.Errorf("nothing is said while the log is read once more: %v", all)
		}
		if last.Done != last.Total || last.Total != report.Bytes+log || len(files) != report.Files+1 {
			t.Errorf("%+v of %+v in %q", last, report, files)
		}
		if !maps.Equal(tree(t, root), before) {
			t.Error("something was written")
		}
	}
}

// TestVerifyWritesNothing: not even where it is asked to look at an interrupted creation or at a torn end.
func TestVerifyWritesNothing(t *testing.T) {
	rnd := testseed.Rand(t)
	l, torn := newLife(rnd, faultfs.New()), rand.New(rand.NewPCG(rnd.Uint64(), 0))
	var states []*faultfs.FS
	l.watch(func(n int, op *faultfs.Op, _ *progress) faultfs.Fault {
		if op.Dsync || n%5 == 0 {
			for range 3 {
				states = append(states, op.Crash(faultfs.Loss{Names: faultfs.Some, Data: faultfs.Some, Rand: torn}))
			}
		}
		return faultfs.Fault{}
	})
	must(t, l.live(script))
	unfinished := 0
	for _, s := range states {
		s.Inject(func(op *faultfs.Op) (f faultfs.Fault) {
			if op.Changes() {
				t.Errorf("%s of %s", op.Kind, op.Name)
			}
			return f
		})
		report, err := verifyIn(s)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		must(t, err)
		if len(report.Damages) > 0 || report.Start != nil {
			t.Errorf("a crash was taken for damage: %+v", report)
		}
		unfinished += len(report.Unfinished)
	}
	if unfinished == 0 {
		t.Error("nothing was unfinished")
	}
}

// harm is a change of the bytes of a file.
type harm struct {
	what     string
	from, to int // that are changed, at most
	content  []byte
}

// harmsTo returns damages of each kind to a file.
func harmsTo(content []byte, rnd *rand.Rand, each int) (out []harm) {
	if len(content) == 0 {
		return nil
	}
	flip := func(i, bit int) {
		c := bytes.Clone(content)
		c[i] ^= 1 << bit
		out = append(out, harm{"flipped bit", i, i + 1, c})
	}
	for i := range 8 * min(len(content), 64) {
		flip(i/8, i%8) // where each byte means something else
	}
	for range each {
		flip(rnd.IntN(len(content)), rnd.IntN(8))

		size := []int{512, 4096}[rnd.IntN(2)]
		from := rnd.IntN(len(content)) / size * size
		to := min(from+size, len(content))
		c := bytes.Clone(content)
		clear(c[from:to])
		out = append(out, harm{"zeroed sector", from, to, c})

		other := rnd.IntN(len(content)) / size * size
		c = bytes.Clone(content)
		n := copy(c[from:to], content[other:min(other+size, len(content))])
		out = append(out, harm{"block over another", from, from + n, c})

		cut := rnd.IntN(len(content))
		out = append(out, harm{"truncation", cut, len(content), bytes.Clone(content[:cut])})
	}
	return out
}

// TestVerifyDamage: each damage of each kind to each kind of file is named with its range, and Start says what Open does.
func TestVerifyDamage(t *testing.T) {
	rnd := testseed.Rand(t)
	b := newBed(t, true)
	tail, end := b.logEnds()
	each, found, narrow, inLog := 25, 0, 0, 0
	if *statesFlag > 1 {
		each = 1000
	}
	for _, rel := range slices.Sorted(maps.Keys(b.files)) {
		if rel == lockName {
			continue
		}
		content := b.files[rel]
		if rel == tail {
			content = content[:end] // what is behind it means nothing
		}
		for _, dmg := range harmsTo(content, rnd, each) {
			bad := dmg.content
			if rel == tail {
				bad = append(bad, b.files[rel][len(bad):]...)
				if dmg.what == "truncation" {
					bad = bad[:dmg.from]
				}
			}
			if bytes.Equal(bad, b.files[rel]) {
				continue
			}
			for dmg.what != "truncation" && bad[dmg.from] == b.files[rel][dmg.from] {
				dmg.from++ // the first byte that is another one
			}
			s := b.with(rel, bad)
			what := fmt.Sprintf("%s of %s, bytes %d to %d", dmg.what, rel, dmg.from, dmg.to)
			report, err := verifyIn(s)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			hit := slices.IndexFunc(append(report.Damages, report.Unfinished...), func(d Damage) bool {
				to := max(d.To, d.From+1)
				return d.File == filepath.Join(lifeDir, rel) && (d.From <= int64(dmg.from) && int64(dmg.from) < to || dmg.what == "truncation" && d.From <= int64(dmg.from))
			})
			if hit < 0 {
				t.Fatalf("%s: not named: %v, %v", what, report.Damages, report.Unfinished)
			}
			if len(report.Damages) == 0 && rel != markName { // of the mark, one copy may be bad
				t.Fatalf("%s: no damage: %v", what, report.Unfinished)
			}
			found++
			if dmg.what == "flipped bit" && strings.HasPrefix(rel, walName) {
				if inLog++; hit < len(report.Damages) && report.Damages[hit].To-report.Damages[hit].From < 600 {
					narrow++
				}
			}
			w, err := openLife(s)
			if err == nil {
				must(t, w.Close())
			}
			if (err == nil) != (report.Start == nil) {
				t.Fatalf("%s: open: %v; verify: %v", what, err, report.Start)
			}
		}
	}
	t.Logf("%d damages found; of %d flipped bits in the log %d within 600 bytes", found, inLog, narrow)
	if narrow*10 < inLog*8 {
		t.Error("the ranges are wide")
	}
}

// TestVerifyEachRecord: a record of which all is zero, or whose type is another one, is named, and nothing but what must be read
// together with it.
func TestVerifyEachRecord(t *testing.T) {
	b := newBed(t, true)
	for rel, content := range b.files {
		if !strings.HasSuffix(rel, ".wal") {
			continue
		}
		var recs []record
		r := newFrameReader(rel, bytes.NewReader(content), 0, int64(len(content)))
		for rec, err := r.next(); err == nil; rec, err = r.next() {
			rec.data = bytes.Clone(rec.data)
			recs = append(recs, rec)
		}
		for i, rec := range recs {
			next := rec.end // where a reader can go on
			for _, later := range recs[i+1:] {
				if next = later.off; later.typ == wal.CrcType {
					break
				}
				next = later.end
			}
			for bit := range 4 {
				c := bytes.Clone(content)
				if bit == 3 {
					clear(c[rec.off:rec.end])
				} else {
					c[rec.off+frameHead+1] ^= 1 << bit
				}
				s := b.with(rel, c)
				report, err := verifyIn(s)
				must(t, err)
				if n := len(report.Damages); n == 0 || n > 2 {
					t.Fatalf("%s, record %d at %d, bit %d: %v, %v", rel, i, rec.off, bit, report.Damages, report.Unfinished)
				}
				d := report.Damages[0]
				if d.File != filepath.Join(lifeDir, rel) || d.From != rec.off || d.To > next && i > 2 || d.To < rec.end {
					t.Fatalf("%s, record %d at %d to %d, next %d, bit %d: %v", rel, i, rec.off, rec.end, next, bit, report.Damages)
				}
			}
		}
	}
}

// TestVerifyOldMark: a copy of the mark that is older than the other one in its slot is told, and so is one of the other slot.
func TestVerifyOldMark(t *testing.T) {
	b := newBed(t, true)
	for _, n := range []uint64{1, 2} { // whichever slot it is, one of them would be in it
		c := bytes.Clone(b.files[markName])
		copy(c[markCopy:], markState{}.encode(n, testID.Incarnation))
		s := b.with(markName, c)
		report, err := verifyIn(s)
		must(t, err)
		if len(report.Damages) != 0 || len(report.Unfinished) != 1 || report.Start != nil {
			t.Errorf("%v, %v, %v", report.Damages, report.Unfinished, report.Start)
		}
	}
}

// TestVerifySeveral: damages behind a damage are named, too, in every file.
func TestVerifySeveral(t *testing.T) {
	b := newBed(t, true)
	several := *b
	want := map[string]bool{}
	for _, rel := range slices.Sorted(maps.Keys(b.files)) {
		if c := bytes.Clone(b.files[rel]); strings.HasSuffix(rel, ".wal") || strings.HasSuffix(rel, snapExt) {
			_, end := b.logEnds()
			end = min(end, int64(len(c)))
			c[end/3] ^= 1
			c[end*2/3] ^= 1
			several.fs = several.with(rel, c)
			want[rel] = true
		}
	}
	must(t, several.fs.Remove(filepath.Join(lifeDir, markName)))
	report, err := verifyIn(several.fs)
	must(t, err)
	n := map[string]int{}
	for _, d := range report.Damages {
		rel, _ := filepath.Rel(lifeDir, d.File)
		n[rel]++
	}
	for rel := range want {
		if n[rel] < 1 || strings.HasSuffix(rel, ".wal") && n[rel] != 2 {
			t.Errorf("%d damages of %s: %v", n[rel], rel, report.Damages)
		}
	}
	if n[markName] != 1 || report.Start == nil {
		t.Errorf("%v, %v", report.Damages, report.Start)
	}
}

func TestVerifyErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	if _, err := Verify(t.Context(), dir, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	w := mustOpen(t, dir)
	if _, err := Verify(t.Context(), dir, nil); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	must(t, w.Close())
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if _, err := Verify(ctx, dir, func(Progress) {
		if n++; n == 3 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	foreign := t.TempDir()
	must(t, os.WriteFile(filepath.Join(foreign, "thesis.doc"), []byte("x"), 0o600))
	if _, err := Verify(t.Context(), foreign, nil); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

// TestVerifyUnreadable: a file that cannot be read is named, and the others are verified.
func TestVerifyUnreadable(t *testing.T) {
	b := newBed(t, true)
	for rel := range b.files {
		if rel == lockName {
			continue
		}
		s := b.fs.Kill()
		s.Inject(func(op *faultfs.Op) (f faultfs.Fault) {
			if op.Kind == faultfs.OpRead && op.Name == filepath.Join(lifeDir, rel) {
				f.Err = syscall.EIO
			}
			return f
		})
		report, err := verifyIn(s)
		must(t, err)
		if !slices.ContainsFunc(report.Damages, func(d Damage) bool {
			return d.File == filepath.Join(lifeDir, rel) && strings.Contains(d.What, syscall.EIO.Error())
		}) {
			t.Errorf("%s: %v", rel, report.Damages)
		}
	}
}

func ExampleDamage_String() {
	fmt.Println(Damage{"wal/0000000000000000-0000000000000000.wal", 512, 640, "checksum is 1234abcd, record says 00000000; the record behind it is right"})
	fmt.Println(Damage{"mark", 0, 0, "the file is missing"})
	// Output:
	// wal/0000000000000000-0000000000000000.wal: bytes 512 to 639: checksum is 1234abcd, record says 00000000; the record behind it is right
	// mark: the file is missing
}
