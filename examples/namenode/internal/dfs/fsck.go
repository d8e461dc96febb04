package dfs

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A Health is what Fsck has found.
type Health struct {
	Files, Open, Blocks, Replicas int
	Bytes                         int64
	// Missing are blocks of which no good replica was found, Few those that have fewer than their file wants, Bad single replicas that are not what
	// was written.
	Missing, Few, Bad []string
}

// Fsck reads every replica of every complete block at or below a path, and compares checksums.
func (c *Client) Fsck(ctx context.Context, path string) (*Health, error) {
	h := new(Health)
	for f, err := range c.Files(ctx, path) {
		if err != nil {
			return nil, err
		}
		h.Files++
		if f.Open {
			h.Open++
		}
		for _, b := range f.Blocks {
			good := 0
			for _, n := range b.Nodes {
				_, err := Fetch(ctx, b.Block, n.Addr)
				switch {
				case err == nil:
					good++
				case !errors.Is(err, ErrNoReplica): // there was one too many, and it was deleted meanwhile
					h.Bad = append(h.Bad, fmt.Sprintf("%s: block %d at %s: %v", f.Path, b.ID, n.Name, err))
				}
			}
			h.Blocks++
			h.Bytes += b.Len
			h.Replicas += good
			switch {
			case good == 0:
				h.Missing = append(h.Missing, fmt.Sprintf("%s: block %d", f.Path, b.ID))
			case good < f.Replication:
				h.Few = append(h.Few, fmt.Sprintf("%s: block %d: %d of %d", f.Path, b.ID, good, f.Replication))
			}
		}
	}
	return h, ctx.Err()
}

// Err says what was lost; nil if every byte is there.
func (h *Health) Err() error {
	if len(h.Missing) == 0 {
		return nil
	}
	return fmt.Errorf("missing:\n  %s", strings.Join(h.Missing, "\n  "))
}

func (h *Health) String() string {
	return fmt.Sprintf("%d files, %d of them open; %d bytes in %d blocks, %d good replicas; %d blocks missing, %d with too few replicas, %d bad replicas",
		h.Files, h.Open, h.Bytes, h.Blocks, h.Replicas, len(h.Missing), len(h.Few), len(h.Bad))
}
