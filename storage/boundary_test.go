package storage

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/internal/testseed"
	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

var trialsFlag = flag.Int("trials", 150, "trials of several damages at once after a power cut")

// saved is where a Save began in the log, and what was acknowledged with it.
type saved struct {
	seg   string
	at    int64
	model model
}

// history saves as raft does, for some segments, and leaves what a power cut does: all that was synced, if torn some sectors of
// one more Save, and the mark as it was when it was last synced. It returns what was acknowledged, and where the boundary of
// that last Save is, as far as it was written.
func history(t *testing.T, dir string, rnd *rand.Rand, torn bool) (all []saved, unfinished saved) {
	w, err := openBed(dir)
	must(t, err)
	m := &model{hs: hardState{1, 0, 1}, snap: 1}
	var mark []byte
	save := func(hs *raftpb.HardState, ents []*raftpb.Entry) {
		s := saved{seg: w.segs[len(w.segs)-1].path, at: w.out.end()}
		votes, segs := m.hs, len(w.segs)
		m.save(t, w, hs, ents)
		s.model = *m
		all = append(all, s)
		if m.hs.term != votes.term || m.hs.vote != votes.vote || len(w.segs) > segs || mark == nil {
			mark, err = os.ReadFile(w.mark.f.Name())
			must(t, err)
		}
	}
	save(hard(2, testID.ID, 1), entries(2, 12, 2, 100))
	for n := 40 + rnd.IntN(100); n > 0; n-- {
		hs, first := m.hs, uint64(len(m.ents)+2)
		if rnd.IntN(20) == 0 {
			hs.term, hs.vote = hs.term+1, rnd.Uint64N(3)
			first -= rnd.Uint64N(first - hs.commit)
		} else if rnd.IntN(20) == 0 {
			hs.vote = max(hs.vote, 1)
		}
		hs.commit += rnd.Uint64N(first - hs.commit)
		save(hs.proto(), entries(first, first+1+rnd.Uint64N(3), hs.term, 10+rnd.IntN(300)))
	}
	if !torn {
		kill(t, w)
		must(t, os.WriteFile(filepath.Join(dir, markName), mark, 0o600))
		return all, saved{}
	}
	unfinished = saved{seg: w.segs[len(w.segs)-1].path, at: w.out.end()}
	acked, err := os.ReadFile(unfinished.seg)
	must(t, err)
	first := uint64(len(m.ents) + 2)
	must(t, w.Save(nil, entries(first, first+1+rnd.Uint64N(3), m.hs.term, 10+rnd.IntN(1500))))
	cut := w.segs[len(w.segs)-1].path != unfinished.seg
	kill(t, w)
	must(t, os.WriteFile(filepath.Join(dir, markName), mark, 0o600))
	if cut { // the segment was finished with it
		return append(all, saved{seg: unfinished.seg, at: unfinished.at, model: *m}), saved{}
	}
	b, err := os.ReadFile(unfinished.seg)
	must(t, err)
	for at := 0; at < len(b); at += 512 {
		if rnd.IntN(2) == 0 {
			copy(b[at:min(at+512, len(b))], acked[at:])
		}
	}
	must(t, os.WriteFile(unfinished.seg, b, 0o600))
	return all, unfinished
}

// damage does one of the things that disks do, somewhere, more often than not among the last writes.
func damage(rnd *rand.Rand, files map[string][]byte, all []saved) {
	k := len(all) - 1
	if rnd.IntN(3) == 0 {
		k = rnd.IntN(len(all))
	} else {
		k -= rnd.IntN(min(6, len(all)))
	}
	b := files[all[k].seg]
	at := int(all[k].at) + rnd.IntN(600)
	if rnd.IntN(3) == 0 { // exactly a record
		at = int(all[k].at)
		for range rnd.IntN(5) {
			if n, pad, ok := frameSize(b[at:]); ok && at+2*frameHead+int(n+pad) <= len(b) {
				at += frameHead + int(n+pad)
			}
		}
	}
	if rnd.IntN(10) == 0 {
		b = files[markName]
		at = rnd.IntN(2)*markSlot + rnd.IntN(2)*markCopy + rnd.IntN(markBytes)
	}
	at = min(at, len(b)-frameHead)
	switch rnd.IntN(5) {
	case 0:
		b[at] ^= 1 << rnd.IntN(8)
	case 1:
		clear(b[at : at+frameHead])
	case 2:
		at &^= 511
		clear(b[at:min(at+512, len(b))])
	case 3:
		for i := at; i < min(at+1+rnd.IntN(64), len(b)); i++ {
			b[i] = byte(rnd.Uint32())
		}
	case 4:
		copy(b[at:], b[at/2:][:frameHead])
	}
}

