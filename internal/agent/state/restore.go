//go:build linux

package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// restoreInto makes of a directory what files says, and leaves what is so already. It never follows a symbolic link out of it, and may be broken off
// anywhere: the next one ends it. Nothing is synced: the log is, and after a power cut this is done again.
func restoreInto(ctx context.Context, root *os.Root, files tree) error {
	if err := clearDir(ctx, root, ".", files); err != nil {
		return err
	}
	order := slices.Sorted(maps.Keys(files))
	for _, p := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := files[p]
		var err error
		if n.mode.IsDir() {
			err = makeDir(root, p)
		} else {
			err = makeFile(root, p, n)
		}
		if err != nil {
			return fmt.Errorf("restore %s: %w", p, err)
		}
	}
	for _, p := range slices.Backward(order) { // a directory that nobody may write to is filled before
		if n := files[p]; n.mode.IsDir() {
			if err := root.Chmod(p, n.mode&^fs.ModeDir); err != nil {
				return err
			}
		}
	}
	return nil
}

// clearDir removes what is not in files.
func clearDir(ctx context.Context, root *os.Root, dir string, files tree) error {
	if dir != "." {
		if err := root.Chmod(dir, 0o700); err != nil { // so that one who is not root may look into it
			return err
		}
	}
	list, err := fs.ReadDir(root.FS(), dir)
	if err != nil {
		return err
	}
	for _, d := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := path.Join(dir, d.Name())
		n := files[p]
		switch {
		case n != nil && n.mode.IsDir() && d.IsDir():
			err = clearDir(ctx, root, p, files)
		case n == nil || n.mode.IsDir() || !d.Type().IsRegular():
			err = root.RemoveAll(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func makeDir(root *os.Root, p string) error {
	err := root.Mkdir(p, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil // clearDir has seen that it is one
	}
	return err
}

func makeFile(root *os.Root, p string, n *node) error {
	if !holds(root, p, n) {
		if err := root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		file, err := root.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		for i := 0; i < len(n.pieces) && err == nil; i++ {
			_, err = file.Write(n.piece(i))
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return root.Chmod(p, n.mode)
}

// holds reports whether a file has its content already.
func holds(root *os.Root, p string, n *node) bool {
	file, err := root.OpenFile(p, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	if s, err := stampFile(file); err != nil || s.size != n.size {
		return false
	}
	return readPieces(file, n.size, func(i int, data []byte) error {
		if !bytes.Equal(data, n.piece(i)) {
			return errChanged
		}
		return nil
	}) == nil
}
