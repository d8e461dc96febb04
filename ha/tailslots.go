package ha

import (
	"fmt"
	"net"
	"slices"
	"sync"

	"github.com/baton-ha/baton/transport"
)

// The tails that a member serves are few enough for its memory, and anybody may want all of them. Who asks while there is room is given a place. When there is
// none, who comes takes one from whoever has most, if he has so much less that he still has no more than that one afterwards: hosts are compared first, and then
// the sessions of one. So one client cannot keep the others out, neither with one session nor with many, and nobody is bounded as long as
// nobody else wants anything. Who has lost a place is told that this member is busy, and asks another one. What a client calls itself proves nothing, so it is not asked.

// tailSlots are the places of tails.
type tailSlots struct {
	most int

	mu   sync.Mutex // guards what follows
	open []*tail    // in the order in which they came
	read int        // readers of them
}

// size is how many tails there are.
func (s *tailSlots) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// readers is how many read them.
func (s *tailSlots) readers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

// take gives a tail a place, or says why there is none.
func (s *tailSlots) take(t *tail) error {
	lost, err := s.place(t)
	if lost != nil {
		lost.st.Reset(transport.StreamBusy, "this member gives the place of this reader to another client")
	}
	return err
}

// place is take, which returns who has lost his place.
func (s *tailSlots) place(t *tail) (lost *tail, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.most {
		if lost = s.loserLocked(t); lost == nil {
			return nil, &transport.StreamError{Code: transport.StreamBusy, Text: fmt.Sprintf("this member serves %d readers", s.most)}
		}
		s.removeLocked(lost)
	}
	s.open = append(s.open, t)
	s.read += t.readers
	return lost, nil
}

// give takes a tail's place from it, if it has one.
func (s *tailSlots) give(t *tail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(t)
}

func (s *tailSlots) removeLocked(t *tail) {
	if i := slices.Index(s.open, t); i >= 0 {
		s.open = slices.Delete(s.open, i, i+1)
		s.read -= t.readers
	}
}

// loserLocked is who must give way to a tail: the newest of the session that has most, of the host that has most. nil: nobody.
func (s *tailSlots) loserLocked(t *tail) *tail {
	hosts, sessions := map[string]int{}, map[string]int{}
	most := t.host
	for _, o := range s.open {
		hosts[o.host]++
		sessions[o.session]++
	}
	for host, n := range hosts {
		if n > hosts[t.host]+1 && n > hosts[most] {
			most = host
		}
	}
	var lost *tail
	for _, o := range s.open {
		if o.host == most && (lost == nil || sessions[o.session] >= sessions[lost.session]) {
			lost = o
		}
	}
	if most == t.host && (lost == nil || sessions[lost.session] <= sessions[t.session]+1) {
		return nil
	}
	return lost
}

// hostOf is the host of a connection's address, all of it where it has none.
func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