// TestG7_DamageAfterPowerCut: two to five damages at once after a power cut, which leaves the mark as old as it may be. No
// vote is lost without a word, and no entry either as long as the boundary of any later Save can be read: of the
// acknowledged Saves only the last can go, or several if everything that came after them went as well.
func TestG7_DamageAfterPowerCut(t *testing.T) {
	rnd := testseed.Rand(t)
	refused, whole, lost := 0, 0, 0
	for trial := 0; trial < *trialsFlag; {
		dir := filepath.Join(fastDir(t), "m")
		all, unfinished := history(t, dir, rnd, true)
		files := map[string][]byte{}
		for _, name := range append(segmentFiles(t, dir), filepath.Join(dir, markName)) {
			b, err := os.ReadFile(name)
			must(t, err)
			files[name] = b
		}
		for range 20 {
			trial++
			bad := map[string][]byte{}
			for name, b := range files {
				bad[name] = bytes.Clone(b)
			}
			bad[markName] = bad[filepath.Join(dir, markName)]
			for range 2 + rnd.IntN(4) {
				damage(rnd, bad, all)
			}
			delete(bad, markName)
			must(t, onDisk.clearUnfinished(filepath.Join(dir, walName)))
			for name, b := range bad {
				must(t, os.WriteFile(name, b, 0o600))
			}
			w, err := openBed(dir)
			if ce := (*CorruptError)(nil); errors.As(err, &ce) {
				refused++
				continue
			}
			must(t, err)
			n := len(all) - 1 // the last that is there
			err = all[n].model.check(w)
			for n > 0 && err != nil && !within(w, &all[n].model) {
				n--
			}
			if hs, _, _, _ := w.Recovered(); hs.GetTerm() != all[len(all)-1].model.hs.term || hs.GetVote() != all[len(all)-1].model.hs.vote {
				t.Fatalf("a vote was lost: %v, want %v", hs, all[len(all)-1].model.hs)
			}
			must(t, w.Close())
			if n == len(all)-1 {
				whole++
				continue
			}
			lost++
			later := all[n+2:]
			if unfinished.seg != "" && isWhole(files[unfinished.seg], unfinished.at) {
				later = append(later[:len(later):len(later)], unfinished)
			}
			for _, s := range later {
				if bytes.Equal(bad[s.seg][s.at:s.at+56], files[s.seg][s.at:s.at+56]) {
					t.Fatalf("Save %d of %d was lost without a word, although the boundary at %d can be read", n+1, len(all), s.at)
				}
			}
		}
		must(t, os.RemoveAll(dir))
	}
	t.Logf("%d refused, %d with everything there, %d without what came last", refused, whole, lost)
}

// isWhole tells whether a boundary is at off.
func isWhole(b []byte, off int64) bool {
	r := newFrameReader("", bytes.NewReader(b), off, int64(len(b)))
	rec, err := r.next()
	return err == nil && rec.typ == wal.CrcType
}

// within tells whether w holds at least what m says.
func within(w *WAL, m *model) bool {
	_, snap, ents, err := recovery(w)
	want := m.ents[snap.GetMetadata().GetIndex()-1:]
	return err == nil && len(ents) >= len(want) && sameEntries(ents[:len(want)], want) == nil
}

// TestG7_ZeroedLengthWord: after a power cut, with the mark as it was synced last, each length word in turn.
func TestG7_ZeroedLengthWord(t *testing.T) {
	rnd := testseed.Rand(t)
	for tried := 0; tried < 20; { // a history may have little in its last segment
		tried += zeroEachLengthWord(t, filepath.Join(fastDir(t), "m"), rnd)
	}
}

// zeroEachLengthWord does so in the last segment of a history, and returns how many there are.
func zeroEachLengthWord(t *testing.T, dir string, rnd *rand.Rand) (tried int) {
	all, _ := history(t, dir, rnd, false)
	files := tree(t, dir)
	tail := all[len(all)-1]
	content := []byte(files[tail.seg])
	for off := 0; off < int(tail.at); tried++ {
		n, pad, ok := frameSize(content[off:])
		if !ok {
			t.Fatal(off, tail.at)
		}
		bad := bytes.Clone(content)
		clear(bad[off : off+frameHead])
		must(t, os.WriteFile(tail.seg, bad, 0o600))
		if _, err := openBed(dir); !errors.As(err, new(*CorruptError)) {
			t.Fatalf("a length word at %d, before the last Save at %d: %v", off, tail.at, err)
		}
		off += frameHead + int(n+pad)
	}
	must(t, os.WriteFile(tail.seg, content, 0o600))
	w, err := openBed(dir)
	must(t, err)
	must(t, tail.model.check(w))
	must(t, w.Close())
	return tried
}

// TestG7_UnreadableSlot: of the mark's slots both have been written, so neither can be unreadable but by damage. A write
// that is torn damages one of its copies at most.
func TestG7_UnreadableSlot(t *testing.T) {
	b := newBed(t, false)
	for slot := range 2 {
		for copies := 1; copies < 4; copies++ {
			err := b.try(markName, fmt.Sprintf("slot %d, copies %b", slot, copies), func(c []byte) []byte {
				for k := range 2 {
					if copies&(1<<k) != 0 {
						c[slot*markSlot+k*markCopy+20] ^= 1
					}
				}
				return c
			})
			if (err != nil) != (copies == 3) {
				t.Errorf("slot %d, copies %b: %v", slot, copies, err)
			}
		}
	}
}

