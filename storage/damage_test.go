package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/baton-ha/baton/internal/faultfs"
	"github.com/baton-ha/baton/internal/testseed"
	"go.etcd.io/raft/v3/raftpb"
)

func reseal(b []byte) {
	binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
}

// fastDir is a directory in memory where there is one: these tests open thousands of directories and cut no power.
func fastDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "baton")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// bed is a member's directory of which copies can be damaged.
type bed struct {
	t     *testing.T
	fs    *faultfs.FS
	files map[string][]byte // relative path
	m     *model
}

const bedSegment = 4 << 10

func openBed(dir string) (*WAL, error) {
	o := testOptions()
	o.SegmentSize = bedSegment
	return Open(dir, o)
}

// newBed writes a few segments with overwrites, votes and checkpoints, and leaves them cleanly closed or as a death does.
func newBed(t *testing.T, clean bool) *bed {
	s := faultfs.New()
	w, err := openLife(s)
	must(t, err)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	m.save(t, w, hard(2, testID.ID, 1), entries(2, 12, 2, 200))
	m.save(t, w, hard(2, testID.ID, 8), nil)
	m.save(t, w, hard(3, 0, 8), entries(10, 14, 3, 250))
	m.save(t, w, hard(3, 2, 12), entries(14, 40, 3, 120))
	m.save(t, w, nil, entries(40, 42, 3, 120))
	m.snap = 12
	must(t, w.SaveSnapshot(snapshot(12, 3, "head"), body(strings.Repeat("state ", 100))))
	for i := uint64(42); i < 75; i++ {
		m.save(t, w, hard(3, 2, i-5), entries(i, i+1, 3, 100))
	}
	must(t, w.SetClusterID([16]byte{1}))
	must(t, w.Meet("b", 9))
	if killed := s.Kill(); !clean {
		s = killed
	}
	must(t, w.Close())
	b := &bed{t: t, fs: s, files: filesIn(t, s), m: m}
	if n := len(b.segments()); n < 3 {
		t.Fatalf("%d segments", n)
	}
	return b
}

// filesIn returns what is in the files of a member, but for the file that an open one prepares in the background.
func filesIn(t *testing.T, s *faultfs.FS) map[string][]byte {
	t.Helper()
	out, d := map[string][]byte{}, disk{s}
	for _, dir := range []string{".", walName, snapName} {
		names, err := d.ReadDir(filepath.Join(lifeDir, dir))
		must(t, err)
		for _, e := range names {
			rel := filepath.Join(dir, e.Name())
			if e.IsDir() || filepath.Ext(rel) == tmpExt {
				continue
			}
			out[rel], err = d.readFile(filepath.Join(lifeDir, rel))
			must(t, err)
		}
	}
	return out
}

// segments returns the names of the segments, oldest first.
func (b *bed) segments() (out []string) {
	for _, rel := range slices.Sorted(maps.Keys(b.files)) {
		if filepath.Dir(rel) == walName {
			out = append(out, rel)
		}
	}
	return out
}

// with returns a copy in which one file holds something else.
func (b *bed) with(rel string, content []byte) *faultfs.FS {
	b.t.Helper()
	s := b.fs.Kill()
	f, err := s.OpenFile(filepath.Join(lifeDir, rel), os.O_RDWR|os.O_CREATE, 0o600)
	must(b.t, err)
	must(b.t, f.Truncate(0))
	_, err = f.WriteAt(content, 0)
	must(b.t, errors.Join(err, f.Close()))
	return s
}

// try damages one file and returns nil when nothing acknowledged is missing, and the error of Open otherwise. An error that
// does not name the damaged file, or that comes with a changed disk, fails the test.
func (b *bed) try(rel, what string, damage func([]byte) []byte) error {
	b.t.Helper()
	bad := damage(append([]byte{}, b.files[rel]...))
	s := b.with(rel, bad)
	w, err := openLife(s)
	if err == nil {
		err = b.m.check(w)
		var ce *CorruptError
		if snap := w.newest(); errors.As(err, &ce) && snap.index == b.m.snap {
			b.named(rel, what, err) // in a segment that only Entries reads
			err = nil
		} else if err != nil && snap.index < b.m.snap && strings.HasPrefix(rel, snapName) {
			older := *b.m
			older.snap = snap.index
			err = older.check(w) // the newest snapshot was damaged: the older one and the whole log
		}
		if cerr := w.Close(); cerr != nil {
			b.t.Fatalf("%s: %s: close: %v", rel, what, cerr)
		}
		if err != nil {
			b.t.Fatalf("%s: %s: opened, but: %v", rel, what, err)
		}
		return nil
	}
	b.named(rel, what, err)
	want := maps.Clone(b.files)
	want[rel] = bad
	if got := filesIn(b.t, s); !maps.EqualFunc(got, want, bytes.Equal) {
		b.t.Fatalf("%s: %s: something was changed", rel, what)
	}
	return err
}

