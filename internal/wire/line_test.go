package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// A gate is a stream that takes what is written to it, often only in part where it need not wait.
type gate struct {
	mu    sync.Mutex // guards everything below
	r     *rand.Rand
	in    []byte
	tried bool // somebody is writing
	err   error
}

func (g *gate) take(p []byte, most int) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	n := min(len(p), most)
	g.in = append(g.in, p[:n]...)
	return n, nil
}

func (g *gate) once(t func() (int, error)) (int, error) {
	g.mu.Lock()
	if g.tried {
		panic("two write at the same time")
	}
	g.tried = true
	g.mu.Unlock()
	defer func() { g.mu.Lock(); g.tried = false; g.mu.Unlock() }()
	return t()
}

func (g *gate) Write(p []byte) (int, error) {
	return g.once(func() (int, error) { return g.take(p, len(p)) })
}

func (g *gate) TryWrite(p []byte) (int, error) {
	g.mu.Lock()
	most := len(p) * g.r.IntN(3) / 2
	g.mu.Unlock()
	return g.once(func() (int, error) { return g.take(p, most) })
}

func (g *gate) Read([]byte) (int, error) { return 0, io.EOF }
func (g *gate) Close() error             { return nil }

// TestOutbox: whoever writes, and however much is taken at a time, all that is put arrives once, and in its order.
func TestOutbox(t *testing.T) {
	g := &gate{r: rand.New(rand.NewPCG(1, 2))}
	o := newOutbox(g, 1<<10)
	var running, putting sync.WaitGroup
	running.Go(func() {
		if err := o.run(); err != ErrLineLost {
			t.Error(err)
		}
	})
	const putters, each = 8, 2000
	for who := range putters {
		putting.Go(func() {
			for i := range each {
				o.awaitRoom()
				if !o.begin() {
					t.Error("it is over")
					return
				}
				o.b = binary.BigEndian.AppendUint64(o.b, uint64(who)<<32|uint64(i))
				o.end(i%2 == 0)
			}
		})
	}
	putting.Wait()
	for done := false; !done; { // until the last are written
		o.mu.Lock()
		if done = len(o.b)+len(o.rest) == 0 && !o.busy; !done && o.err == nil && o.busy {
			o.mu.Unlock()
			o.awaitRoom()
			continue
		}
		o.mu.Unlock()
	}
	o.fail(ErrLineLost)
	running.Wait()
	var next [putters]uint64
	for b := g.in; len(b) > 0; b = b[8:] {
		n := binary.BigEndian.Uint64(b)
		if who := n >> 32; n&(1<<32-1) != next[who] {
			t.Fatalf("of %d, %d comes where %d should", who, n&(1<<32-1), next[who])
		} else {
			next[who]++
		}
	}
	for who, n := range next {
		if n != each {
			t.Errorf("%d of %d came of %d", n, each, who)
		}
	}
	if o.begin() {
		t.Error("something can be put when it is over")
	}
}

// TestOutboxFails: who puts into what cannot be written, or waits for room in it, is not held up.
func TestOutboxFails(t *testing.T) {
	broken := errors.New("broken")
	o := newOutbox(&gate{err: broken, r: rand.New(rand.NewPCG(1, 2))}, 0)
	ended := make(chan error, 1)
	go func() { ended <- o.run() }()
	for o.begin() {
		o.b = append(o.b, 1)
		o.end(true)
	}
	o.awaitRoom()
	if err := <-ended; err != broken {
		t.Error(err)
	}
}
