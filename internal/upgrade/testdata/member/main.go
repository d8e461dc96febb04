// Command member is a member of a cluster that does what it is told on its standard input, a line for each command, and answers each with
// a line. It is built from the source of more than one version, so it uses nothing that is new.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/upgrade"
)

func main() {
	var cfg struct {
		Name, Dir, Cluster           string
		Members                      []ha.Member
		CheckpointBytes, RetainBytes int64
		Bare                         bool
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &cfg); err != nil {
		panic(err)
	}
	m := new(upgrade.Machine)
	c := ha.Config{
		Name: cfg.Name, Dir: cfg.Dir, Cluster: cfg.Cluster, Members: cfg.Members, CheckpointBytes: cfg.CheckpointBytes, RetainBytes: cfg.RetainBytes,
		Heartbeat: 50 * time.Millisecond, ElectionTimeout: time.Second, OnActive: func(context.Context, fence.Token) error { return nil },
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	if !cfg.Bare {
		c.StateMachine = m
	}
	n, err := ha.Open(c)
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("ok")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(answer(n, m, in.Text()))
	}
	_ = n.Close()
}

// answer does what a line says.
func answer(n *ha.Node, m *upgrade.Machine, line string) string {
	var word string
	var a, b uint64
	_, _ = fmt.Sscan(line, &word, &a, &b)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	switch word {
	case "status": // state, epoch, index, applied, hash of what is applied
		s := n.Status()
		return fmt.Sprint(s.State, " ", s.Epoch, " ", s.Index, " ", s.Applied, " ", m.Value())
	case "append": // a records of b bytes: how many are acknowledged, and the last index
		t := n.Status().Token
		last := uint64(0)
		for i := range a {
			record := make([]byte, 8+b)
			binary.LittleEndian.PutUint64(record, i)
			index, err := n.Append(ctx, t, record)
			if err != nil {
				return fmt.Sprint("failed: ", i, " ", err)
			}
			last = index
		}
		return fmt.Sprint("ok ", last)
	case "become":
		if err := n.Become(ctx, ha.Active); err != nil {
			return fmt.Sprint("failed: ", err)
		}
		return "ok"
	case "records": // from a to b: a hash over them
		h := fnv.New64a()
		for e, err := range n.Subscribe(ctx, a) {
			if err != nil {
				return fmt.Sprint("failed: ", err)
			}
			_ = binary.Write(h, binary.LittleEndian, []uint64{e.Index, e.Epoch})
			h.Write(e.Data)
			if e.Index == b {
				break
			}
		}
		return fmt.Sprint("ok ", h.Sum64())
	case "close":
		if err := n.Close(); err != nil && !errors.Is(err, ha.ErrClosed) {
			return fmt.Sprint("failed: ", err)
		}
		return "ok"
	}
	return "failed: what?"
}
