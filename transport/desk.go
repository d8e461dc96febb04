package transport

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/session"
)

// decodedBytes is about what a control message takes in memory besides its bytes on the wire.
const decodedBytes = 256

// desk hands the control messages of one connection to their groups, so that a group whose Receive blocks holds up nobody's
// but its own: what comes for each group waits for it alone, up to controlBytes, of which the oldest is lost.
type desk struct {
	t      *TCP
	lost   *meter
	groups map[uint64]*window // owned by the connection's reader
}

// window is one group's. Its goroutine is there while messages are.
type window struct {
	g *Group

	mu      sync.Mutex // guards what follows
	waiting []received
	bytes   int
	busy    bool
}

type received struct {
	m    *raftpb.Message
	size int
}

func (d *desk) put(g *Group, m *raftpb.Message, size int) {
	c := d.groups[g.id]
	if c == nil || c.g != g {
		c = &window{g: g}
		d.groups[g.id] = c
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, received{m, size})
	for c.bytes += size + decodedBytes; c.bytes > controlBytes; c.waiting = c.waiting[1:] {
		c.bytes -= c.waiting[0].size + decodedBytes
		d.lost.add(session.HeaderSize + c.waiting[0].size)
	}
	if !c.busy {
		c.busy = true
		d.t.wg.Go(c.run) // called by the reader, which Close waits for, too
	}
}

func (c *window) run() {
	for {
		c.mu.Lock()
		if len(c.waiting) == 0 {
			c.waiting, c.busy = nil, false
			c.mu.Unlock()
			return
		}
		r := c.waiting[0]
		c.waiting = c.waiting[1:]
		c.bytes -= r.size + decodedBytes
		c.mu.Unlock()
		c.g.h.Receive(r.m)
	}
}
