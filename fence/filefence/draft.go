package filefence

import (
	"bufio"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/baton-ha/baton/fence"
)

const draftPrefix = "new-"

// draftName has the epoch in it, so that newer ones can remove what a dead writer has left.
func draftName(epoch uint64, id string) string {
	return fmt.Sprintf("%s%020d-%s", draftPrefix, epoch, id)
}

// A pending is a version that is written and looks for its number.
type pending struct {
	head
	name       string
	hasContent bool
	files      files
	file       draft
}

// newPending writes the content, if it is not nil, behind room for the head.
func (c *chain) newPending(t fence.Token, content io.Reader) (*pending, error) {
	d := &pending{head: head{token: t, id: newID(), before: noID, contentID: noID}, hasContent: content != nil, files: c.files}
	d.name = draftName(t.Epoch, d.id)
	var err error
	if d.file, err = c.files.create(d.name); err != nil || content == nil {
		return d, err
	}
	sum := crc32.New(castagnoli)
	w := bufio.NewWriter(d.file) // large pieces go past it
	_, _ = w.Write(d.line())     // shorter than its buffer
	if d.size, err = io.Copy(io.MultiWriter(w, sum), content); err == nil {
		err = w.Flush()
	}
	if err != nil {
		d.discard()
		return nil, err
	}
	d.sum = sum.Sum32()
	return d, nil
}

// follow makes the draft durable as the one behind a version.
func (d *pending) follow(at head) error {
	d.number, d.before = at.number+1, noID
	if at.number > 0 {
		d.before, d.content, d.contentID = at.id, at.content, at.contentID
	}
	if d.hasContent {
		d.content, d.contentID = d.number, d.id
	}
	_, err := d.file.WriteAt(d.line(), 0)
	if err == nil {
		err = d.file.Sync()
	}
	return err
}

// discard removes the draft's own name. Nothing depends on it.
func (d *pending) discard() {
	_ = d.file.Close()
	_ = d.files.remove(d.name)
}
