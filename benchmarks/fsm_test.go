package benchmarks

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/baton-ha/baton/benchmarks/internal/harness"
	"github.com/baton-ha/baton/benchmarks/internal/systems/baton"
	"github.com/baton-ha/baton/benchmarks/internal/systems/hashiraft"
	"github.com/baton-ha/baton/benchmarks/internal/systems/kv"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/raftfsm"
)

// commands are those of kv: what an append brings is the value of one of 4,096 keys.
type commands struct {
	harness.System
	next  atomic.Uint64
	apply func(ctx context.Context, command []byte) (result any, err error)
}

// Append implements [harness.System].
func (c *commands) Append(ctx context.Context, payload []byte) error {
	command := make([]byte, len(payload))
	copy(command, payload)
	binary.LittleEndian.PutUint64(command, c.next.Add(1)%4096)
	result, err := c.apply(ctx, command)
	if err == nil {
		_, ok := result.([]byte)
		if !ok {
			return fmt.Errorf("the result is %v", result)
		}
	}
	return err
}

// BenchmarkFSM runs one FSM of hashicorp/raft there and, by raftfsm, on baton, and waits for its results.
func BenchmarkFSM(b *testing.B) {
	systems := []struct {
		name  string
		start func(o harness.Options) (*commands, error)
	}{
		{"baton-raftfsm", func(o harness.Options) (*commands, error) {
			machines := map[string]*raftfsm.Machine{}
			s, err := baton.Start(o, func(cfg *ha.Config, _ *baton.Machine) {
				m := raftfsm.New(kv.New(), raftfsm.Config{})
				machines[cfg.Name], cfg.StateMachine = m, m
			})
			if err != nil {
				return nil, err
			}
			return &commands{System: s, apply: func(ctx context.Context, command []byte) (any, error) {
				n, token := s.Token()
				result, _, err := machines[token.Holder].Append(ctx, n, token, command)
				return result, s.Follow(err)
			}}, nil
		}},
		{"hraft-wal", hraftFSM(hashiraft.Settings{})},
		{"hraft-wal-tuned", hraftFSM(hashiraft.Settings{Tuned: true})},
	}
	for _, system := range systems {
		b.Run("system="+system.name, func(b *testing.B) {
			s, err := system.start(harness.Options{Dir: b.TempDir()})
			use(b, s, err)
			for _, writers := range []int{1, 64, 1024} {
				b.Run(fmt.Sprintf("payload=128/writers=%d", writers), func(b *testing.B) { appends(b, s, 128, writers) })
			}
		})
	}
}

func hraftFSM(settings hashiraft.Settings) func(o harness.Options) (*commands, error) {
	settings.FSM = func() raft.FSM { return kv.New() }
	return func(o harness.Options) (*commands, error) {
		s, err := hashiraft.Start(o, settings)
		if err != nil {
			return nil, err
		}
		return &commands{System: s, apply: func(ctx context.Context, command []byte) (any, error) { return s.Apply(ctx, command) }}, nil
	}
}
