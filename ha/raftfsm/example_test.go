package raftfsm_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/raftfsm"
)

func ExampleMachine() {
	dir, err := os.MkdirTemp("", "raftfsm")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fsm := &store{m: map[string]string{}} // of a program for hashicorp/raft, as it is
	m := raftfsm.New(fsm, raftfsm.Config{})
	done := make(chan struct{})
	node, err := ha.Open(ha.Config{
		Name: "a", Dir: dir, Cluster: "kv", Members: []ha.Member{{Name: "a", Addr: l.Addr().String()}}, Listener: l, StateMachine: m,
		OnActive: func(ctx context.Context, token fence.Token) error {
			defer close(done)
			n := ha.FromContext(ctx)
			for _, command := range []string{`{"Op":"set","Key":"k","Value":"v"}`, `{"Op":"append","Key":"k","Value":"v"}`, `{"Op":"delete","Key":"x"}`} {
				result, index, err := m.Append(ctx, n, token, []byte(command))
				fmt.Println(index, result, err)
			}
			return nil
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	<-done
	node.Close()
	// Output:
	// 1 <nil> <nil>
	// 2 vv <nil>
	// 3 no such key <nil>
}
