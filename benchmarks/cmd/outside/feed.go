package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/ha"
)

// A feed gives the records that a member applies to whoever connects, over plain TCP and in pieces of feedBeat: what tails must cost at the least.
// It has no checksums, no flow control but TCP's, and no way to begin anywhere but now.
type feed struct {
	l    net.Listener
	wg   sync.WaitGroup
	on   atomic.Bool
	stop chan struct{}

	mu    sync.Mutex // guards everything below
	conns []net.Conn
	b     []byte
}

// feedBeat is about how long baton lets what ten tails are to be given gather.
const feedBeat = 5 * time.Millisecond

func newFeed(addr string) (*feed, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	f := &feed{l: l, stop: make(chan struct{})}
	f.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			if !f.on.Swap(true) {
				f.wg.Go(f.run)
			}
		}
	})
	return f, nil
}

// apply takes what was applied, if somebody is there.
func (f *feed) apply(entries []ha.Entry) {
	if !f.on.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		f.b = append(binary.BigEndian.AppendUint32(f.b, uint32(len(e.Data))), e.Data...)
	}
}

// run writes what has gathered to all.
func (f *feed) run() {
	beat := time.NewTicker(feedBeat)
	defer beat.Stop()
	var b []byte
	for {
		select {
		case <-beat.C:
		case <-f.stop:
			return
		}
		f.mu.Lock()
		b, f.b = f.b, b[:0]
		f.mu.Unlock()
		if len(b) == 0 {
			continue
		}
		f.mu.Lock()
		f.conns = slices.DeleteFunc(f.conns, func(c net.Conn) bool { _, err := c.Write(b); return err != nil })
		f.mu.Unlock()
	}
}

func (f *feed) close() {
	close(f.stop)
	_ = f.l.Close()
	f.mu.Lock()
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// readFeed reads the feed of a member until ctx ends.
func readFeed(ctx context.Context, addr string, read *atomic.Uint64) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	r := bufio.NewReaderSize(conn, 64<<10)
	for n := uint64(1); ; n++ {
		head, err := r.Peek(4)
		if err == nil {
			_, err = r.Discard(4 + int(binary.BigEndian.Uint32(head)))
		}
		if n%1024 == 0 {
			read.Add(1024)
		}
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
