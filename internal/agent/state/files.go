//go:build linux

package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// An Appender is what the state needs of an [ha.Node].
type Appender interface {
	AppendBatch(ctx context.Context, t fence.Token, records ...[]byte) (ha.Result, error)
	Check(t fence.Token) error
}

// ErrTooLarge is returned when the state would be larger than its bound. Nothing has changed.
var ErrTooLarge = errors.New("the state is too large")

// errChanged means that a file has changed while it was read.
var errChanged = errors.New("it changes while it is committed: nothing may write to it from a commit on until its answer")

// Files replicates a directory, for the time of one role. Its methods may be called by any goroutine; one works at a time.
type Files struct {
	Node    Appender
	Token   fence.Token
	Machine *Machine
	Dir     string // the directory
	Mark    string // a file that says that the directory is the state's
	Max     int64  // bytes of all files, and 64 besides for each

	mu sync.Mutex // held while a method works
}

// Begin makes the directory what was committed last, whatever is in it. Where nothing ever was, what is in it is the first commit. It
// refuses a directory with something in it that it has never made, nor committed from.
func (f *Files) Begin(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	files, committed := f.Machine.filesNow()
	switch known, err := os.ReadFile(f.Mark); {
	case committed == 0:
		if _, err := f.commit(ctx, true); err != nil {
			return err
		}
		return f.mark()
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case string(known) != f.Dir+"\n":
		if err := f.foreign(ctx, root, files); err != nil {
			return err
		}
		if err := f.mark(); err != nil {
			return err
		}
	}
	return restoreInto(ctx, root, files)
}

// foreign returns an error if a directory has something in it, and something else than the files.
func (f *Files) foreign(ctx context.Context, root *os.Root, files tree) error {
	list, err := fs.ReadDir(root.FS(), ".")
	if err != nil || len(list) == 0 {
		return err
	}
	b := &batch{emit: func(change) error { return nil }}
	if err := f.scan(ctx, root, files, b); err != nil || !b.empty() {
		return errors.Join(fmt.Errorf("%s has something in it that is not the cluster's state: move it away", f.Dir), err)
	}
	return nil
}

func (f *Files) mark() error { return os.WriteFile(f.Mark, []byte(f.Dir+"\n"), 0o644) }

// Commit commits what is in the directory, as one: every member has all of it, or what was committed before. Nothing should write
// to it meanwhile; what is seen to change is tried again twice. It returns the index of the record that has committed it: an earlier one if nothing has changed.
//
// Errors: [ErrTooLarge]; those of the file system, and that something in it is neither file nor directory (sockets, pipes and devices
// are left out); and those of [ha.Node.AppendBatch]. After [ha.ErrUnknown] it may have been committed, or not.
func (f *Files) Commit(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for try := 1; ; try++ {
		index, err := f.commit(ctx, false)
		if !errors.Is(err, errChanged) || try == 3 {
			return index, err
		}
	}
}

// commit commits once; always, if it must, or else where something has changed.
func (f *Files) commit(ctx context.Context, must bool) (uint64, error) {
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	files, committed := f.Machine.filesNow()
	b := &batch{emit: func(c change) error {
		data, err := c.encode()
		if err != nil {
			return err
		}
		r, err := f.Node.AppendBatch(ctx, f.Token, data)
		committed = r.Index
		return err
	}}
	if err := f.scan(ctx, root, files, b); err != nil {
		return 0, err
	}
	if must || !b.empty() {
		err = b.end()
	} else { // that it is what was committed last is for the Active alone to say
		err = f.Node.Check(f.Token)
	}
	if err != nil {
		return 0, err
	}
	return committed, nil
}

