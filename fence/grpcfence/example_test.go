package grpcfence_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/grpcfence"
)

func ExampleServer() {
	store := new(fence.MemoryStore) // of a server that outlives its Actives: fence.OpenFileStore
	fenced := &grpcfence.Server{Guard: fence.NewGuard("jobs", store)}
	server := grpc.NewServer(grpc.UnaryInterceptor(fenced.Unary), grpc.StreamInterceptor(fenced.Stream))
	grpc_health_v1.RegisterHealthServer(server, health.NewServer()) // stands for a service of yours
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()

	ask := func(t fence.Token) {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithUnaryInterceptor(grpcfence.UnaryClient(t)), grpc.WithStreamInterceptor(grpcfence.StreamClient(t)))
		if err != nil {
			fmt.Println(err)
			return
		}
		defer conn.Close()
		_, err = grpc_health_v1.NewHealthClient(conn).Check(context.Background(), new(grpc_health_v1.HealthCheckRequest))
		fmt.Println(t.Holder, err == nil, grpcfence.Check(err))
	}
	ask(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"})
	ask(fence.Token{Cluster: "jobs", Epoch: 8, Holder: "b"})
	ask(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}) // a was asleep
	server.Stop()
	<-done
	// Output:
	// a true <nil>
	// b true <nil>
	// a false fence: token jobs/7/a is stale: jobs/8/b has been here
}
