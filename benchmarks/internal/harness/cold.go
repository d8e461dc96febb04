package harness

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cold drops what the page cache holds of the files in a directory, as far as nobody has them mapped.
func Cold(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// A Peak is the most memory that this process has had resident, looked at every 50 ms, in bytes. Each look takes 0.7 ms of a
// processor where much is mapped.
type Peak struct {
	most atomic.Int64
	stop chan struct{}
	done chan struct{}
}

// WatchMemory begins to watch.
func WatchMemory() *Peak {
	p := &Peak{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			p.most.Store(max(p.most.Load(), resident()))
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	}()
	return p
}

// Next returns the peak since the last call.
func (p *Peak) Next() int64 { return p.most.Swap(resident()) }

// Stop ends it.
func (p *Peak) Stop() {
	close(p.stop)
	<-p.done
}

// resident is the resident memory that is this process's own: mapped files, which the page cache can take back, are not.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			kib, _ := strconv.ParseInt(strings.Fields(string(rest))[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// copyPiece is what CopyFloor reads, sends and syncs at a time.
const copyPiece = 1 << 20

// CopyFloor is what one core and the disk give: bytes of a cold file in one directory are read, summed, sent over loopback, summed there
// again, and written to a file in another one, which may be the same, and synced, piece by piece. It returns bytes per second, and those of reading the file
// and nothing else.
func CopyFloor(from, to string, size int64) (copied, read float64, err error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	source := filepath.Join(from, "source")
	defer os.Remove(source)
	f, err := os.Create(source)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	piece := Payload(copyPiece)
	for n := int64(0); n < size; n += copyPiece {
		if _, err := f.Write(piece); err != nil {
			return 0, 0, err
		}
	}
	if err := Cold(from); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	for n := int64(0); n < size; n += copyPiece {
		if _, err := f.ReadAt(piece, n); err != nil {
			return 0, 0, err
		}
	}
	read = float64(size) / time.Since(began).Seconds()
	if err := Cold(from); err != nil {
		return 0, 0, err
	}
	began = time.Now()
	if err := copyOver(f, filepath.Join(to, "target"), size); err != nil {
		return 0, 0, err
	}
	return float64(size) / time.Since(began).Seconds(), read, nil
}

func copyOver(f *os.File, target string, size int64) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	table := crc32.MakeTable(crc32.Castagnoli)
	sent := make(chan error, 1)
	go func() {
		sent <- func() error {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			b, sum := make([]byte, copyPiece), uint32(0)
			for n := int64(0); n < size; n += copyPiece {
				if _, err := f.ReadAt(b, n); err != nil {
					return err
				}
				sum = crc32.Update(sum, table, b)
				if _, err := c.Write(b); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	to, err := os.Create(target)
	if err != nil {
		return err
	}
	defer os.Remove(target)
	defer to.Close()
	b, sum := make([]byte, copyPiece), uint32(0)
	for n := int64(0); n < size; n += copyPiece {
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		sum = crc32.Update(sum, table, b)
		if _, err := to.Write(b); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(to.Fd())); err != nil {
			return err
		}
	}
	return <-sent
}
