package dfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/baton-ha/baton/ha/client"
)

// A Client is for programs that use the file system. It finds the Active by itself, and goes on through failovers: each
// request takes effect once. Its methods may be called by any goroutine.
type Client struct {
	names *client.Client
	// BlockSize is that of files that it creates; 0: 8 MiB. At most MaxBlock.
	BlockSize int64
	// PacketSize is how much is sent at a time; 0: 256 KiB. At most MaxPacket.
	PacketSize int
}

// NewClient returns a client that asks the NameNodes which another client reaches.
func NewClient(names *client.Client) *Client { return &Client{names: names} }

// An Error is what the Active has refused.
type Error struct {
	Op   Op
	Path string
	Code Code
	Text string
}

func (e *Error) Error() string {
	if e.Text == "" || e.Text == e.Code.String() {
		return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Code)
	}
	return fmt.Sprintf("%s %s: %v: %s", e.Op, e.Path, e.Code, e.Text)
}

// retry is the pause before something is tried again that may be there in a moment.
const retry = 50 * time.Millisecond

// call asks the Active. As long as there is no DataNode to write to it asks again, until ctx ends.
func (c *Client) call(ctx context.Context, q Request) (*Answer, error) {
	data, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	for {
		answer, err := c.names.Call(ctx, data)
		var refused *client.CallError
		switch {
		case errors.As(err, &refused) && Code(refused.Code) == Unavailable:
			if err := pause(ctx); err != nil {
				return nil, fmt.Errorf("%s %s: %v: %w", q.Op, q.Path, Unavailable, err)
			}
			continue
		case errors.As(err, &refused):
			return nil, &Error{q.Op, q.Path, Code(refused.Code), refused.Text}
		case err != nil:
			return nil, fmt.Errorf("%s %s: %w", q.Op, q.Path, err)
		}
		a := new(Answer)
		if err := json.Unmarshal(answer, a); err != nil {
			return nil, fmt.Errorf("%s %s: answer: %w", q.Op, q.Path, err)
		}
		return a, nil
	}
}

func pause(ctx context.Context) error {
	select {
	case <-time.After(retry):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Rename renames a file, or all files below a path at once. Nothing must be at the new name.
func (c *Client) Rename(ctx context.Context, from, to string) error {
	_, err := c.call(ctx, Request{Op: Rename, Path: from, To: to})
	return err
}

// Remove removes a file, or all files below a path at once.
func (c *Client) Remove(ctx context.Context, path string) error {
	_, err := c.call(ctx, Request{Op: Remove, Path: path})
	return err
}

// Recover has a file taken from its writer before the lease is over, as HDFS's recoverLease does. The file is complete a moment later.
func (c *Client) Recover(ctx context.Context, path string) error {
	_, err := c.call(ctx, Request{Op: Recover, Path: path})
	return err
}

// Files yields the files at or below a path, in the order of their names. The error comes once, last.
func (c *Client) Files(ctx context.Context, path string) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		for after, more := "", true; more; {
			a, err := c.call(ctx, Request{Op: List, Path: path, To: after})
			if err != nil {
				yield(File{}, err)
				return
			}
			for _, f := range a.Files {
				if !yield(f, nil) {
					return
				}
				after = f.Path
			}
			more = a.More
		}
	}
}

// Stat returns one file.
func (c *Client) Stat(ctx context.Context, path string) (*File, error) {
	for f, err := range c.Files(ctx, path) {
		if err != nil {
			return nil, err
		}
		if f.Path == path {
			return &f, nil
		}
	}
	return nil, &Error{List, path, NotFound, ""}
}

// Put writes a file of all that r has. It is there, whole, when Put returns nil; else it is perhaps there, open, with some of it.
func (c *Client) Put(ctx context.Context, path string, replication int, r io.Reader) error {
	w, err := c.Create(ctx, path, replication)
	if err != nil {
		return err
	}
	defer w.stop()
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, r, make([]byte, 128<<10)); err != nil {
		return err
	}
	return w.Close()
}

// patience is how long a reader looks for a replica of a block.
const patience = 20 * time.Second

// Get writes what is in a file to w, each block when its checksum was seen. Of a file that is being written it is the blocks that are full.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) error {
	f, err := c.Stat(ctx, path)
	if err != nil {
		return err
	}
	for i := range f.Blocks {
		data, err := c.block(ctx, path, f.Blocks[i])
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// block reads a block from one DataNode or another. As long as none has it, it asks the Active again where it is.
func (c *Client) block(ctx context.Context, path string, b Located) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		why := errors.New("no DataNode is known to have it")
		for _, n := range b.Nodes {
			data, err := Fetch(ctx, b.Block, n.Addr)
			if err == nil {
				return data, nil
			}
			why = err
		}
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("read block %d of %s: %w: %w", b.ID, path, why, err)
		}
		f, err := c.Stat(ctx, path)
		if err != nil {
			return nil, err
		}
		for _, now := range f.Blocks {
			if now.ID == b.ID {
				b = now
			}
		}
	}
}