func (b *bed) named(rel, what string, err error) {
	b.t.Helper()
	var ce *CorruptError
	if !errors.As(err, &ce) {
		b.t.Fatalf("%s: %s: not a CorruptError: %v", rel, what, err)
	}
	if ce.File != filepath.Join(lifeDir, rel) && !nextSegment(ce.File, rel) {
		b.t.Fatalf("%s: %s: names another file: %v", rel, what, err)
	}
}

// nextSegment tells whether file is the segment after rel: a record that is cut off cleanly shows in the chain of checksums.
func nextSegment(file, rel string) bool {
	a, _, ok1 := parseSegmentName(filepath.Base(file))
	b, _, ok2 := parseSegmentName(filepath.Base(rel))
	return ok1 && ok2 && a == b+1
}

// offsets returns every offset of a file, but only some of those far inside of long stretches of zeros.
func offsets(content []byte, rnd *rand.Rand, limit int) (out []int) {
	for i := range content {
		far := i > 16 && i < len(content)-16 && zero(content[i-16:i+16])
		if far && rnd.IntN(100) > 0 {
			continue
		}
		out = append(out, i)
	}
	if testing.Short() {
		limit /= 10
	}
	if len(out) > limit {
		rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		out = out[:limit]
	}
	return out
}

func (b *bed) damageable() (out []string) {
	for rel := range b.files {
		if rel != lockName {
			out = append(out, rel)
		}
	}
	return out
}

const flips = 500 // per file and run, chosen at random; each costs an Open

func TestG7_FlippedBit(t *testing.T) {
	rnd := testseed.Rand(t)
	b := newBed(t, true)
	refused, harmless := 0, 0
	for _, rel := range b.damageable() {
		for _, i := range offsets(b.files[rel], rnd, flips) {
			bit := byte(1) << rnd.IntN(8)
			err := b.try(rel, "flip", func(c []byte) []byte { c[i] ^= bit; return c })
			if err != nil {
				refused++
			} else {
				harmless++
			}
		}
	}
	t.Logf("%d refused, %d opened with everything there", refused, harmless)
}

// The type of a record is outside of etcd's checksum: every bit of the heads of all records.
func TestG7_FlippedRecordHead(t *testing.T) {
	b := newBed(t, true)
	for _, rel := range b.damageable() {
		if filepath.Dir(rel) != walName {
			continue
		}
		content := b.files[rel]
		for off := 0; off+8 < len(content); {
			n, pad, ok := frameSize(content[off:])
			if !ok {
				break
			}
			for bit := range 8 {
				_ = b.try(rel, "type", func(c []byte) []byte { c[off+9] ^= 1 << bit; return c })
			}
			off += int(8 + n + pad)
		}
	}
}

func TestG7_ZeroedSector(t *testing.T) {
	b := newBed(t, true)
	for _, rel := range b.damageable() {
		for off := 0; off < len(b.files[rel]); off += 512 {
			_ = b.try(rel, "zero", func(c []byte) []byte { clear(c[off:min(off+512, len(c))]); return c })
		}
	}
}

func TestG7_Truncated(t *testing.T) {
	rnd := testseed.Rand(t)
	b := newBed(t, true)
	for _, rel := range b.damageable() {
		for _, i := range offsets(b.files[rel], rnd, flips/3) {
			_ = b.try(rel, "truncate", func(c []byte) []byte { return c[:i] })
		}
	}
	for _, rel := range b.damageable() {
		if filepath.Dir(rel) != walName {
			continue
		}
		s := b.fs.Kill()
		must(t, s.Remove(filepath.Join(lifeDir, rel)))
		_, err := openLife(s)
		if ce := (*CorruptError)(nil); !errors.As(err, &ce) {
			t.Fatalf("%s removed: %v", rel, err)
		}
	}
}

// TestT13_TornTail cuts the last write of a Save that never returned, at every byte, and leaves zeros, noise or nothing
// behind: all that was acknowledged is there, and the next start finds the same.
func TestT13_TornTail(t *testing.T) {
	rnd := testseed.Rand(t)
	b := &bed{t: t, m: &model{hs: hardState{1, 0, 1}, snap: 1}}
	m, s := b.m, faultfs.New()
	w, err := openLife(s)
	must(t, err)
	m.save(t, w, hard(2, 7, 1), entries(2, 9, 2, 100))
	m.save(t, w, hard(3, 1, 5), entries(7, 11, 3, 100))
	b.fs = s.Kill()
	start := int(w.segs[0].end)
	torn := entries(9, 13, 4, 200)
	must(t, w.Save(hard(4, 9, 8), torn))
	end := int(w.segs[0].end)
	must(t, w.Close())
	b.files = filesIn(t, s)
	seg := b.segments()
	if len(seg) != 1 {
		t.Fatal(seg)
	}
	full := b.files[seg[0]]
	repaired := 0
	for cut := start; cut < end; cut++ {
		var c []byte
		switch cut % 3 {
		case 0:
			c = append([]byte{}, full[:cut]...)
		case 1:
			c = append(append([]byte{}, full[:cut]...), make([]byte, bedSegment-cut)...)
		default:
			c = append([]byte{}, full...)
			for i := cut; i < len(c); i++ {
				c[i] = byte(rnd.Uint32())
			}
		}
		at := b.with(seg[0], c)
		var after []*raftpb.Entry
		for round := range 2 {
			w, err := openLife(at)
			if err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			hs, _, ents := found(t, w)
			// Any prefix of the unfinished Save may be there.
			want := m.ents
			if round == 1 {
				want = after
			} else if n := len(ents); n > 0 && ents[n-1].GetTerm() == 4 {
				want = append(append(want[:0:0], m.ents[:7]...), torn[:ents[n-1].GetIndex()-8]...)
			} else if hs.GetTerm() != 3 || hs.GetVote() != 1 || hs.GetCommit() != 5 {
				t.Fatalf("cut at %d: %v", cut, hs)
			}
			if err := sameEntries(ents, want); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			if round == 0 {
				repaired++
				i := uint64(len(want) + 2)
				next := entries(i, i+1, hs.GetTerm(), 10)
				must(t, w.Save(nil, next))
				after = append(want[:len(want):len(want)], next...)
			}
			must(t, w.Close())
		}
	}
	t.Logf("%d cuts", repaired)
}

