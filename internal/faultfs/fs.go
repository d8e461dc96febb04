// Package faultfs is a file system in memory for tests. It keeps the promises of package vfs and no others, so that it
// fails, fills up, stalls, tears and forgets wherever a real one may, on demand:
//
//   - [FS.Inject] is asked before each call and may have it fail, with a part of it done; wait; or be forgotten, that is succeed
//     without effect where it should make something durable.
//   - [FS.SetCapacity] bounds the space.
//   - [FS.Crash] gives the file system as it may be after a power cut, [FS.Kill] as it is after the death of the process.
//     [Op.Crash] and [Op.Kill] do so in the middle of a call.
//
// The file system itself goes on after each of them: one run of a workload gives as many states as wanted.
//
// Source: the strict memory file system of CockroachDB's pebble/vfs, and ALICE (Pillai et al., OSDI 2014) for which states a crash may leave.
package faultfs

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/baton-ha/baton/internal/vfs"
)

// An FS is a file system with nothing in it but its root. All methods may be called concurrently.
type FS struct {
	mu       sync.Mutex // guards everything in here, the nodes included
	root     *node
	inject   func(*Op) Fault
	inodes   uint64
	changes  int // of names, so far
	synced   int // the last of them that is durable
	used     int64
	capacity int64
	buffered bool
}

// New returns a file system without a bound.
func New() *FS {
	s := &FS{}
	s.root = s.newNode(true)
	return s
}

// node is a file or a directory.
type node struct {
	inode  uint64
	locked bool
	opened int
	gone   bool // it has no name any more

	// Of a file: what is read from it, what is durable, and what leads from there to here, in order.
	now, stable content
	edits       []edit

	// Of a directory, likewise. nil in a file.
	names, stableNames map[string]*node
	moves              []move
}

// move is a change of a name in a directory.
type move struct {
	n        int    // it was the n-th
	from, to string // "" is no name: something is made or removed
	node     *node
}

func (m move) apply(names map[string]*node) {
	if m.from != "" {
		delete(names, m.from)
	}
	if m.to != "" {
		names[m.to] = m.node
	}
}

func (s *FS) newNode(dir bool) *node {
	s.inodes++
	n := &node{inode: s.inodes}
	if dir {
		n.names, n.stableNames = map[string]*node{}, map[string]*node{}
	}
	return n
}

// SetCapacity bounds the space of all files together to so many bytes; 0 is no bound.
func (s *FS) SetCapacity(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.capacity = bytes
}

// Used returns how many bytes of space the files take.
func (s *FS) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// NoDirect makes it a file system without vfs.Direct, as ramfs is one.
func (s *FS) NoDirect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buffered = true
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// walk returns the directory that a name is in, and what has the name, nil if nothing has.
func (s *FS) walk(name string) (dir *node, base string, n *node, err error) {
	name = filepath.Clean(name)
	if name == "/" {
		return nil, "", s.root, nil
	}
	if !filepath.IsAbs(name) {
		return nil, "", nil, syscall.EINVAL
	}
	n = s.root
	for part := range strings.SplitSeq(name[1:], "/") {
		switch {
		case n == nil:
			return nil, "", nil, syscall.ENOENT
		case n.names == nil:
			return nil, "", nil, syscall.ENOTDIR
		}
		dir, base, n = n, part, n.names[part]
	}
	return dir, base, n, nil
}

// find returns what has a name.
func (s *FS) find(name string) (*node, error) {
	_, _, n, err := s.walk(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	return n, err
}

// move makes a change of names.
func (s *FS) move(dir *node, m move) {
	if m.to != "" && dir.names[m.to] != nil {
		s.drop(dir.names[m.to])
	}
	if m.to == "" {
		s.drop(m.node)
	}
	s.changes++
	m.n = s.changes
	m.apply(dir.names)
	dir.moves = append(dir.moves, m)
}

// drop frees the space of a file that has no name any more, once nobody has it open.
func (s *FS) drop(n *node) {
	n.gone = true
	if n.opened == 0 {
		s.used -= n.now.space()
	}
}

// OpenFile implements [vfs.FS]. Permissions are not looked at.
func (s *FS) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.openLocked(name, flag)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return f, nil
}

