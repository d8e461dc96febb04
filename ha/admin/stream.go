package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// This file keeps pages up to date: by server-sent events, each of which has the parts of the page that have changed. They are made
// once for all who look, and only while somebody does. A stream that is not read holds one message, and ends when that is not taken within writeTime.

const (
	defaultWriteTime = 10 * time.Second       // that one message may take
	quietTime        = 15 * time.Second       // after so long something is said, so that it shows when nobody is there any more
	streamTime       = time.Hour              // then a page asks again, so that nothing lasts for ever
	leastPause       = 100 * time.Millisecond // between two versions: what changes may change again
)

// hub has the newest version of each part of the page.
type hub struct {
	ctx       context.Context // of the handler
	most      int
	writeTime time.Duration
	nudged    chan struct{} // size 1: a token says that something has changed, or that somebody has come

	mu      sync.Mutex // guards what follows
	streams int
	version uint64
	parts   map[string]part
	changed chan struct{} // closed and replaced with each version
}

// A part is the content of one element of the page.
type part struct {
	html    string
	version uint64
}

func (b *hub) init(ctx context.Context, most int) {
	if most <= 0 {
		most = defaultStreams
	}
	b.ctx, b.most, b.writeTime = ctx, most, defaultWriteTime
	b.nudged, b.changed, b.parts = make(chan struct{}, 1), make(chan struct{}), map[string]part{}
}

func (b *hub) nudge() {
	select {
	case b.nudged <- struct{}{}:
	default:
	}
}

func (b *hub) wanted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.streams > 0
}

// enter counts a stream, unless there are too many.
func (b *hub) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.streams >= b.most {
		return false
	}
	b.streams++
	return true
}

func (b *hub) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams--
}

// publish takes the parts as they are now.
func (b *hub) publish(now map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	version := b.version + 1
	for id, html := range now {
		if old, ok := b.parts[id]; !ok || old.html != html {
			b.parts[id] = part{html, version}
			b.version = version
		}
	}
	if b.version == version {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// since returns what has changed after a version.
func (b *hub) since(version uint64) (changed map[string]string, now uint64, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed = map[string]string{}
	for id, p := range b.parts {
		if p.version > version {
			changed[id] = p.html
		}
	}
	return changed, b.version, b.changed
}

func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request) {
	if h.live.ctx.Err() != nil || !h.live.enter() {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "no more pages are kept up to date now", http.StatusServiceUnavailable)
		return
	}
	defer h.live.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for nginx
	rc := http.NewResponseController(w)
	say := func(format string, args ...any) bool {
		err := rc.SetWriteDeadline(time.Now().Add(h.live.writeTime))
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return false
		}
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	if !say("retry: 2000\n\n") {
		return
	}
	h.live.nudge()
	end := time.NewTimer(streamTime)
	defer end.Stop()
	for version := uint64(0); ; {
		changed, now, more := h.live.since(version)
		if len(changed) > 0 {
			b, err := json.Marshal(changed)
			if err != nil || !say("data: %s\n\n", b) {
				return
			}
			version = now
		}
		quiet := time.NewTimer(quietTime)
		select {
		case <-more:
		case <-quiet.C:
			if !say(": still there\n\n") {
				return
			}
		case <-end.C:
			return
		case <-r.Context().Done():
			return
		case <-h.live.ctx.Done():
			return
		}
		quiet.Stop()
	}
}
