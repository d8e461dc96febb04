package ha_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// tally is visits with an answer: to each record the number of visits so far.
type tally struct{ visits }

// Answer implements [ha.Answerer].
func (c *tally) Answer(entries []ha.Entry) ([][]byte, error) {
	answers := make([][]byte, len(entries))
	for i := range entries {
		answers[i] = strconv.AppendInt(nil, c.n.Add(1), 10)
	}
	return answers, nil
}

// start opens a member that is a cluster, and waits until it is Active.
func start(dir string, change func(*ha.Config)) (*ha.Node, fence.Token, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fence.Token{}, err
	}
	tokens := make(chan fence.Token, 1)
	cfg := ha.Config{
		Name: "a", Dir: dir, Cluster: "shop", Members: []ha.Member{{Name: "a", Addr: l.Addr().String()}}, Listener: l,
		OnActive: func(_ context.Context, t fence.Token) error { tokens <- t; return nil },
		Logger:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	node, err := ha.Open(cfg)
	if err != nil {
		return nil, fence.Token{}, err
	}
	return node, <-tokens, nil
}

// Without Config.Handle a request becomes a record, and the state machine answers. It may be called on any member.
func ExampleNode_Call() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	count := new(tally)
	node, _, err := start(dir, func(c *ha.Config) { c.StateMachine = count })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for range 2 {
		answer, err := node.Call(ctx, []byte("a visit"))
		fmt.Println(string(answer), err)
	}
	err = node.ReadBarrier(ctx) // from here on all that was acknowledged anywhere is in this member's state
	fmt.Println(count.n.Load(), err)
	// Output:
	// 1 <nil>
	// 2 <nil>
	// 2 <nil>
}

// A batch is all in the log, or none of it, under one token; each record gets its answer.
func ExampleNode_AppendBatch() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	node, token, err := start(dir, func(c *ha.Config) { c.StateMachine = new(tally) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	result, err := node.AppendBatch(context.Background(), token, []byte("one"), []byte("two"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("from record %d on: %s\n", result.Index, result.Answers)

	later, err := node.AppendAsync(token, []byte("three")) // does not wait
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err = later.Wait(context.Background())
	fmt.Printf("record %d: %s %v\n", result.Index, result.Answers, err)
	// Output:
	// from record 1 on: [1 2]
	// record 3: [3] <nil>
}

// Handle decides on the Active what a request comes to. What it appends with its ctx takes effect once, however often the request is repeated.
func ExampleConfig_handle() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	node, _, err := start(dir, func(c *ha.Config) {
		c.Handle = func(ctx context.Context, t fence.Token, r ha.Request) ([]byte, error) {
			if len(r.Data) == 0 {
				return nil, &ha.CallError{Code: 400, Text: "nothing to do"} // crosses the wire as it is
			}
			index, err := ha.FromContext(ctx).Append(ctx, t, r.Data)
			return fmt.Appendf(nil, "record %d", index), err
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	answer, err := node.Call(context.Background(), []byte("work"))
	fmt.Println(string(answer), err)
	_, err = node.Call(context.Background(), nil)
	var failed *ha.CallError
	fmt.Println(errors.As(err, &failed) && failed.Code == 400)
	// Output:
	// record 1 <nil>
	// true
}

// A token of an epoch that is over appends nothing, whoever uses it.
func ExampleNode_Append_fenced() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	node, old, err := start(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	node.Close()
	node, token, err := start(dir, nil) // another time as Active
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	_, err = node.Append(context.Background(), old, []byte("late"))
	fmt.Println(errors.Is(err, ha.ErrFenced), token.Supersedes(old))
	// Output: true true
}

// The first member of a new cluster is made of a backup; others are added to it.
func ExampleRestore() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	node, token, err := start(dir+"/old", func(c *ha.Config) { c.StateMachine = new(visits) })
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	if _, err := node.AppendBatch(ctx, token, []byte("a visit"), []byte("another")); err != nil {
		fmt.Println(err)
		return
	}
	var backup bytes.Buffer
	_, err = node.Backup(ctx, &backup) // while it runs
	node.Close()
	if err != nil {
		fmt.Println(err)
		return
	}

	info, err := ha.Restore(ctx, &backup, ha.NewCluster{Dir: dir + "/new", Cluster: "shop2", Name: "a"})
	if err != nil {
		fmt.Println(err)
		return
	}
	count := new(visits)
	node, newer, err := start(dir+"/new", func(c *ha.Config) { c.StateMachine, c.Cluster = count, "shop2" })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	fmt.Println("up to record", info.Index, "visits:", count.n.Load(), "higher epoch:", newer.Epoch > token.Epoch)
	// Output: up to record 2 visits: 2 higher epoch: true
}

// Explain reads the events in the directories of as many members as there are, running or not.
func ExampleExplain() {
	dir, _ := os.MkdirTemp("", "baton")
	defer os.RemoveAll(dir)
	node, _, err := start(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	node.Close()

	why, err := ha.Explain(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range why.Failovers {
		fmt.Println(f.To, "became Active in epoch", f.Epoch)
	}
	// Output: a became Active in epoch 1
}
