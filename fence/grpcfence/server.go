package grpcfence

import (
	"context"
	"errors"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/baton-ha/baton/fence"
)

// A Server has the interceptors that let only calls of the newest token through. Safe for concurrent use.
type Server struct {
	// Guard decides. It may stand before several services that share a resource.
	Guard *fence.Guard
	// Free says which methods ("/package.Service/Method") may be called without a token: health checks, reads. With one they are
	// guarded like others. Nil: none.
	Free func(method string) bool
}

type tokenKey struct{}

// TokenOf returns the token of a call that a [Server] has let through, the zero Token if it came without one.
func TokenOf(ctx context.Context) fence.Token {
	t, _ := ctx.Value(tokenKey{}).(fence.Token)
	return t
}

// Unary is a [grpc.UnaryServerInterceptor]. It ends a call with InvalidArgument if it has no valid token, with FailedPrecondition if
// that is stale or of another cluster, and with Unavailable if the Guard's Store fails. A handler that fails after its
// token was superseded has failed for that.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	err = s.guard(ctx, info.FullMethod, func(ctx context.Context) error {
		reply, err = handler(ctx, req)
		return err
	})
	return reply, err
}

// Stream is a [grpc.StreamServerInterceptor]. It answers as [Server.Unary] does. When the token is superseded, what the handler
// waits for in the stream ends with FailedPrecondition; a message that it was receiving must not be used then.
func (s *Server) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.guard(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		return handler(srv, &fenced{stream, ctx})
	})
}

// guard calls the handler if the call may pass.
func (s *Server) guard(ctx context.Context, method string, handler func(ctx context.Context) error) error {
	fields := metadata.ValueFromIncomingContext(ctx, Key)
	if len(fields) == 0 && s.Free != nil && s.Free(method) {
		return handler(ctx)
	}
	if len(fields) != 1 {
		return status.Errorf(codes.InvalidArgument, "the call needs one %s", Key)
	}
	t, err := fence.Parse(fields[0])
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "the call needs a valid %s", Key)
	}
	began := false
	err = s.Guard.Do(ctx, t, func(ctx context.Context) error {
		began = true
		err := handler(context.WithValue(ctx, tokenKey{}, t))
		if stale := superseded(ctx); err != nil && stale != nil {
			return stale
		}
		return err
	})
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if began && !errors.As(err, &stale) && !errors.As(err, &foreign) {
		return err // the handler's
	}
	return statusOf(ctx, t, err)
}

// superseded returns the *fence.StaleError that ended ctx, nil if none has.
func superseded(ctx context.Context) error {
	var e *fence.StaleError
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &e) {
		return e
	}
	return nil
}

// statusOf makes a status of an error of the guard.
func statusOf(ctx context.Context, t fence.Token, err error) error {
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	info := &errdetails.ErrorInfo{Domain: Domain, Metadata: map[string]string{"token": t.String()}}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &stale):
		info.Reason, info.Metadata["known"] = ReasonStale, stale.Known.String()
	case errors.As(err, &foreign):
		info.Reason, info.Metadata["cluster"] = ReasonForeign, foreign.Cluster
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	default:
		return status.Error(codes.Unavailable, "the fence cannot answer")
	}
	s, e := status.New(codes.FailedPrecondition, err.Error()).WithDetails(info)
	if e != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return s.Err()
}

// A fenced stream ends with its token.
type fenced struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements [grpc.ServerStream].
func (s *fenced) Context() context.Context { return s.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *fenced) RecvMsg(m any) error {
	return s.wait(func() error { return s.ServerStream.RecvMsg(m) })
}

// SendMsg implements [grpc.ServerStream].
func (s *fenced) SendMsg(m any) error {
	return s.wait(func() error { return s.ServerStream.SendMsg(m) })
}

// wait waits for a call that knows nothing of the token. One that is left behind ends with the stream, when the handler has returned.
func (s *fenced) wait(call func() error) error {
	if s.ctx.Err() == nil {
		done := make(chan error, 1)
		go func() { done <- call() }()
		select {
		case err := <-done:
			return err
		case <-s.ctx.Done():
		}
	}
	if err := superseded(s.ctx); err != nil {
		return statusOf(s.ctx, TokenOf(s.ctx), err)
	}
	return status.FromContextError(s.ctx.Err()).Err()
}
