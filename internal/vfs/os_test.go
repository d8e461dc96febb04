package vfs

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestReadBlocks: what a system call brings is put together until all is there, an error comes, or the end.
func TestReadBlocks(t *testing.T) {
	t.Parallel()
	errDisk := errors.New("disk")
	content := make([]byte, 9*blockSize+100)
	for i := range content {
		content[i] = byte(1 + i/blockSize)
	}
	for _, c := range []struct {
		name      string
		off, size int
		most      int // blocks that a call brings
		bad       int // the first block that cannot be read; 0: there is none
		want      int
		err       error
	}{
		{"whole", 1, 8, 8, 0, 8 * blockSize, nil},
		{"in pieces", 0, 8, 3, 0, 8 * blockSize, nil},
		{"one by one", 0, 9, 1, 0, 9 * blockSize, nil},
		{"over the end", 5, 8, 8, 0, 4*blockSize + 100, io.EOF},
		{"over the end in pieces", 5, 8, 1, 0, 4*blockSize + 100, io.EOF},
		{"behind the end", 20, 1, 8, 0, 0, io.EOF},
		{"over what is bad", 1, 8, 8, 4, 3 * blockSize, errDisk},
		{"what is bad", 4, 8, 8, 4, 0, errDisk},
		{"nothing", 1, 0, 8, 0, 0, nil},
	} {
		calls := 0
		read := func(b []byte, off int64) (int, error) {
			if calls++; calls > c.size+1 {
				t.Fatalf("%s: it goes on for ever", c.name)
			}
			from, most := min(off, int64(len(content))), int64(len(content))
			if c.bad > 0 {
				if most = int64(c.bad) * blockSize; from >= most {
					return 0, errDisk
				}
			}
			return copy(b, content[from:min(most, from+int64(c.most)*blockSize)]), nil
		}
		b := make([]byte, c.size*blockSize)
		n, err := readBlocks(b, int64(c.off)*blockSize, read)
		if n != c.want || err != c.err {
			t.Errorf("%s: %d bytes, %v", c.name, n, err)
		} else if n > 0 && !bytes.Equal(b[:n], content[c.off*blockSize:][:n]) {
			t.Errorf("%s: something else was read", c.name)
		}
	}
}
