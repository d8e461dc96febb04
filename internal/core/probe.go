package core

import "time"

// What appends suffer from old entries that go to others (flow.go) is known only if it is known what they take without: at this time, since the load changes.
// It cannot be told from those batches that happen to begin and end while nothing is on its way, which are the short ones. So after every few
// pieces there is a pause in which one whole batch, the next that is proposed, is waited for, whatever it takes: a probe, as TCP BBR drains
// its queue to see the round trip without it (Cardwell et al., 2016).

// A probe waits for a batch beside which no old entries are on their way.
type probe struct {
	pieces int           // that have left since the last one
	since  time.Duration // since when nothing is on its way for its sake; 0: something is, or there is no probe
	batch  *Batch        // the first that was proposed since
}

// probeEvery is how many pieces leave between two probes, times as many as are on their way at a time: a probe waits until all have arrived.
const probeEvery = 4

// hold reports whether no piece may leave now because of a probe, and until when at most. There is one after every so many pieces. underway: some are on
// their way. soon is within what time a batch is taken to be proposed, and to be committed.
func (p *probe) hold(now, soon time.Duration, every int, underway bool) (until time.Duration, holds bool) {
	if p.pieces < every {
		return 0, false
	}
	switch {
	case underway:
		*p = probe{pieces: p.pieces}
		return now + never, true
	case p.since == 0:
		p.since = now
	case p.batch == nil && now >= p.since+soon, now >= p.since+2*soon:
		*p = probe{}
		return 0, false
	}
	if p.batch == nil {
		return p.since + soon, true
	}
	return p.since + 2*soon, true
}

// proposed takes note of a batch that was proposed.
func (p *probe) proposed(b *Batch) {
	if p.since != 0 && p.batch == nil {
		p.batch = b
	}
}

// committed takes note of one that is committed, and reports whether it was waited for.
func (p *probe) committed(b *Batch) bool {
	if p.batch == nil || p.batch != b {
		return false
	}
	*p = probe{}
	return true
}
