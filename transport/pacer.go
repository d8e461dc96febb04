package transport

import (
	"context"
	"sync"
	"time"
)

// A pacer lets bytes pass at a rate, those of all who use it together, in the order in which they ask. A rate of 0 is none.
type pacer struct {
	most int64        // bytes a second
	now  func() int64 // a lower rate, at present; nil: there is none

	mu   sync.Mutex // guards next
	next time.Time  // when the next bytes may pass
}

// rate is the present one.
func (p *pacer) rate() int64 {
	if p.now == nil {
		return p.most
	}
	now := p.now()
	if now == 0 || p.most > 0 && p.most < now {
		return p.most
	}
	return now
}

// wait waits until so many bytes may pass, or ctx ends.
func (p *pacer) wait(ctx context.Context, bytes int) error {
	rate := p.rate()
	if rate == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(time.Duration(float64(bytes) / float64(rate) * float64(time.Second)))
	p.mu.Unlock()
	if at.Equal(now) {
		return nil
	}
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
