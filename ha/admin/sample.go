package admin

import (
	"sync"
	"time"

	"github.com/baton-ha/baton/ha"
)

// This file keeps the last ten minutes, as far as they are drawn.

const (
	sampleEvery = 2 * time.Second
	maxSamples  = 300
)

// A sample is what has happened between two looks at the member. Times are in seconds, and below 0 if nothing was measured.
type sample struct {
	at                     time.Time
	epoch                  uint64
	records                float64 // committed, per second
	appendHalf, appendMost float64 // the median and the 99th percentile of appends
	writeHalf, writeMost   float64 // of writes to the disk
	applyHalf, applyMost   float64 // of the state machine
	sent, received         float64 // bytes per second, to and from the other members
	lag                    float64 // that this member may be behind
}

// history is a ring of samples.
type history struct {
	mu      sync.Mutex // guards what follows
	samples []sample   // oldest first
	at      time.Time  // of the last look
	index   uint64
	last    *ha.Stats
}

// take looks at the member.
func (p *history) take(n Node, now time.Time) {
	s, st := n.Stats(), n.Status()
	p.mu.Lock()
	defer p.mu.Unlock()
	before, since, index := p.last, now.Sub(p.at).Seconds(), p.index
	p.last, p.at, p.index = &s, now, st.Index
	if before == nil || since <= 0 {
		return
	}
	x := sample{at: now, epoch: st.Epoch, lag: st.Lag.Time.Seconds()}
	if index <= st.Index && index > 0 { // else it has just been opened, and learns what there was
		x.records = float64(st.Index-index) / since
	}
	appended := s.Log.AppendTime.Since(&before.Log.AppendTime)
	x.appendHalf, x.appendMost = quantiles(appended.Count, appended.Quantile)
	written := s.Storage.Write.Since(&before.Storage.Write)
	x.writeHalf, x.writeMost = quantiles(written.Count, written.Quantile)
	applied := s.Log.ApplyTime.Since(&before.Log.ApplyTime)
	x.applyHalf, x.applyMost = quantiles(applied.Count, applied.Quantile)
	sent0, received0 := traffic(before)
	sent1, received1 := traffic(&s)
	x.sent, x.received = max(0, sent1-sent0)/since, max(0, received1-received0)/since
	if len(p.samples) >= 2*maxSamples {
		p.samples = append(p.samples[:0], p.samples[maxSamples:]...)
	}
	p.samples = append(p.samples, x)
}

// quantiles returns the median and the 99th percentile in seconds.
func quantiles(count uint64, of func(float64) int64) (half, most float64) {
	if count == 0 {
		return -1, -1
	}
	return float64(of(0.5)) / 1e9, float64(of(0.99)) / 1e9
}

// traffic is what went to the other members that are listed, and came from them.
func traffic(s *ha.Stats) (sent, received float64) {
	for i := range s.Net.Peers {
		p := &s.Net.Peers[i]
		sent += float64(p.Control.Sent.Bytes + p.Bulk.Sent.Bytes + p.Snapshots.SentBytes)
		received += float64(p.Control.Received.Bytes + p.Bulk.Received.Bytes + p.Snapshots.ReceivedBytes)
	}
	return sent, received
}

// all returns the samples, oldest first.
func (p *history) all() []sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]sample(nil), p.samples[max(0, len(p.samples)-maxSamples):]...)
}

// latest returns the last sample.
func (p *history) latest() (sample, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == 0 {
		return sample{}, false
	}
	return p.samples[len(p.samples)-1], true
}
