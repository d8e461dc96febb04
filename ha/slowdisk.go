package ha

import "time"

// This file is the return of a disk that did not answer. That it answers once says little: where it was one device for many, or a
// network, the next write may hang again, and cost the next role. So the member writes a little, again and again, and is
// eligible when that was fast several times in a row.

const (
	probesNeeded = 3 // fast writes in a row
	probeFast    = 4 // a write is fast that takes no longer than one part of an election timeout of this many
)

// A probation is that of a disk that did not answer.
type probation struct {
	needed  int // fast writes
	writing bool
	at      time.Duration // when to write next
}

// probe begins a probation, and writes when it is time.
func (r *role) probe(now time.Duration) {
	p := &r.disk
	switch {
	case r.view.DiskSince != 0:
		p.needed = probesNeeded
	case p.needed > 0 && !p.writing && now >= p.at:
		p.writing = true
		r.out.do(probeDisk{})
	}
}

// probed takes how long a write took.
func (r *role) probed(now time.Duration, in diskProbed) {
	p := &r.disk
	p.writing, p.at = false, now+r.cfg.heartbeat
	switch {
	case p.needed == 0:
	case in.err != nil || in.took > r.cfg.electionTimeout/probeFast:
		p.needed = probesNeeded
	default:
		if p.needed--; p.needed == 0 {
			r.retryAt = min(r.retryAt, now)
		}
	}
}

// probe writes to the disk, and tells the role.
func (n *Node) probe() {
	began := n.clock()
	n.callbacks.Add(1)
	n.calls.Go("the disk", n.disk.Probe, func(err error) {
		n.log.Post(diskProbed{n.clock() - began, err})
		n.callbacks.Done()
	})
}