func (s *FS) openLocked(name string, flag int) (*file, error) {
	if s.buffered && flag&vfs.Direct != 0 {
		return nil, syscall.EINVAL
	}
	dir, base, n, err := s.walk(name)
	if err != nil {
		return nil, err
	}
	op := &Op{Kind: OpOpen, Name: name}
	if n == nil {
		if flag&os.O_CREATE == 0 {
			return nil, syscall.ENOENT
		}
		op.Kind = OpCreate
	}
	if fault := s.ask(op); fault.Err != nil {
		return nil, fault.Err
	}
	write := flag&(os.O_RDWR|os.O_WRONLY) != 0
	switch {
	case n == nil:
		n = s.newNode(false)
		s.move(dir, move{to: base, node: n})
	case flag&os.O_EXCL != 0:
		return nil, syscall.EEXIST
	case n.names != nil && write:
		return nil, syscall.EISDIR
	}
	n.opened++
	return &file{fs: s, node: n, name: name, write: write, direct: flag&vfs.Direct != 0, dsync: flag&vfs.Dsync != 0}, nil
}

// Lock implements [vfs.FS].
func (s *FS) Lock(name string) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.openLocked(name, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	if f.node.locked {
		f.node.opened--
		return nil, vfs.ErrLocked
	}
	f.node.locked, f.locks = true, true
	return f, nil
}

// Mkdir implements [vfs.FS].
func (s *FS) Mkdir(name string, _ fs.FileMode) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, base, n, err := s.walk(name)
	if err == nil && n != nil {
		err = syscall.EEXIST
	}
	if err == nil {
		err = s.ask(&Op{Kind: OpMkdir, Name: name}).Err
	}
	if err == nil {
		s.move(dir, move{to: base, node: s.newNode(true)})
	}
	return pathError("mkdir", name, err)
}

// Rename implements [vfs.FS], for files within a directory.
func (s *FS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, base, n, err := s.walk(from)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	var toDir, old *node
	var toBase string
	if err == nil {
		toDir, toBase, old, err = s.walk(to)
	}
	switch {
	case err != nil:
	case toDir != dir:
		err = syscall.EXDEV
	case n.names != nil || old != nil && old.names != nil:
		err = syscall.EISDIR
	default:
		err = s.ask(&Op{Kind: OpRename, Name: from, To: to}).Err
	}
	if err == nil && n != old {
		s.move(dir, move{from: base, to: toBase, node: n})
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// Remove implements [vfs.FS].
func (s *FS) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir, base, n, err := s.walk(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case len(n.names) > 0 || n == s.root:
		err = syscall.ENOTEMPTY
	default:
		err = s.ask(&Op{Kind: OpRemove, Name: name}).Err
	}
	if err == nil {
		s.move(dir, move{from: base, node: n})
	}
	return pathError("remove", name, err)
}

// ReadDir implements [vfs.FS].
func (s *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(name)
	if err == nil && n.names == nil {
		err = syscall.ENOTDIR
	}
	if err == nil {
		err = s.ask(&Op{Kind: OpRead, Name: name}).Err
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	var out []fs.DirEntry
	for base, n := range n.names {
		out = append(out, fs.FileInfoToDirEntry(infoOf(base, n)))
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return out, nil
}

// Stat implements [vfs.FS].
func (s *FS) Stat(name string) (fs.FileInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return infoOf(filepath.Base(name), n), nil
}

// SameFile implements [vfs.FS].
func (s *FS) SameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

// Free implements [vfs.FS].
func (s *FS) Free(string) (int64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, s.capacity-s.used), s.capacity > 0
}

type info struct {
	name  string
	size  int64
	dir   bool
	inode uint64
}

func infoOf(name string, n *node) info {
	return info{name: name, size: n.now.size, dir: n.names != nil, inode: n.inode}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return i.inode }
func (i info) ModTime() time.Time { return time.Time{} }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
