package dfs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Writer writes a file, which it holds a lease on: nobody else can meanwhile. It is for one goroutine. Where a writer dies, the
// Active takes the file from it when the lease is over, and keeps all that was flushed.
type Writer struct {
	c      *Client
	ctx    context.Context // of Create: a Writer is one operation, which begins there
	path   string
	holder string
	stop   func() // ends the renewal of the lease

	full   *Block   // the block before, which the Active does not know to be complete
	block  *Located // the one that is written; nil: there is none
	was    uint64   // its generation that the Active knows
	at     int64    // bytes of it that are acknowledged
	sum    uint32   // their checksum
	avoid  []string // DataNodes that have failed
	packet []byte   // not sent
	err    error    // the first
}

// Create begins a file. ctx is that of all that the Writer does.
func (c *Client) Create(ctx context.Context, path string, replication int) (*Writer, error) {
	w := &Writer{c: c, ctx: ctx, path: path, holder: rand.Text()}
	a, err := c.call(ctx, Request{Op: Create, Path: path, Holder: w.holder, Replication: replication})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { w.renew(ctx, a.Lease/3) })
	w.stop = func() { cancel(); renewal.Wait() }
	return w, nil
}

// renew keeps the lease. A renewal that fails is one that comes late: an edit says if the lease was lost.
func (w *Writer) renew(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_, _ = w.c.call(ctx, Request{Op: Renew, Holder: w.holder})
		case <-ctx.Done():
			return
		}
	}
}

func (w *Writer) packetSize() int {
	if w.c.PacketSize == 0 {
		return 256 << 10
	}
	return min(w.c.PacketSize, MaxPacket)
}

func (w *Writer) blockSize() int64 {
	if w.c.BlockSize == 0 {
		return 8 << 20
	}
	return min(w.c.BlockSize, MaxBlock)
}

// Write implements [io.Writer]. What it has taken is at the DataNodes only after Flush or Close.
func (w *Writer) Write(b []byte) (n int, err error) {
	for len(b) > 0 && w.err == nil {
		room := min(int64(w.packetSize()-len(w.packet)), w.blockSize()-w.at-int64(len(w.packet)))
		part := b[:min(int64(len(b)), room)]
		w.packet = append(w.packet, part...)
		b = b[len(part):]
		n += len(part)
		switch {
		case w.at+int64(len(w.packet)) == w.blockSize():
			w.err = w.finish()
		case len(w.packet) == w.packetSize():
			w.err = w.send(false, false)
		}
	}
	return n, w.err
}

// Flush returns when all that was written is on the disks of all DataNodes of the pipeline. It stays then, also if the writer dies: it is
// HDFS's hsync.
func (w *Writer) Flush() error {
	if w.err == nil && (len(w.packet) > 0 || w.block != nil) {
		w.err = w.send(false, true)
	}
	return w.err
}

// Close completes the file. It is there, whole, when Close returns nil.
func (w *Writer) Close() error {
	defer w.stop()
	if w.err == nil && (len(w.packet) > 0 || w.block != nil) {
		w.err = w.finish()
	}
	if w.err == nil {
		if _, w.err = w.c.call(w.ctx, Request{Op: Complete, Path: w.path, Holder: w.holder, Block: w.full}); w.err == nil {
			w.err = errClosed
			return nil
		}
	}
	return w.err
}

var errClosed = errors.New("the file is closed")

// finish sends what is left of the block.
func (w *Writer) finish() error {
	if err := w.send(true, true); err != nil {
		return err
	}
	w.full = &Block{ID: w.block.ID, Gen: w.block.Gen, Len: w.at, Sum: w.sum}
	w.block, w.at, w.sum = nil, 0, 0
	return nil
}

// send sends the packet, and goes on without DataNodes that fail.
func (w *Writer) send(last, sync bool) error {
	for {
		if w.block == nil {
			if err := w.add(); err != nil {
				return err
			}
		}
		err := w.catchUp()
		if err == nil {
			sum := Sum(w.sum, w.packet)
			err = w.transmit(&Packet{At: w.at, Data: w.packet, Last: last, Sum: sum, Sync: sync})
			if err == nil {
				w.at, w.sum, w.packet = w.at+int64(len(w.packet)), sum, w.packet[:0]
				return nil
			}
		}
		var failed *PipelineError
		if !errors.As(err, &failed) || w.ctx.Err() != nil {
			return err
		}
		if err := w.without(failed); err != nil {
			return err
		}
	}
}

func (w *Writer) transmit(p *Packet) error {
	p.ID, p.Gen = w.block.ID, w.block.Gen
	pipeline := make([]string, len(w.block.Nodes))
	for i, n := range w.block.Nodes {
		pipeline[i] = n.Addr
	}
	return Send(w.ctx, p, pipeline)
}

// add begins a block.
func (w *Writer) add() error {
	a, err := w.c.call(w.ctx, Request{Op: Add, Path: w.path, Holder: w.holder, Block: w.full, Avoid: w.avoid})
	if err != nil {
		return err
	}
	w.full, w.block, w.was = nil, a.Block, a.Block.Gen
	return nil
}

// catchUp brings the DataNodes that are left to the new generation, and then lets the Active know: from then on the replicas of those
// that have failed do not count.
func (w *Writer) catchUp() error {
	if w.was == w.block.Gen {
		return nil
	}
	if err := w.transmit(&Packet{Was: w.was, At: w.at, Sync: true}); err != nil {
		return err
	}
	if _, err := w.c.call(w.ctx, Request{
		Op: Pipeline, Path: w.path, Holder: w.holder, Block: &w.block.Block, Nodes: names(w.block.Nodes),
	}); err != nil {
		return err
	}
	w.was = w.block.Gen
	return nil
}

// without takes a DataNode that has failed out of the pipeline. The others go on in a new generation. Where there are none, a block
// that has no byte yet is given up for another.
func (w *Writer) without(failed *PipelineError) error {
	i := slices.IndexFunc(w.block.Nodes, func(n Node) bool { return n.Addr == failed.Addr })
	if i < 0 {
		return failed
	}
	w.avoid = append(w.avoid, w.block.Nodes[i].Name)
	w.block.Nodes = slices.Delete(w.block.Nodes, i, i+1)
	if len(w.block.Nodes) > 0 {
		a, err := w.c.call(w.ctx, Request{Op: Generation, Path: w.path, Holder: w.holder})
		if err == nil {
			w.block.Gen = a.Block.Gen
		}
		return err
	}
	if w.at > 0 {
		return fmt.Errorf("write %s: all DataNodes of the pipeline have failed: %w", w.path, failed)
	}
	if err := pause(w.ctx); err != nil { // until it is noticed that they are gone
		return err
	}
	if _, err := w.c.call(w.ctx, Request{Op: Abandon, Path: w.path, Holder: w.holder}); err != nil {
		return err
	}
	w.block = nil
	return nil
}

func names(nodes []Node) []string {
	list := make([]string, len(nodes))
	for i, n := range nodes {
		list[i] = n.Name
	}
	return list
}