// TestG7_OldMark: a directory from before there were copies, boundaries and a second slot at the creation opens.
func TestG7_OldMark(t *testing.T) {
	dir := filepath.Join(fastDir(t), "m")
	w, err := openBed(dir)
	must(t, err)
	must(t, w.Save(hard(2, 1, 1), entries(2, 5, 2, 50)))
	must(t, w.Close())
	name := filepath.Join(dir, markName)
	b, err := os.ReadFile(name)
	must(t, err)
	clear(b[markBytes:markSlot])
	clear(b[markSlot+markBytes:])
	must(t, os.WriteFile(name, b, 0o600))
	w, err = openBed(dir)
	must(t, err)
	m := w.markStateLocked()
	must(t, w.Close())
	b = make([]byte, markSize)
	copy(b[markSlot:], m.encode(1, testID.Incarnation))
	must(t, os.WriteFile(name, b, 0o600))
	w, err = openBed(dir)
	must(t, err)
	must(t, w.Close())
	copy(b[markSlot:], m.encode(2, testID.Incarnation))
	must(t, os.WriteFile(name, b, 0o600))
	if _, err := openBed(dir); !errors.As(err, new(*CorruptError)) {
		t.Fatal(err)
	}
}

// TestBoundaryIsEtcds: etcd's own WAL reads what is written, boundaries included.
func TestBoundaryIsEtcds(t *testing.T) {
	dir := filepath.Join(fastDir(t), "m")
	all, _ := history(t, dir, testseed.Rand(t), false)
	l, err := wal.OpenForRead(nil, filepath.Join(dir, walName), &walpb.Snapshot{Index: new(uint64(1)), Term: new(uint64(1))})
	must(t, err)
	defer l.Close()
	meta, hs, ents, err := l.ReadAll()
	must(t, err)
	m := all[len(all)-1].model
	if id, ok := parseMetadata(meta); !ok || id != testID || hs.GetTerm() != m.hs.term || hs.GetVote() != m.hs.vote {
		t.Error(id, hs)
	}
	must(t, sameEntries(ents, m.ents))
}

// A boundary is believed only where it was written.
func TestFindBoundary(t *testing.T) {
	rnd := testseed.Rand(t)
	for range 200 {
		e := encoder{crc: rnd.Uint32() >> rnd.IntN(32)}
		e.b = make([]byte, 8*rnd.IntN(40<<10))
		at := int64(len(e.b))
		e.boundary(77, 5, at)
		e.b = append(e.b, make([]byte, 8*rnd.IntN(40<<10))...)
		find := func(off int64, incarnation, seq uint64) int64 {
			got, err := findBoundary(bytes.NewReader(e.b), off, int64(len(e.b)), incarnation, seq)
			must(t, err)
			return got
		}
		for _, off := range []int64{at - 8, at - at/2, 0} {
			if off < 0 || off == at {
				continue
			}
			if got := find(off, 77, 5); got != at {
				t.Fatalf("%d, want %d; searched from %d on", got, at, off)
			}
		}
		if find(at, 77, 5) != -1 || find(0, 78, 5) != -1 || find(0, 77, 6) != -1 {
			t.Fatal("found one that is not of this place")
		}
		e.b = append([]byte{0, 0, 0, 0, 0, 0, 0, 0}, e.b...)
		if find(0, 77, 5) != -1 {
			t.Fatal("found one that was copied")
		}
	}
}

// counted counts the bytes that are read of a file.
type counted struct {
	vfs.File
	read int
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(b, off)
	c.read += n
	return n, err
}

// TestBoundarySearchSkipsWhatWasReserved: to open a directory nobody reads what of a segment was reserved and never
// written, which is most of a new member's first one.
func TestBoundarySearchSkipsWhatWasReserved(t *testing.T) {
	const size = 64 << 20
	f, err := vfs.OS.OpenFile(filepath.Join(t.TempDir(), "segment"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	must(t, f.Reserve(size))
	_, err = f.WriteAt([]byte("some records"), 0)
	must(t, err)
	if from, _ := f.Data(size / 2); from >= 0 {
		t.Skip("this file system does not tell what was written")
	}
	c := &counted{File: f}
	at, err := findBoundary(c, 5, size, 1, 0)
	if err != nil || at >= 0 {
		t.Fatalf("found a boundary at %d, %v", at, err)
	}
	if c.read > size/16 {
		t.Errorf("read %d bytes to find that nothing was written", c.read)
	}
	e := encoder{}
	e.boundary(1, 0, size/2)
	_, err = f.WriteAt(e.b, size/2)
	must(t, err)
	if at, err = findBoundary(c, 5, size, 1, 0); err != nil || at != size/2 {
		t.Errorf("found the boundary at %d, %v, and it is at %d", at, err, size/2)
	}
}
