package grpcfence

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/baton-ha/baton/fence"
)

// Key is the metadata that carries the token.
const Key = "fencing-token"

// The ErrorInfo of a refusal has this domain, one of these reasons, and as its metadata "token" (what came), and "known" (what the server
// knows) or "cluster" (whose the server is).
const (
	Domain        = "github.com/baton-ha/baton/fence"
	ReasonStale   = "STALE_TOKEN"
	ReasonForeign = "FOREIGN_TOKEN"
)

// UnaryClient returns an interceptor that adds a token to each call. Make one for each role that OnActive is given. A call
// that has a token already keeps its own. The error is the call's, or wraps [fence.ErrInvalid] if t is not valid.
func UnaryClient(t fence.Token) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		ctx, err := with(ctx, t)
		if err != nil {
			return err
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}

// StreamClient is [UnaryClient] for streams.
func StreamClient(t fence.Token) grpc.StreamClientInterceptor {
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		ctx, err := with(ctx, t)
		if err != nil {
			return nil, err
		}
		return open(ctx, desc, cc, method, opts...)
	}
}

func with(ctx context.Context, t fence.Token) (context.Context, error) {
	if md, _ := metadata.FromOutgoingContext(ctx); len(md.Get(Key)) > 0 {
		return ctx, nil
	}
	if err := fence.Check(t, fence.Token{}); err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, Key, t.String()), nil
}

// Check returns the *[fence.StaleError] or *[fence.ForeignError] that the error of a call tells, and nil for every other one. With a
// client stream it is the error of RecvMsg (or CloseAndRecv); SendMsg says io.EOF.
func Check(err error) error {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.FailedPrecondition {
		return nil
	}
	for _, d := range s.Details() {
		info, ok := d.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != Domain {
			continue
		}
		t, _ := fence.Parse(info.GetMetadata()["token"])
		switch info.GetReason() {
		case ReasonStale:
			known, _ := fence.Parse(info.GetMetadata()["known"])
			return &fence.StaleError{Token: t, Known: known}
		case ReasonForeign:
			return &fence.ForeignError{Token: t, Cluster: info.GetMetadata()["cluster"]}
		}
	}
	return nil
}
