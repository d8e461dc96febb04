package main

import (
	"context"
	"encoding/binary"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/client"
)

func (p place) batonMembers() (all []ha.Member) {
	for i, a := range p.Peers {
		all = append(all, ha.Member{Name: string(rune('a' + i)), Addr: a})
	}
	return all
}

type batonMember struct {
	n    *ha.Node
	feed *feed
}

func serveBaton(p place, i int) (end, error) {
	m := p.batonMembers()
	feed, err := newFeed(p.Clients[i])
	if err != nil {
		return nil, err
	}
	n, err := ha.Open(ha.Config{
		Name: m[i].Name, Dir: filepath.Join(p.Dir, m[i].Name), Cluster: "bench", Members: m, StateMachine: &baton.Machine{OnApply: feed.apply},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		feed.close()
		return nil, err
	}
	return batonMember{n, feed}, nil
}

func (m batonMember) Leads() bool { return m.n.Status().State == ha.Active }

// Last is the last record that is committed, as far as the member knows.
func (m batonMember) Last() uint64 { return m.n.Status().Index }

func (m batonMember) Op(name string) func(context.Context, []byte) error {
	switch name {
	case "ReadBarrier":
		return func(ctx context.Context, _ []byte) error { return m.n.ReadBarrier(ctx) }
	case "Append":
		return func(ctx context.Context, payload []byte) error {
			_, err := m.n.Append(ctx, m.n.Status().Token, payload)
			return err
		}
	}
	return nil
}

func (m batonMember) Close() error {
	m.feed.close()
	return m.n.Close()
}

type batonClient struct {
	c    *client.Client
	p    place
	read atomic.Uint64 // records, by all tails
}

func dialBaton(p place) (end, error) {
	c, err := client.Dial(context.Background(), client.Config{Cluster: "bench", Addrs: p.Peers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return &batonClient{c: c, p: p}, nil
}

func (c *batonClient) Leads() bool { return false }

// Read is how many records all tails have read.
func (c *batonClient) Read() uint64 { return c.read.Load() }

func (c *batonClient) Op(name string) func(context.Context, []byte) error {
	switch name {
	case "Call":
		return func(ctx context.Context, payload []byte) error { _, err := c.c.Call(ctx, payload); return err }
	case "Tail": // until ctx ends, from the record on that the payload says
		return c.tail(c.c.Subscribe)
	case "Borrow": // likewise
		return c.tail(c.c.Borrow)
	case "Plain": // likewise, without any of baton
		return func(ctx context.Context, _ []byte) error {
			active, err := c.c.Active(ctx)
			if err != nil {
				return err
			}
			standby := slices.IndexFunc(c.p.batonMembers(), func(m ha.Member) bool { return m.Name != active.Name })
			return readFeed(ctx, c.p.Clients[standby], &c.read)
		}
	}
	return nil
}

func (c *batonClient) tail(records func(context.Context, uint64) iter.Seq2[client.Entry, error]) func(context.Context, []byte) error {
	return func(ctx context.Context, from []byte) error {
		for e, err := range records(ctx, binary.BigEndian.Uint64(from)) {
			if err != nil {
				return err
			}
			if e.Index%1024 == 0 {
				c.read.Add(1024)
			}
		}
		return nil
	}
}

func (c *batonClient) Close() error {
	return c.c.Close()
}
