package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// The errors of [Commit].
var (
	ErrNotReached   = errors.New("no agent on this host that is Active takes commits there")
	ErrNotCommitted = errors.New("not committed")
	ErrUnknown      = errors.New("it is not known whether it was committed")
)

// A committed is the answer to who connects to the socket, in a line of JSON: the index of the record that has committed, or the error and its
// code (see [state.Code]).
type committed struct {
	Index uint64 `json:"index,omitempty"`
	Error string `json:"error,omitempty"`
	Text  string `json:"text,omitempty"`
}

// Commit asks the agent with such a socket to commit its directory, and returns the index of the record that has. It is what "baton agent commit" does.
// Errors: [ErrNotReached], [ErrNotCommitted], and [ErrUnknown], also when ctx ends before the answer.
func Commit(ctx context.Context, socket string) (uint64, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrNotReached, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var a committed
	err = json.NewDecoder(conn).Decode(&a)
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("%w: %w", ErrUnknown, context.Cause(ctx))
	case err != nil:
		return 0, fmt.Errorf("%w: the agent's answer: %w", ErrUnknown, err)
	case a.Error == "unknown":
		return 0, fmt.Errorf("%w: %s", ErrUnknown, a.Text)
	case a.Error != "":
		return 0, fmt.Errorf("%w (%s): %s", ErrNotCommitted, a.Error, a.Text)
	}
	return a.Index, nil
}
