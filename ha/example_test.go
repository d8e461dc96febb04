package ha_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// visits is a state machine: a number, the same on every member.
type visits struct{ n atomic.Int64 }

// Apply implements [ha.StateMachine]. Each record is one visit.
func (v *visits) Apply(entries []ha.Entry) error {
	v.n.Add(int64(len(entries)))
	return nil
}

// Snapshot implements [ha.StateMachine].
func (v *visits) Snapshot() (io.WriterTo, error) {
	return strings.NewReader(strconv.FormatInt(v.n.Load(), 10)), nil
}

// Restore implements [ha.StateMachine].
func (v *visits) Restore(r io.Reader) error {
	var n int64
	_, err := fmt.Fscan(r, &n)
	v.n.Store(n)
	return err
}

// A cluster of one member, as it is good for development. With three members only Members grows.
func Example() {
	dir, err := os.MkdirTemp("", "baton")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	count := new(visits)
	roles := make(chan fence.Token)
	node, err := ha.Open(ha.Config{
		Name: "a", Dir: dir, Cluster: "shop",
		Members:      []ha.Member{{Name: "a", Addr: localAddr()}},
		StateMachine: count,
		OnActive: func(ctx context.Context, t fence.Token) error {
			select {
			case roles <- t: // to whoever does the Active's work
			case <-ctx.Done():
			}
			return nil // nil keeps the role
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	token := <-roles
	fmt.Println("active with token", token)
	for range 3 {
		index, err := node.Append(ctx, token, []byte("a visit"))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("durable as record", index)
	}
	fmt.Println("visits:", count.n.Load())

	for e, err := range node.Subscribe(ctx, 2) { // on every member, standbys too
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("record %d of epoch %d: %s\n", e.Index, e.Epoch, e.Data)
		if e.Index == 3 {
			break
		}
	}
	// Output:
	// active with token shop/1/a
	// durable as record 1
	// durable as record 2
	// durable as record 3
	// visits: 3
	// record 2 of epoch 1: a visit
	// record 3 of epoch 1: a visit
}

// The configuration of member b of three. It is the same on each but for the name and the directory.
func ExampleConfig() {
	cfg := ha.Config{
		Name: "b", Dir: "/var/lib/shop", Cluster: "shop",
		Members: []ha.Member{
			{Name: "a", Addr: "10.0.0.1:7000"},
			{Name: "b", Addr: "10.0.0.2:7000"},
			{Name: "c", Addr: "10.0.0.3:7000"},
		},
		Heartbeat:       50 * time.Millisecond,  // the defaults
		ElectionTimeout: 500 * time.Millisecond, //
		MaxClockDrift:   0.01,                   //
	}
	fmt.Println("wrong:", cfg.Validate())

	cfg.Name, cfg.Members[2].Addr = "d", "10.0.0.2:7000"
	fmt.Println(cfg.Validate())
	// Output:
	// wrong: <nil>
	// baton: Config.Members[2].Addr: "10.0.0.2:7000" is that of "b" too
	// baton: Config.Name: "d" is none of Members
}

// localAddr returns an address on this machine that nobody listens on.
func localAddr() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().String()
}
