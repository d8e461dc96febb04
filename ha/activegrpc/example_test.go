package activegrpc_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activegrpc"
	"github.com/baton-ha/baton/ha/activegrpc/follow"
	"github.com/baton-ha/baton/ha/client"
)

// Three members share their ports with a service; a connection goes on where the Active is.
func Example() {
	dir, err := os.MkdirTemp("", "activegrpc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	var members []ha.Member
	var listeners []net.Listener
	for _, name := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return
		}
		members, listeners = append(members, ha.Member{Name: name, Addr: l.Addr().String()}), append(listeners, l)
	}
	nodes := map[string]*ha.Node{}
	for i, m := range members {
		n, err := ha.Open(ha.Config{
			Name: m.Name, Dir: filepath.Join(dir, m.Name), Cluster: "jobs", Members: members, Listener: listeners[i], SharePort: true,
			ElectionTimeout: 2 * time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer n.Close()
		nodes[m.Name] = n

		s := &activegrpc.Server{Node: n, Wait: 5 * time.Second}
		g := grpc.NewServer(grpc.ChainUnaryInterceptor(s.Unary), grpc.ChainStreamInterceptor(s.Stream))
		grpc_health_v1.RegisterHealthServer(g, health.NewServer()) // stands for a service of yours
		go g.Serve(n.Others())
		defer g.Stop()
	}

	// A program elsewhere.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{Cluster: "jobs", Addrs: []string{members[0].Addr, members[1].Addr, members[2].Addr}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	conn, err := follow.Active(c, follow.Config{}, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	for range 3 {
		reply, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, new(grpc_health_v1.HealthCheckRequest))
		fmt.Println(reply.GetStatus(), err)

		if active, err := c.Active(ctx); err == nil {
			_ = nodes[active.Name].Become(ctx, ha.Standby) // an error: nobody else is there yet, and it stays Active
		}
	}
	// Output:
	// SERVING <nil>
	// SERVING <nil>
	// SERVING <nil>
}
