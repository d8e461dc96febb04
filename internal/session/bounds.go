package session

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// StreamConfig says what the streams of a session may take.
type StreamConfig struct {
	// Accept returns what serves a kind of streams, or why it is refused. Called by the reader of the session, must not block.
	// Nil: none.
	Accept func(kind string) (Handler, *StreamError)

	Budget       *Budget       // of what may wait to be read; shared by sessions. Required.
	Window       int           // the most of it for one stream, in bytes. 0: 1 MiB; at least FirstWindow
	MaxStreams   int           // in the session at a time, handlers that have not returned included. 0: 1024
	Ping         time.Duration // between two looks for a sign of life; after four without one the session is dead. 0: 1 s
	WriteTimeout time.Duration // in which the other side must take 128 KiB. 0: 10 s
	Logger       *slog.Logger  // for handlers that panic. Nil: slog.Default()
	Counts       *StreamCounts // shared by sessions. Nil: nobody counts
}

// StreamCounts counts what streams do, in any number of sessions. All only grow.
type StreamCounts struct {
	Opened, Served, Refused atomic.Uint64 // by us; by the other side; of those, the ones that nobody served
	Sent, Received          atomic.Uint64 // bytes of their data
}

func (c StreamConfig) withDefaults() StreamConfig {
	if c.Accept == nil {
		c.Accept = func(kind string) (Handler, *StreamError) {
			return nil, &StreamError{Code: StreamNoKind, Text: fmt.Sprintf("nobody serves streams of kind %q here", kind)}
		}
	}
	if c.Window == 0 {
		c.Window = 1 << 20
	}
	c.Window = max(c.Window, FirstWindow)
	if c.MaxStreams == 0 {
		c.MaxStreams = 1024
	}
	if c.Ping == 0 {
		c.Ping = time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Counts == nil {
		c.Counts = new(StreamCounts)
	}
	return c
}

// Budget bounds the bytes that may wait to be read in all streams of many sessions: each stream has FirstWindow of it, and more,
// as long as there is some, when it is read. So a stream that nobody reads holds what it was given, and stops no other.
type Budget struct {
	all  int64
	left atomic.Int64
}

// NewBudget returns one of so many bytes.
func NewBudget(bytes int64) *Budget {
	b := &Budget{all: bytes}
	b.left.Store(bytes)
	return b
}

// Held is how much of it streams have now.
func (b *Budget) Held() int64 { return b.all - b.left.Load() }

func (b *Budget) take(n int64) bool {
	if b.left.Add(-n) >= 0 {
		return true
	}
	b.left.Add(n)
	return false
}

func (b *Budget) give(n int64) { b.left.Add(n) }
