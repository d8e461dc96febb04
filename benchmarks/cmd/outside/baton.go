package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

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

type batonMember struct{ n *ha.Node }

func serveBaton(p place, i int) (end, error) {
	m := p.batonMembers()
	n, err := ha.Open(ha.Config{
		Name: m[i].Name, Dir: filepath.Join(p.Dir, m[i].Name), Cluster: "bench", Members: m, StateMachine: new(baton.Machine),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	return batonMember{n}, nil
}

func (m batonMember) Leads() bool { return m.n.Status().State == ha.Active }

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

func (m batonMember) Close() error { return m.n.Close() }

type batonClient struct{ c *client.Client }

func dialBaton(p place) (end, error) {
	c, err := client.Dial(context.Background(), client.Config{Cluster: "bench", Addrs: p.Peers, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return batonClient{c}, nil
}

func (c batonClient) Leads() bool { return false }

func (c batonClient) Op(name string) func(context.Context, []byte) error {
	switch name {
	case "Call":
		return func(ctx context.Context, payload []byte) error { _, err := c.c.Call(ctx, payload); return err }
	}
	return nil
}

func (c batonClient) Close() error {
	return errors.Join(c.c.Close())
}
