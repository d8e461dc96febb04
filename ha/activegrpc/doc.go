// Package activegrpc lets a program's own gRPC service be served by the Active, whichever member is asked.
//
//	node, err := ha.Open(ha.Config{..., Advertise: "10.0.0.1:8000"})
//	...
//	s := &activegrpc.Server{Node: node}
//	g := grpc.NewServer(grpc.ChainUnaryInterceptor(s.Unary), grpc.ChainStreamInterceptor(s.Stream))
//
// On the Active the interceptors of a [Server] call the handler, with the token in its ctx ([Token]), and a ctx that ends with the role. On any
// other member a call ends with Unavailable before its handler is called, and the details say who is Active and where: a [follow.Refusal].
// Package follow, for the programs that call, has connections that go where the Active is.
//
// With ha.Config.SharePort the service needs no port of its own: g.Serve(node.Others()).
//
// It is a module of its own, so that gRPC does not enter everybody's go.sum.
//
// # What it does not do
//
// It carries no call to another member, as activehttp can: those who call over gRPC keep a connection, and one that follows the Active costs
// neither a second hop nor the copy of each message, while an interceptor that carries would have to know every service's types.
//
// It does not make a call be served once: an answer that is lost leaves open what has happened, as everywhere in gRPC ([ha.Node.Call] takes effect
// once). And that a call was served by the Active does not mean that this member was still Active at its end: what a handler does must go
// through [ha.Node.Append] with the token, or to a resource that checks tokens. The header of an answer names the token under which it was made.
package activegrpc
