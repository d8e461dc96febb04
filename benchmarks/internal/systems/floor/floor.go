// Package floor measures what disk and network can do when nothing else is done.
package floor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
)

// Files writes each batch of payloads to a number of files at once, syncs them with fdatasync, and answers when all
// are synced. The files have been written before and are overwritten in a circle, as a preallocated log is.
type Files struct {
	*harness.Gatherer
	files []*os.File
	at    int64
}

const fileBytes = 64 << 20

// NewFiles makes n files.
func NewFiles(o harness.Options, n int) (*Files, error) {
	f := new(Files)
	zero := make([]byte, 1<<20)
	for i := range n {
		file, err := os.Create(filepath.Join(o.Dir, fmt.Sprint("file", i)))
		if err != nil {
			return nil, err
		}
		f.files = append(f.files, file)
		for range fileBytes / len(zero) {
			if _, err := file.Write(zero); err != nil {
				return nil, err
			}
		}
		if err := file.Sync(); err != nil {
			return nil, err
		}
	}
	f.Gatherer = harness.NewGatherer(f.commit)
	return f, nil
}

func (f *Files) commit(batch []byte) error {
	if f.at+int64(len(batch)) > fileBytes {
		f.at = 0
	}
	write := func(file *os.File) error {
		if _, err := file.WriteAt(batch, f.at); err != nil {
			return err
		}
		return syscall.Fdatasync(int(file.Fd()))
	}
	errs := make([]error, len(f.files))
	var others sync.WaitGroup
	for i := 1; i < len(f.files); i++ {
		others.Go(func() { errs[i] = write(f.files[i]) })
	}
	errs[0] = write(f.files[0])
	others.Wait()
	f.at += int64(len(batch))
	return errors.Join(errs...)
}

// Name implements [harness.System].
func (f *Files) Name() string { return fmt.Sprintf("floor-fdatasync-%d", len(f.files)) }

// Close implements [harness.System].
func (f *Files) Close() error {
	f.Gatherer.Close()
	var errs []error
	for _, file := range f.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// WAL appends each batch of payloads as one entry to one WAL of etcd: what a cluster of one member can be at best.
type WAL struct {
	*harness.Gatherer
	wal *wal.WAL
	hs  raftpb.HardState
}

// NewWAL makes one.
func NewWAL(o harness.Options) (*WAL, error) {
	w, err := wal.Create(zap.NewNop(), filepath.Join(o.Dir, "wal"), nil)
	if err != nil {
		return nil, err
	}
	f := &WAL{wal: w, hs: raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: new(uint64(0))}}
	f.Gatherer = harness.NewGatherer(f.commit)
	return f, nil
}

func (w *WAL) commit(batch []byte) error {
	index := w.hs.GetCommit() + 1
	err := w.wal.Save(&w.hs, []*raftpb.Entry{{Term: new(uint64(1)), Index: new(index), Type: new(raftpb.EntryNormal), Data: batch}})
	w.hs.Commit = new(index)
	return err
}

// Name implements [harness.System].
func (w *WAL) Name() string { return "floor-etcd-wal" }

// Close implements [harness.System].
func (w *WAL) Close() error {
	w.Gatherer.Close()
	return w.wal.Close()
}

// PingPong sends a payload over loopback and waits until it comes back, each writer on a connection of its own.
type PingPong struct {
	listener net.Listener
	wg       sync.WaitGroup
	idle     chan *conn // more than there are writers
}

type conn struct {
	net.Conn
	buf []byte
}

// NewPingPong starts the other side.
func NewPingPong() (*PingPong, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &PingPong{listener: l, idle: make(chan *conn, 1<<16)}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return p, nil
}

// Name implements [harness.System].
func (p *PingPong) Name() string { return "floor-pingpong" }

// Append implements [harness.System].
func (p *PingPong) Append(ctx context.Context, payload []byte) error {
	var c *conn
	select {
	case c = <-p.idle:
	default:
		n, err := net.Dial("tcp", p.listener.Addr().String())
		if err != nil {
			return err
		}
		c = &conn{n, make([]byte, len(payload))}
	}
	defer func() { p.idle <- c }()
	if _, err := c.Write(payload); err != nil {
		return err
	}
	_, err := io.ReadFull(c, c.buf[:len(payload)])
	return err
}

// Close implements [harness.System].
func (p *PingPong) Close() error {
	err := p.listener.Close()
	for {
		select {
		case c := <-p.idle:
			c.Close()
			continue
		default:
		}
		break
	}
	p.wg.Wait()
	return err
}
