// Package grpcfence carries fencing tokens over gRPC: interceptors that add the Active's token to each call, and a
// [Server] whose interceptors stand before a service and let only the newest one through.
//
//	conn, err := grpc.NewClient(addr, grpc.WithUnaryInterceptor(grpcfence.UnaryClient(token)),
//		grpc.WithStreamInterceptor(grpcfence.StreamClient(token)))                          // the Active
//
//	fenced := &grpcfence.Server{Guard: guard}
//	s := grpc.NewServer(grpc.UnaryInterceptor(fenced.Unary), grpc.StreamInterceptor(fenced.Stream)) // who is asked
//
// The token travels as the metadata "fencing-token", in its text form. A call with a stale token, or one of another cluster, ends with
// FailedPrecondition and an ErrorInfo (google.rpc) as its detail, from which [Check] makes the *fence.StaleError again on the client's side.
//
// It is a module of its own, so that gRPC does not enter everybody's go.sum.
//
// # What holds
//
// What the [fence.Guard] promises: a call of an older token is not passed on once a newer one has been here, also after
// the server was restarted, if the Guard's Store is durable; and the handlers of two epochs do not run at the same time. A handler that
// still runs for an older token when a newer one comes sees its context end with the *fence.StaleError as the cause, and its stream
// break off: it receives and sends nothing more, also if it is just waiting for the other side. The newer one
// waits until it has returned.
//
// # What does not
//
// What the handler has sent on to others is out of the Guard's hands: give them the token. Several servers before one resource need one
// Store that they share, and even then only the token's order is kept, not the waiting (see [fence.Guard]): put the fence where the
// resource is. The token is no secret and no proof of who asks.
package grpcfence
