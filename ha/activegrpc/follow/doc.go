// Package follow is for programs that call a gRPC service which the Active serves (package activegrpc): connections that go where the Active is.
//
//	c, err := client.Dial(ctx, client.Config{Cluster: "jobs", Addrs: []string{"a:7000", "b:7000", "c:7000"}})
//	...
//	conn, err := follow.Active(c, follow.Config{}, grpc.WithTransportCredentials(creds))
//	...
//	jobs := pb.NewJobsClient(conn)
//
// The [client.Client] tells who is Active and where its service is reached (ha.Config.Advertise); a connection follows it through failovers. A call that comes to a
// member that is not Active is refused by that before anything is done, and made again where the Active is now: with pauses between 10 ms and 1 s that no two
// callers share, until its ctx ends, or [Config.Patience]. A call that finds nobody waits in the same way, as grpc.WaitForReady has it, but as long as its ctx allows. What
// was under way when a connection broke is open: it may have taken effect. It ends with Unavailable, and is made again only if
// [Config.Idempotent] allows it.
//
// Calls with one request are made again, unary or with a stream of answers, as long as the first of these has not come. A stream of requests that is refused ends with
// the [Refusal]: what was sent on it is gone, and the program begins it again.
//
// A program with this package links gRPC, and neither raft nor a write-ahead log.
package follow
