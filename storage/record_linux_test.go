package storage

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/internal/vfs"
)

const sector = 512 // what a disk writes wholly or not at all

// A recording is what was done to a directory, in order, and what it held before.
type recording struct {
	root  string // what happens elsewhere is not recorded
	begin image
	ops   []fileOp

	mu     sync.Mutex
	known  *progress // what was acknowledged and what is under way
	inodes map[uint64]int
	files  int
}

// A fileOp is a change with names relative to the root, and files by number.
type fileOp struct {
	change
	id    int
	known *progress
}

// An image is what is in a directory: names of directories (id 0) and files, and the contents of these.
type image struct {
	names map[string]int
	files map[int][]byte
}

func (d image) clone() image {
	c := image{names: map[string]int{}, files: map[int][]byte{}}
	for name, id := range d.names {
		c.names[name] = id
	}
	for id, b := range d.files {
		c.files[id] = b // replaced, never changed
	}
	return c
}

// write puts the directory at root.
func (d image) write(t *testing.T, root string) {
	t.Helper()
	var names []string
	for name := range d.names {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(root, name)
		if id := d.names[name]; id == 0 {
			must(t, os.MkdirAll(path, 0o700))
		} else {
			must(t, os.WriteFile(path, d.files[id], 0o600))
		}
	}
}

