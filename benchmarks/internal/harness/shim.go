package harness

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// A Shim stands before a member and delays every byte, in both directions, by the same time. It does not limit
// throughput: as many bytes may be under way as bound below, as on a long and wide wire.
type Shim struct {
	listener net.Listener
	target   string
	delay    time.Duration
	wg       sync.WaitGroup

	mu     sync.Mutex // guards what follows
	conns  map[net.Conn]struct{}
	closed bool
}

// bound is how many bytes may be under way in one direction of a connection.
const bound = 64 << 20

// NewShim listens on a free loopback port and forwards to the target.
func NewShim(target string, delay time.Duration) (*Shim, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Shim{listener: l, target: target, delay: delay, conns: map[net.Conn]struct{}{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is where the target is reached through the shim.
func (s *Shim) Addr() string { return s.listener.Addr().String() }

// Close cuts all connections and waits for the shim's goroutines.
func (s *Shim) Close() error {
	err := s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Shim) accept() {
	for {
		in, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		s.wg.Go(func() {
			defer in.Close()
			out, err := net.DialTimeout("tcp", s.target, time.Second)
			if err != nil {
				return
			}
			defer out.Close()
			if !s.keep(in, out) {
				return
			}
			defer s.forget(in, out)
			var both sync.WaitGroup
			both.Go(func() { s.pump(out, in) })
			both.Go(func() { s.pump(in, out) })
			both.Wait()
		})
	}
}

func (s *Shim) keep(conns ...net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		s.conns[c] = struct{}{}
	}
	return !s.closed
}

func (s *Shim) forget(conns ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		delete(s.conns, c)
	}
}

// A chunk is a piece of the stream on its way; nil data is its end.
type chunk struct {
	data []byte
	due  time.Time
}

var chunks = sync.Pool{New: func() any { return new(make([]byte, 64<<10)) }}

// pump moves bytes from src to dst, each after the delay.
func (s *Shim) pump(dst, src net.Conn) {
	var (
		mu    sync.Mutex
		more  = sync.NewCond(&mu)
		queue []chunk
		size  int
		dead  bool
	)
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			buf := *chunks.Get().(*[]byte)
			n, err := src.Read(buf)
			mu.Lock()
			if n > 0 {
				queue = append(queue, chunk{buf[:n], time.Now().Add(s.delay)})
				size += n
			}
			if err != nil {
				queue = append(queue, chunk{nil, time.Now().Add(s.delay)})
			}
			more.Broadcast()
			for size > bound && !dead {
				more.Wait()
			}
			stop := err != nil || dead
			mu.Unlock()
			if stop {
				return
			}
		}
	})
	for {
		mu.Lock()
		for len(queue) == 0 {
			more.Wait()
		}
		c := queue[0]
		queue[0], queue = chunk{}, queue[1:]
		size -= len(c.data)
		more.Broadcast()
		mu.Unlock()
		if wait := time.Until(c.due); wait > 0 {
			time.Sleep(wait)
		}
		var err error = io.EOF
		if c.data != nil {
			_, err = dst.Write(c.data)
			chunks.Put(new(c.data[:cap(c.data)]))
		}
		if err != nil {
			break
		}
	}
	// The end of one direction ends the connection: none of the systems closes halves.
	dst.Close()
	src.Close()
	mu.Lock()
	dead = true
	more.Broadcast()
	mu.Unlock()
	reader.Wait()
}

// Shims puts a shim before each address if o asks for it. Others is how the members are reached from outside.
func (o Options) Shims(addrs []string) (others []string, shims []*Shim, err error) {
	if !o.Shim {
		return addrs, nil, nil
	}
	for _, a := range addrs {
		s, err := NewShim(a, o.Delay)
		if err != nil {
			CloseShims(shims)
			return nil, nil, err
		}
		others, shims = append(others, s.Addr()), append(shims, s)
	}
	return others, shims, nil
}

// CloseShims closes all of them.
func CloseShims(shims []*Shim) {
	for _, s := range shims {
		s.Close()
	}
}
