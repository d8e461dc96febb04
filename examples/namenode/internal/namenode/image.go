package namenode

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// The fsimage is the state as it is in checkpoints, and on its way to members that have fallen behind: lines of JSON, of which the first
// says what follows, and each other one is a file.

type imageHead struct {
	Image int    `json:"fsimage"` // the version of the form: 1
	Next  uint64 `json:"next"`
	Index uint64 `json:"index"`
	Files int    `json:"files"`
}

// An image is a copy of the state, made while Answer waits, and written while it goes on.
type image struct {
	head  imageHead
	files []file
}

// Snapshot implements [ha.StateMachine].
func (n *Namespace) Snapshot() (io.WriterTo, error) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	im := &image{head: imageHead{Image: 1, Next: n.next, Index: n.index, Files: len(n.files)}}
	for _, f := range n.sorted() {
		c := *f
		c.Blocks = slices.Clone(f.Blocks) // Pipeline is never changed, but replaced
		im.files = append(im.files, c)
	}
	return im, nil
}

// WriteTo implements [io.WriterTo].
func (im *image) WriteTo(w io.Writer) (int64, error) {
	counted := &counter{w: w}
	out := bufio.NewWriter(counted)
	enc := json.NewEncoder(out)
	err := enc.Encode(im.head)
	for i := 0; i < len(im.files) && err == nil; i++ {
		err = enc.Encode(&im.files[i])
	}
	if err == nil {
		err = out.Flush()
	}
	return counted.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Restore implements [ha.StateMachine].
func (n *Namespace) Restore(r io.Reader) error {
	fresh, err := readImage(r)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.files, n.dirs, n.owner, n.next, n.index = fresh.files, fresh.dirs, fresh.owner, fresh.next, fresh.index
	return nil
}

// Verify implements [ha.Verifier]: no image comes into force that could not be read.
func (n *Namespace) Verify(r io.Reader) error {
	_, err := readImage(r)
	return err
}

func readImage(r io.Reader) (*Namespace, error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	var head imageHead
	if err := dec.Decode(&head); err != nil {
		return nil, fmt.Errorf("fsimage: %w", err)
	}
	if head.Image != 1 {
		return nil, fmt.Errorf("fsimage: version %d", head.Image)
	}
	n := NewNamespace()
	n.next, n.index = head.Next, head.Index
	for i := range head.Files {
		f := new(file)
		if err := dec.Decode(f); err != nil {
			return nil, fmt.Errorf("fsimage: file %d of %d: %w", i+1, head.Files, err)
		}
		n.put(f)
	}
	if dec.More() {
		return nil, fmt.Errorf("fsimage: more than %d files", head.Files)
	}
	return n, nil
}
