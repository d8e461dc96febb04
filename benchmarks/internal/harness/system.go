// Package harness is what all measurements share: the interface of a system, the closed-loop driver, what is read from
// the operating system beside it, and a network that delays.
package harness

import (
	"context"
	"fmt"
	"net"
	"time"
)

// A System is a cluster, all of its members in this process, or a floor: what disk and network alone can do.
type System interface {
	// Name is that of the command line and of the tables.
	Name() string
	// Append returns nil when the payload is as durable as the system makes it, and applied on the leader. It is
	// called by many goroutines. It may keep the payload: nobody changes it.
	Append(ctx context.Context, payload []byte) error
	// Close stops all members and waits for them.
	Close() error
}

// A Quorum is a System that can lose its followers, to prove that it needs them.
type Quorum interface {
	System
	// StopFollowers stops all members but the leader.
	StopFollowers() error
}

// A Laggard is a System one of whose followers can be stopped and started again, while the others go on.
type Laggard interface {
	System
	// StopOne stops a follower and waits for its end.
	StopOne() error
	// StartOne starts the one that was stopped again, and returns as soon as it runs.
	StartOne() error
	// Behind is by how much it has applied less than the leader, in whatever the system counts its log in.
	Behind() uint64
	// Term grows each time the role of the leader is given anew.
	Term() uint64
	// Replay reads from the leader's member all that was appended, from the first record on, and calls took with the
	// bytes of each. It returns when took returns false.
	Replay(ctx context.Context, took func(bytes int) bool) error
}

// Options says how a system is started.
type Options struct {
	Dir     string        // for its files; exists, is empty and is on the disk that is measured
	Members int           // how many; 0: 3
	Shim    bool          // members reach each other through proxies that delay
	Delay   time.Duration // of the proxies, in each direction
	Keep    int64         // bytes of payload that the log keeps at least; 0: the system's default
}

// Count is the number of members.
func (o Options) Count() int {
	if o.Members == 0 {
		return 3
	}
	return o.Members
}

// Patience bounds the wait for a leader.
const Patience = 30 * time.Second

// Ports returns n free loopback addresses.
func Ports(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // only when all are known, so that they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// Until polls until ok returns true.
func Until(what string, ok func() bool) error {
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok() {
			return nil
		}
	}
	return fmt.Errorf("no %s within %v", what, Patience)
}