// scan puts into b what makes of files what is in a directory. It reads everything: the times of a file do not tell what was written to it
// through a mapping.
func (f *Files) scan(ctx context.Context, root *os.Root, files tree, b *batch) error {
	there := map[string]fs.FileInfo{}
	var bytes int64
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case info.Mode()&fs.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link: only files and directories are replicated", p)
		case !info.IsDir() && !info.Mode().IsRegular():
			return nil
		}
		there[p] = info
		if bytes += int64(len(p)) + overhead; !info.IsDir() {
			bytes += info.Size()
		}
		return ctx.Err()
	})
	if errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	if err != nil {
		return err
	}
	if bytes > f.Max {
		return fmt.Errorf("%w: %d bytes in %d files and directories, of at most %d", ErrTooLarge, bytes, len(there), f.Max)
	}
	for _, p := range slices.Sorted(maps.Keys(files)) { // a directory comes before what is in it
		if now := there[p]; files[path.Dir(p)] != nil && there[path.Dir(p)] == nil {
			continue // gone with its directory
		} else if now == nil || now.IsDir() != files[p].mode.IsDir() {
			if err := b.add(op{Path: p, What: remove}); err != nil {
				return err
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(there)) {
		was := files[p]
		if was != nil && was.mode.IsDir() != there[p].IsDir() {
			was = nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := look(root, p, there[p], was, b); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// look puts into b what has changed in one file or directory.
func look(root *os.Root, p string, info fs.FileInfo, was *node, b *batch) error {
	mode := info.Mode() & modes
	if info.IsDir() {
		if was != nil && was.mode == mode {
			return nil
		}
		return b.add(op{Path: p, What: put, Mode: uint32(mode)})
	}
	file, err := root.OpenFile(p, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		return errChanged
	}
	if err != nil {
		return err
	}
	defer file.Close()
	before, err := stampFile(file)
	if err != nil {
		return err
	}
	if before.size != info.Size() {
		return errChanged
	}
	if was == nil || was.mode != mode || was.size != before.size {
		if err := b.add(op{Path: p, What: put, Mode: uint32(mode), Size: before.size}); err != nil {
			return err
		}
	}
	if err := readPieces(file, before.size, func(i int, data []byte) error {
		if bytes.Equal(data, was.piece(i)) || was.piece(i) == nil && bytes.Equal(data, zeros[:len(data)]) {
			return nil
		}
		return b.add(op{Path: p, What: write, At: int64(i) * pieceSize, Data: bytes.Clone(data)})
	}); err != nil {
		return err
	}
	if after, err := stampFile(file); err != nil || after != before {
		return errors.Join(errChanged, err)
	}
	return nil
}

// A stamp is what often tells that a file was written to.
type stamp struct {
	size         int64
	mtime, ctime unix.Timespec
}

func stampFile(file *os.File) (stamp, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &s); err != nil {
		return stamp{}, err
	}
	return stamp{s.Size, s.Mtim, s.Ctim}, nil
}

// readPieces reads a file in pieces. The data is good until do returns.
func readPieces(file io.Reader, size int64, do func(i int, data []byte) error) error {
	buffer := make([]byte, min(size, pieceSize))
	for i := 0; size > 0; i++ {
		data := buffer[:min(size, pieceSize)]
		size -= int64(len(data))
		_, err := io.ReadFull(file, data)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errChanged
		}
		if err == nil {
			err = do(i, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A batch makes changes of ops, none of which is a large record.
type batch struct {
	emit  func(change) error
	ops   []op
	bytes int
	begun bool
}

const batchBytes = 1 << 20

func (b *batch) add(o op) error {
	size := len(o.Path) + len(o.Data) + overhead
	if b.bytes+size > batchBytes {
		if err := b.flush(false); err != nil {
			return err
		}
	}
	b.ops, b.bytes = append(b.ops, o), b.bytes+size
	return nil
}

func (b *batch) empty() bool { return !b.begun && len(b.ops) == 0 }

func (b *batch) end() error { return b.flush(true) }

func (b *batch) flush(last bool) error {
	c := change{First: !b.begun, Last: last, Ops: b.ops}
	b.ops, b.bytes, b.begun = nil, 0, true
	return b.emit(c)
}
