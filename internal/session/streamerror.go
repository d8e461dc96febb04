package session

import (
	"context"
	"errors"
	"fmt"
)

// StreamCode is why a stream has ended before its time, as it is on the wire. Numbers below FirstOwnCode are this package's and
// never used again; the others are for those who use streams.
type StreamCode uint16

// The codes of this package. After StreamNoKind, StreamForbidden and StreamBusy from the other side nobody has seen the stream.
const (
	StreamCancelled StreamCode = 1 // whoever had it does not want any more; also the end of a stream that was closed early
	StreamDeadline  StreamCode = 2 // its ctx had a deadline
	StreamNoKind    StreamCode = 3 // nobody serves its kind
	StreamForbidden StreamCode = 4 // not for this role
	StreamBusy      StreamCode = 5 // too many streams, or too much that waits to be read
	StreamFailed    StreamCode = 6 // what served it failed
	StreamClosed    StreamCode = 7 // the session is closed
	StreamTooLarge  StreamCode = 8 // a message was larger than its reader takes

	FirstOwnCode StreamCode = 64
)

func (c StreamCode) String() string {
	names := [...]string{"code 0", "cancelled", "deadline exceeded", "no such kind", "forbidden", "busy", "failed", "closed", "too large"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint16(c))
}

// StreamError is the end of a stream that was not closed in peace. It matches, with errors.Is, another *StreamError of the
// same code, and context.Canceled and context.DeadlineExceeded by theirs.
type StreamError struct {
	Code   StreamCode
	Text   string // for people; at most 1 KiB of it is told to the other side
	Remote bool   // the other side has ended it
}

func (e *StreamError) Error() string {
	by := "stream ended"
	if e.Remote {
		by = "stream ended by the other side"
	}
	if e.Text == "" {
		return fmt.Sprintf("%s: %v", by, e.Code)
	}
	return fmt.Sprintf("%s: %v: %s", by, e.Code, e.Text)
}

// Is matches by the code.
func (e *StreamError) Is(target error) bool {
	switch target {
	case context.Canceled:
		return e.Code == StreamCancelled
	case context.DeadlineExceeded:
		return e.Code == StreamDeadline
	}
	t, ok := target.(*StreamError)
	return ok && t.Code == e.Code
}

func (e *StreamError) body() []byte {
	return AppendCoded(nil, uint16(e.Code), e.Text[:min(len(e.Text), maxStreamText)])
}

var (
	errOver        = errors.New("stream is over") // of whoever waits: the stream's own error says why
	errStreamShut  = errors.New("session: write on a stream whose end was written")
	errStreamLocal = &StreamError{Code: StreamCancelled, Text: "it was closed"}
)
