package faultfs

import (
	"bytes"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"unsafe"
)

// file implements [vfs.File].
type file struct {
	fs                   *FS
	node                 *node
	name                 string
	write, direct, dsync bool
	locks, closed        bool
}

// check locks the file system, unless the file cannot be used.
func (f *file) check(op string) error {
	f.fs.mu.Lock()
	if f.closed {
		f.fs.mu.Unlock()
		return pathError(op, f.name, fs.ErrClosed)
	}
	return nil
}

// aligned tells whether the kernel would take this read or write of a file opened with Direct.
func (f *file) aligned(b []byte, off int64) bool {
	return !f.direct || (uintptr(unsafe.Pointer(unsafe.SliceData(b)))|uintptr(len(b))|uintptr(off))%blockSize == 0
}

// Name implements [vfs.File].
func (f *file) Name() string { return f.name }

// Stat implements [vfs.File].
func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.check("stat"); err != nil {
		return nil, err
	}
	defer f.fs.mu.Unlock()
	return infoOf(filepath.Base(f.name), f.node), nil
}

// ReadAt implements [vfs.File].
func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if err := f.check("read"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	switch {
	case f.node.names != nil:
		return 0, pathError("read", f.name, syscall.EISDIR)
	case !f.aligned(b, off):
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	if fault := f.fs.ask(&Op{Kind: OpRead, Name: f.name, Off: off, Size: int64(len(b))}); fault.Err != nil {
		return 0, pathError("read", f.name, fault.Err)
	}
	n := f.node.now.read(b, off)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Ahead implements [vfs.File]. Nothing is read earlier here.
func (f *file) Ahead(off, size int64) {}

// Data implements [vfs.File].
func (f *file) Data(off int64) (from, to int64) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.node.now.data(off)
}

// WriteAt implements [vfs.File].
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	if err := f.check("write"); err != nil {
		return 0, err
	}
	defer f.fs.mu.Unlock()
	switch {
	case !f.write:
		return 0, pathError("write", f.name, syscall.EBADF)
	case !f.aligned(b, off):
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	e := edit{kind: OpWrite, off: off, data: b}
	op := &Op{Kind: OpWrite, Name: f.name, Off: off, Size: int64(len(b)), Dsync: f.dsync, node: f.node, edit: &e}
	fault := f.fs.ask(op)
	n, err := len(b), fault.Err
	if err != nil {
		n = min(n, fault.Written)
	}
	if fits := f.fs.fits(&f.node.now, n, off); fits < n {
		n, err = fits, syscall.ENOSPC
	}
	e.data = bytes.Clone(b[:n])
	e.synced = f.dsync && err == nil && !fault.Forget
	e.lost = f.dsync && err != nil
	f.fs.edit(f.node, e)
	return n, pathError("write", f.name, err)
}

// fits returns how many bytes of a write there is space for.
func (s *FS) fits(c *content, n int, off int64) int {
	for s.capacity > 0 && n > 0 && s.used+c.missing(n, off) > s.capacity && c.missing(n, off) > 0 {
		n = int(max(0, (off+int64(n)-1)/blockSize*blockSize-off))
	}
	return n
}

// edit changes what is in a file.
func (s *FS) edit(n *node, e edit) {
	before := n.now.space()
	n.now.apply(e, 0, nil)
	s.used += n.now.space() - before
	if e.synced {
		n.stable.apply(e, 0, nil)
	}
	if !e.synced || len(n.edits) > 0 {
		n.edits = append(n.edits, e)
	}
}

// Truncate implements [vfs.File].
func (f *file) Truncate(size int64) error {
	if err := f.check("truncate"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if !f.write {
		return pathError("truncate", f.name, syscall.EBADF)
	}
	err := f.fs.ask(&Op{Kind: OpTruncate, Name: f.name, Size: size}).Err
	if err == nil {
		f.fs.edit(f.node, edit{kind: OpTruncate, off: size})
	}
	return pathError("truncate", f.name, err)
}

// Reserve implements [vfs.File].
func (f *file) Reserve(size int64) error {
	if err := f.check("fallocate"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	if !f.write {
		return pathError("fallocate", f.name, syscall.EBADF)
	}
	err := f.fs.ask(&Op{Kind: OpReserve, Name: f.name, Size: size}).Err
	if err == nil && f.fs.capacity > 0 && f.fs.used+f.node.now.missing(int(size), 0) > f.fs.capacity {
		err = syscall.ENOSPC
	}
	if err == nil {
		f.fs.edit(f.node, edit{kind: OpReserve, off: size})
	}
	return pathError("fallocate", f.name, err)
}

// Datasync implements [vfs.File].
func (f *file) Datasync() error { return f.Sync() }

// Sync implements [vfs.File].
func (f *file) Sync() error {
	if err := f.check("sync"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	n, kind := f.node, OpSync
	if n.names != nil {
		kind = OpSyncDir
	}
	fault := f.fs.ask(&Op{Kind: kind, Name: f.name})
	switch {
	case fault.Forget && fault.Err == nil:
	case n.names != nil && fault.Err == nil:
		f.fs.syncNames(n)
	case n.names == nil:
		n.sync(fault.Err == nil)
	}
	return pathError("sync", f.name, fault.Err)
}

func (s *FS) syncNames(n *node) {
	for _, m := range n.moves {
		m.apply(n.stableNames)
		s.synced = max(s.synced, m.n)
	}
	n.moves = nil
}

// sync makes the edits durable that are not lost, or loses them.
func (n *node) sync(ok bool) {
	for i := range n.edits {
		switch e := &n.edits[i]; {
		case e.synced || e.lost:
		case ok:
			e.synced = true
			n.stable.apply(*e, 0, nil)
		default:
			e.lost = true
		}
	}
	durable := 0
	for durable < len(n.edits) && n.edits[durable].synced {
		durable++
	}
	n.edits = slices.Delete(n.edits, 0, durable)
}

// Close implements [vfs.File].
func (f *file) Close() error {
	if err := f.check("close"); err != nil {
		return err
	}
	defer f.fs.mu.Unlock()
	f.closed = true
	if f.locks {
		f.node.locked = false
	}
	if f.node.opened--; f.node.opened == 0 && f.node.gone {
		f.fs.used -= f.node.now.space()
	}
	return nil
}