// TestT14_DamageBelowMark is the other half: the same cuts below the mark are damage, whatever they look like.
func TestT14_DamageBelowMark(t *testing.T) {
	b := newBed(t, false)
	segs := b.segments()
	rel := segs[len(segs)-1]
	_, m, err := disk{b.fs.Kill()}.readMark(filepath.Join(lifeDir, markName), testID.Incarnation, new(tally))
	must(t, err)
	for cut := range int(m.offset) {
		if err := b.try(rel, "cut", func(c []byte) []byte { clear(c[cut:]); return c }); err == nil && cut < int(m.offset)-8 {
			t.Fatalf("zeros from %d on were accepted, durable up to %d", cut, m.offset)
		}
	}
}

// TestG7_RemovalsOutOfOrder: segments that were given up come back in any pattern, as a file system may keep removals in any
// order: the member starts, with everything that is above the last gap. Without a segment that is needed it does not.
func TestG7_RemovalsOutOfOrder(t *testing.T) {
	t.Run("one leader", func(t *testing.T) {
		removeOutOfOrder(t, func(save func(lo, hi, term uint64, size int)) {
			for i := uint64(2); i < 180; i++ {
				save(i, i+1, 2, 150)
			}
		})
	})
	t.Run("new leaders overwrite", func(t *testing.T) { // what is named after a lower entry than the segment before it
		removeOutOfOrder(t, func(save func(lo, hi, term uint64, size int)) {
			for i := uint64(2); i < 180; i += 12 {
				save(i, i+20, i, 250)
				save(i+6, i+7, i+1, bedSegment)
				save(i+7, i+12, i+1, 250)
			}
		})
	})
}

func removeOutOfOrder(t *testing.T, fill func(save func(lo, hi, term uint64, size int))) {
	dir := filepath.Join(fastDir(t), "m")
	w, err := openBed(dir)
	must(t, err)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	fill(func(lo, hi, term uint64, size int) {
		m.save(t, w, hard(term, 1, max(m.hs.commit, lo-1)), entries(lo, hi, term, size))
	})
	m.snap = 124
	for _, at := range []uint64{120, 124} {
		must(t, w.SaveSnapshot(snapshot(at, m.ents[at-2].GetTerm(), "head"), nil))
	}
	must(t, w.Close())
	old := map[string][]byte{}
	all := segmentFiles(t, dir)
	for _, name := range all {
		b, err := os.ReadFile(name)
		must(t, err)
		old[name] = b
	}
	w, err = openBed(dir)
	must(t, err)
	must(t, w.Compact(120))
	must(t, w.Close())
	kept := segmentFiles(t, dir)
	given := all[:len(all)-len(kept)]
	if len(given) < 4 || len(kept) < 3 {
		t.Fatal(len(given), len(kept))
	}
	for pattern := range 1 << min(len(given), 7) {
		for k := range min(len(given), 7) {
			if name := given[len(given)-1-k]; pattern&(1<<k) != 0 {
				must(t, os.WriteFile(name, old[name], 0o600))
			}
		}
		w, err := openBed(dir)
		if err != nil {
			t.Fatalf("%b: %v", pattern, err)
		}
		if err := m.check(w); err != nil {
			t.Fatalf("%b: %v", pattern, err)
		}
		n := len(segmentFiles(t, dir))
		if _, before, err := onDisk.listSegments(filepath.Join(dir, walName)); err != nil || len(before) > 0 || n < len(kept) {
			t.Fatalf("%b: %d before the log, %d in it: %v", pattern, len(before), n, err)
		}
		must(t, w.Compact(120))
		must(t, w.Close())
	}
	for _, name := range given {
		must(t, os.WriteFile(name, old[name], 0o600))
	}
	must(t, os.Remove(kept[len(kept)-2]))
	if _, err := openBed(dir); !errors.As(err, new(*CorruptError)) {
		t.Fatal(err)
	}
}