func inode(f vfs.File) uint64 {
	fi, err := f.Stat()
	if err != nil {
		panic(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

// startRecording records what happens under root until the function that it returns is called.
func startRecording(t *testing.T, root string) (*recording, func()) {
	r := &recording{root: root, begin: image{names: map[string]int{".": 0}, files: map[int][]byte{}}, inodes: map[uint64]int{}}
	must(t, filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if r.begin.names[rel] = 0; e.IsDir() {
			return nil
		}
		f, err := onDisk.open(path)
		must(t, err)
		defer f.Close()
		r.begin.names[rel] = r.file(inode(f))
		b, err := os.ReadFile(path)
		r.begin.files[r.begin.names[rel]] = b
		return err
	}))
	fn := r.record
	recorder.Store(&fn)
	return r, func() { recorder.Store(nil) }
}

// file returns the number of a file that is new.
func (r *recording) file(inode uint64) int {
	r.files++
	r.inodes[inode] = r.files
	return r.files
}

func (r *recording) rel(path string) string {
	rel, err := filepath.Rel(r.root, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return ""
	}
	return rel
}

// record makes a change, alone, and remembers it.
func (r *recording) record(c change, fn func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	op := fileOp{change: c, known: r.known}
	before := map[string]bool{}
	if c.op == opCreate {
		names, _ := os.ReadDir(filepath.Dir(c.path))
		if fi, err := os.Stat(c.path); err == nil && fi.IsDir() {
			names, _ = os.ReadDir(c.path) // a name is to be found
		}
		for _, e := range names {
			before[e.Name()] = true
		}
	}
	if err := fn(); err != nil {
		return err
	}
	op.data = slices.Clone(c.data)
	switch {
	case c.op == opCreate:
		dir := filepath.Dir(c.path)
		if fi, err := os.Stat(c.path); err == nil && fi.IsDir() {
			dir = c.path
		}
		names, _ := os.ReadDir(dir)
		for _, e := range names {
			if before[e.Name()] {
				continue
			}
			op.path = filepath.Join(dir, e.Name())
			f, err := onDisk.open(op.path)
			if err != nil {
				return err
			}
			op.id = r.file(inode(f))
			f.Close()
		}
		if op.id == 0 {
			return nil // it was there
		}
	case c.file != nil:
		if op.id = r.inodes[inode(c.file)]; op.id == 0 {
			return fmt.Errorf("%s is changed, and was never made", c.file.Name())
		}
		op.file = nil
	}
	if op.path != "" {
		if op.path = r.rel(op.path); op.path == "" {
			return nil
		}
	}
	if op.to != "" {
		op.to = r.rel(op.to)
	}
	r.ops = append(r.ops, op)
	return nil
}

// set says what is acknowledged and what is under way from now on.
func (r *recording) set(p *progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = p
}

// A replay goes through a recording. It knows what is durable, and what is not yet.
type replay struct {
	names   []fileOp         // of directories, not known to be durable, in order
	durable []bool           // of names: certainly, all the same
	base    image            // what is durable
	dirty   map[int][]fileOp // of files: changes since they were synced
}

func newReplay(r *recording) *replay {
	return &replay{base: r.begin.clone(), dirty: map[int][]fileOp{}}
}

// next takes a change that is complete.
func (p *replay) next(op fileOp) {
	switch op.op {
	case opCreate, opMkdir, opRename, opRemove:
		p.names, p.durable = append(p.names, op), append(p.durable, false)
		if op.op == opCreate {
			p.base.files[op.id] = nil
		}
	case opSyncDir:
		for i, n := range p.names {
			p.durable[i] = p.durable[i] || filepath.Dir(n.path) == op.path
		}
		for len(p.names) > 0 && p.durable[0] {
			p.base.apply(p.names[0])
			p.names, p.durable = p.names[1:], p.durable[1:]
		}
	case opWriteSynced:
		// Older changes that are not synced yet stay so; this one does not depend on them.
		p.base.files[op.id] = written(p.base.files[op.id], op, nil)
		p.dirty[op.id] = append(p.dirty[op.id], op)
	case opSync:
		for _, d := range p.dirty[op.id] {
			p.base.files[op.id] = written(p.base.files[op.id], d, nil)
		}
		delete(p.dirty, op.id)
	default:
		p.dirty[op.id] = append(p.dirty[op.id], op)
	}
}

// apply makes a change of names, if it can be made.
func (d image) apply(op fileOp) {
	parent := func(path string) bool {
		id, ok := d.names[filepath.Dir(path)]
		return ok && id == 0
	}
	switch id, ok := d.names[op.path]; {
	case op.op == opCreate && parent(op.path):
		d.names[op.path] = op.id
	case op.op == opMkdir && parent(op.path):
		d.names[op.path] = 0
	case op.op == opRemove:
		delete(d.names, op.path)
	case op.op == opRename && ok:
		delete(d.names, op.path)
		d.names[op.to] = id
	}
}

// written returns a file after a change, of whose sectors only those are written that keep says, nil for all.
func written(b []byte, op fileOp, keep func() bool) []byte {
	grow := func(size int64) []byte {
		return append(slices.Clone(b), make([]byte, max(0, size-int64(len(b))))...)
	}
	switch op.op {
	case opReserve:
		return grow(op.off)
	case opTruncate:
		return grow(op.off)[:op.off]
	}
	end := op.off + int64(len(op.data))
	out := grow(end)
	for at := op.off; at < end; {
		next := min(end, at/sector*sector+sector)
		if keep == nil || keep() {
			copy(out[at:next], op.data[at-op.off:])
		}
		at = next
	}
	return out
}

// crash returns what the disk may hold when the power is cut while op is under way. ordered: changes of names reach the disk
// in order, as they do where a journal holds them.
func (p *replay) crash(rnd *rand.Rand, op fileOp, ordered bool) image {
	q := &replay{base: p.base.clone(), names: slices.Clip(p.names), durable: slices.Clip(p.durable), dirty: map[int][]fileOp{}}
	for id, ops := range p.dirty {
		q.dirty[id] = ops
	}
	switch op.op {
	case opSync, opSyncDir: // nothing of it, or some of what was not synced
	case opWriteSynced:
		op.op = opWrite
		q.next(op)
	default:
		q.next(op)
	}
	likely := rnd.IntN(5) // of 4: that a change reaches the disk
	keep := func() bool { return rnd.IntN(4) < likely }
	d := q.base
	cut := len(q.names)
	if ordered {
		first := 0
		for i := range q.names {
			if q.durable[i] {
				first = i + 1
			}
		}
		cut = first + rnd.IntN(len(q.names)-first+1)
	}
	for i, n := range q.names {
		if q.durable[i] || ordered && i < cut || !ordered && keep() {
			d.apply(n)
		}
	}
	for id, ops := range q.dirty {
		for _, o := range ops {
			switch {
			case o.op == opWriteSynced:
				d.files[id] = written(d.files[id], o, nil)
			case o.op == opWrite:
				d.files[id] = written(d.files[id], o, keep)
			case keep():
				d.files[id] = written(d.files[id], o, nil)
			}
		}
	}
	return d
}
