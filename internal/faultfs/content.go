package faultfs

import "slices"

// blockSize is the unit in which space is given out, and in which contents share memory.
const blockSize = 4096

// content is what is in a file. Blocks are replaced, never changed, so that contents may share them.
type content struct {
	size     int64
	blocks   []*[blockSize]byte // nil: never written
	reserved int                // so many blocks have space, written or not
}

func (c content) clone() content {
	c.blocks = slices.Clone(c.blocks)
	return c
}

// resize makes the file so large; what it gains is zero.
func (c *content) resize(size int64) {
	n := int((size + blockSize - 1) / blockSize)
	if n < len(c.blocks) {
		c.blocks, c.reserved = c.blocks[:n:n], min(c.reserved, n)
	} else {
		c.blocks = append(c.blocks, make([]*[blockSize]byte, n-len(c.blocks))...)
	}
	if rest := size % blockSize; size < c.size && rest > 0 && c.blocks[n-1] != nil {
		b := *c.blocks[n-1]
		clear(b[rest:])
		c.blocks[n-1] = &b
	}
	c.size = size
}

// write puts b at off. The file grows as needed.
func (c *content) write(b []byte, off int64) {
	if end := off + int64(len(b)); end > c.size {
		c.resize(end)
	}
	for len(b) > 0 {
		i, at := int(off/blockSize), off%blockSize
		var block [blockSize]byte
		if c.blocks[i] != nil {
			block = *c.blocks[i]
		}
		n := copy(block[at:], b)
		c.blocks[i] = &block
		b, off = b[n:], off+int64(n)
	}
}

// read reads what is at off, and returns how much there is.
func (c *content) read(b []byte, off int64) int {
	b = b[:max(0, min(int64(len(b)), c.size-off))]
	for rest := b; len(rest) > 0; {
		at := off % blockSize
		n := min(len(rest), int(blockSize-at))
		if block := c.blocks[off/blockSize]; block != nil {
			copy(rest[:n], block[at:])
		} else {
			clear(rest[:n])
		}
		rest, off = rest[n:], off+int64(n)
	}
	return len(b)
}

// data returns the first range of blocks, at or behind off, that were written; -1 if none was.
func (c *content) data(off int64) (from, to int64) {
	i := off / blockSize
	for i < int64(len(c.blocks)) && c.blocks[i] == nil {
		i++
	}
	if from = max(off, i*blockSize); from >= c.size {
		return -1, -1
	}
	for i < int64(len(c.blocks)) && c.blocks[i] != nil {
		i++
	}
	return from, min(i*blockSize, c.size)
}

// space returns how many bytes of the disk the file takes.
func (c *content) space() int64 {
	n := c.reserved
	for _, b := range c.blocks[c.reserved:] {
		if b != nil {
			n++
		}
	}
	return int64(n) * blockSize
}

// missing returns how many bytes a write of n bytes at off would take of the disk.
func (c *content) missing(n int, off int64) (space int64) {
	for i := off / blockSize; i*blockSize < off+int64(n); i++ {
		if i >= int64(len(c.blocks)) || int(i) >= c.reserved && c.blocks[i] == nil {
			space += blockSize
		}
	}
	return space
}

// edit is a change of a content.
type edit struct {
	kind   Kind // OpWrite, OpTruncate or OpReserve
	off    int64
	data   []byte
	synced bool // durable already: it is here because of older ones that are not
	lost   bool // a sync of it has failed: it becomes durable by no other one
}

// apply makes an edit. Of a write each piece of so many bytes is made only if keep says so, and so is the growth of the file
// without them; keep may be nil.
func (c *content) apply(e edit, sector int64, keep func() bool) {
	switch e.kind {
	case OpTruncate:
		c.resize(e.off)
	case OpReserve:
		if c.size < e.off {
			c.resize(e.off)
		}
		c.reserved = max(c.reserved, int((e.off+blockSize-1)/blockSize))
	default:
		if keep == nil {
			c.write(e.data, e.off)
			return
		}
		end := e.off + int64(len(e.data))
		if c.size < end && keep() {
			c.resize(end)
		}
		for at := e.off; at < end; {
			next := min(end, at/sector*sector+sector)
			if keep() {
				c.write(e.data[at-e.off:next-e.off], at)
			}
			at = next
		}
	}
}
