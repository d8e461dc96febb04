//go:build linux

package state

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"strings"
)

const (
	pieceSize = 64 << 10
	maxSize   = 16 << 30 // of a file
	modes     = fs.ModeDir | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
)

// A tree is what is in a directory, by path. One that is in force is never changed.
type tree map[string]*node

// A node is a file or a directory. It is never changed.
type node struct {
	mode   fs.FileMode // none but modes
	size   int64       // of a file
	pieces [][]byte    // of a file: pieceSize bytes each, but for the last; nil are zeros
}

// piece returns a piece of a file's content, nil where there is none.
func (n *node) piece(i int) []byte {
	if n == nil || i >= len(n.pieces) {
		return nil
	}
	if n.pieces[i] == nil {
		return zeros[:n.pieceLen(i)]
	}
	return n.pieces[i]
}

func (n *node) pieceLen(i int) int64 { return min(pieceSize, n.size-int64(i)*pieceSize) }

var zeros [pieceSize]byte

// with returns the tree after some changes. An error means that they are not of this tree.
func (t tree) with(ops []op) (tree, error) {
	next := maps.Clone(t)
	if next == nil {
		next = tree{}
	}
	for _, o := range ops {
		if err := next.change(t, o); err != nil {
			return nil, fmt.Errorf("%q: %w", o.Path, err)
		}
	}
	for p := range next {
		if up := path.Dir(p); up != "." && (next[up] == nil || !next[up].mode.IsDir()) {
			return nil, fmt.Errorf("%q is in no directory", p)
		}
	}
	return next, nil
}

// change changes t, a tree that is not in force yet. What it shares with old is copied before.
func (t tree) change(old tree, o op) error {
	if !local(o.Path) {
		return fmt.Errorf("is no path in a directory")
	}
	n := t[o.Path]
	switch mode := fs.FileMode(o.Mode); o.What {
	case put:
		if mode&^modes != 0 || o.Size < 0 || o.Size > maxSize || mode.IsDir() && o.Size != 0 {
			return fmt.Errorf("mode %v and size %d", mode, o.Size)
		}
		next := &node{mode: mode, size: o.Size}
		if !mode.IsDir() {
			next.pieces = make([][]byte, (o.Size+pieceSize-1)/pieceSize)
			for i := range next.pieces { // a piece that is cut, or grows, is a copy
				if was := n.piece(i); int64(len(was)) == next.pieceLen(i) {
					next.pieces[i] = n.pieces[i]
				} else if was != nil {
					next.pieces[i] = make([]byte, next.pieceLen(i))
					copy(next.pieces[i], was)
				}
			}
		}
		t[o.Path] = next
	case write:
		i := int(o.At / pieceSize)
		if n == nil || n.mode.IsDir() || o.At < 0 || o.At%pieceSize != 0 || i >= len(n.pieces) || int64(len(o.Data)) != n.pieceLen(i) {
			return fmt.Errorf("has no %d bytes at %d", len(o.Data), o.At)
		}
		if n == old[o.Path] {
			n = &node{mode: n.mode, size: n.size, pieces: append([][]byte(nil), n.pieces...)}
			t[o.Path] = n
		}
		n.pieces[i] = o.Data
	case remove:
		delete(t, o.Path)
		if n != nil && n.mode.IsDir() {
			maps.DeleteFunc(t, func(p string, _ *node) bool { return strings.HasPrefix(p, o.Path+"/") })
		}
	default:
		return fmt.Errorf("operation %d", o.What)
	}
	return nil
}

// local reports whether a name leads to something in a directory, and is its only name.
func local(name string) bool {
	return name != "." && filepath.IsLocal(name) && path.Clean(name) == name && !strings.ContainsRune(name, 0)
}
