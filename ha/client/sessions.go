package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/baton-ha/baton/internal/session"
)

// A place is where a member may be.
type place struct {
	addr string
	name string // of the member that must be there; empty: whoever is
}

func (p place) String() string {
	if p.name == "" {
		return p.addr
	}
	return p.name + " at " + p.addr
}

// sessions are the connections with members, one for each address. All streams with a member share one.
type sessions struct {
	client *session.Client
	life   context.Context // ends with Close; dials outlive whoever has asked for them

	wg sync.WaitGroup
	mu sync.Mutex          // guards of, and wg.Add against Wait
	of map[string]*dialled // by address
}

// dialled is a connection, or the attempt to make one, for which any number may wait.
type dialled struct {
	done chan struct{} // closed when m or err is set
	m    *session.Mux
	err  error
}

// over says that nobody can have anything of it any more.
func (d *dialled) over() bool {
	select {
	case <-d.done:
		return d.err != nil || !d.m.Alive()
	default:
		return false
	}
}

// alive reports whether there is a session with whoever is at an address.
func (s *sessions) alive(addr string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.of[addr]
	if d == nil {
		return false
	}
	select {
	case <-d.done:
		return !d.over()
	default:
		return false
	}
}

// get returns the session with whoever is at a place, and connects to it where that is needed. One that fails is tried again by
// who asks next.
func (s *sessions) get(ctx context.Context, at place) (*session.Mux, error) {
	s.mu.Lock()
	d := s.of[at.addr]
	if d == nil || d.over() {
		if s.life.Err() != nil {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		old := d
		d = &dialled{done: make(chan struct{})}
		s.of[at.addr] = d
		s.wg.Go(func() {
			old.close()
			defer close(d.done)
			d.m, d.err = s.client.Dial(s.life, at.addr, "")
		})
	}
	s.mu.Unlock()
	select {
	case <-d.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if d.err == nil && at.name != "" && d.m.Peer().Name != at.name {
		return nil, fmt.Errorf("%v: %s answers there", at, d.m.Peer().Name)
	}
	return d.m, d.err
}

// close ends a session, if there is one.
func (d *dialled) close() {
	if d == nil {
		return
	}
	<-d.done
	if d.m != nil {
		_ = d.m.Close()
	}
}

// open opens a stream of a kind with whoever is at a place.
func (s *sessions) open(ctx context.Context, at place, kind string) (*session.Stream, error) {
	for again := true; ; again = false {
		m, err := s.get(ctx, at)
		if err != nil {
			return nil, err
		}
		st, err := m.Open(ctx, kind)
		if errors.Is(err, session.ErrLost) && again {
			continue // it has ended since somebody looked
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", at, err)
		}
		return st, nil
	}
}

// keep closes the sessions with all other addresses.
func (s *sessions) keep(addrs map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, d := range s.of {
		if !addrs[addr] && s.life.Err() == nil {
			delete(s.of, addr)
			s.wg.Go(d.close)
		}
	}
}

// close ends all of them. life has ended before.
func (s *sessions) close() {
	s.mu.Lock()
	all := s.of
	s.of = nil
	s.mu.Unlock()
	for _, d := range all {
		d.close()
	}
	s.wg.Wait()
}
