package activegrpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activegrpc/follow"
	"github.com/baton-ha/baton/internal/tenure"
)

// Key is the header metadata of an answer that names the token under which it was made, in its text form. It is that of grpcfence.
const Key = "fencing-token"

// A Server has the interceptors that let calls through on the Active alone. Its fields must not be changed once it is used. Safe for concurrent use.
type Server struct {
	// Node is this process's member. Required.
	Node *ha.Node

	// Anywhere says which methods ("/package.Service/Method") this member serves whether it is Active or not: reads that may be stale, health
	// checks, reflection. Such a call has no token. It is called for each call. Nil: none.
	Anywhere func(method string) bool

	// Wait is how long a call waits for an Active when there is none, as in a failover. 0: it does not.
	Wait time.Duration
}

type tokenKey struct{}

// Token returns the token of the role in which a call is served. It is the zero Token for one that is served anywhere.
func Token(ctx context.Context) fence.Token {
	t, _ := ctx.Value(tokenKey{}).(fence.Token)
	return t
}

// Unary is a [grpc.UnaryServerInterceptor]. A call that it does not let through ends with Unavailable and a [follow.Refusal]. When the role ends while the
// handler runs, and that returns the error of its ctx, the call ends with Unavailable alone: it may have taken effect.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if s.Anywhere != nil && s.Anywhere(info.FullMethod) {
		return handler(ctx, req)
	}
	role, token, err := tenure.Await(ctx, s.Node, s.Wait)
	if err != nil {
		return nil, s.refuse(err)
	}
	ctx, cancel := serving(ctx, role, token)
	defer cancel()
	if err := grpc.SetHeader(ctx, metadata.Pairs(Key, token.String())); err != nil {
		return nil, err
	}
	reply, err := handler(ctx, req)
	return reply, ended(role, err)
}

// Stream is a [grpc.StreamServerInterceptor]. It answers as [Server.Unary] does. When the role ends, what the handler waits for in the stream ends with
// Unavailable; a message that it was receiving must not be used then.
func (s *Server) Stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if s.Anywhere != nil && s.Anywhere(info.FullMethod) {
		return handler(srv, stream)
	}
	role, token, err := tenure.Await(stream.Context(), s.Node, s.Wait)
	if err != nil {
		return s.refuse(err)
	}
	ctx, cancel := serving(stream.Context(), role, token)
	defer cancel()
	if err := stream.SetHeader(metadata.Pairs(Key, token.String())); err != nil {
		return err
	}
	return ended(role, handler(srv, &roleStream{stream, ctx, role}))
}

// serving returns the ctx of a handler.
func serving(ctx, role context.Context, token fence.Token) (context.Context, context.CancelFunc) {
	return tenure.Within(context.WithValue(ctx, tokenKey{}, token), role)
}

// refuse says that nothing of a call was done here.
func (s *Server) refuse(err error) error {
	if active := tenure.Elsewhere(s.Node, err); active != nil {
		return refusal(active)
	}
	return new(follow.Refusal)
}

func refusal(e *ha.NotActiveError) error {
	return &follow.Refusal{Active: e.Active, Addr: e.Addr, Advertise: e.Advertise}
}

// ended is the error of a handler whose ctx the role may have ended. What else it may be is the handler's own.
func ended(role context.Context, err error) error {
	if role.Err() == nil || !errors.Is(err, context.Canceled) && !errors.Is(err, context.Cause(role)) {
		return err
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return over(role)
}

// over says that a role has ended while a call was served.
func over(role context.Context) error {
	return status.Errorf(codes.Unavailable, "%v: whether the call has taken effect is not known", context.Cause(role))
}

// Status makes of an error of Append, AppendBatch, ReadBarrier or Call what a handler should return. It is a [follow.Refusal], which those who follow the Active
// repeat, if nothing was done for want of the role: only for the first thing that a handler does. Of other errors it is ResourceExhausted ([ha.ErrBusy],
// [ha.ErrNoRoom]), InvalidArgument ([ha.ErrTooLarge]), and Unavailable ([ha.ErrNoQuorum], and [ha.ErrUnknown], after which the record may be in the log) or
// that of an ended ctx. What is none of those, or a status already, stays as it is.
func Status(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	var not *ha.NotActiveError
	code := codes.Unavailable
	switch {
	case errors.Is(err, ha.ErrUnknown):
		if errors.Is(err, context.DeadlineExceeded) {
			code = codes.DeadlineExceeded
		}
	case errors.As(err, &not):
		return refusal(not)
	case errors.Is(err, ha.ErrFenced), errors.Is(err, ha.ErrNotActive), errors.Is(err, ha.ErrClosed):
		return new(follow.Refusal)
	case errors.Is(err, ha.ErrBusy):
		code = codes.ResourceExhausted // ErrNoRoom is one
	case errors.Is(err, ha.ErrTooLarge):
		code = codes.InvalidArgument
	case errors.Is(err, ha.ErrNoQuorum):
	default:
		return err
	}
	return status.Error(code, err.Error())
}

// A roleStream ends with the role.
type roleStream struct {
	grpc.ServerStream
	ctx, role context.Context
}

// Context implements [grpc.ServerStream].
func (s *roleStream) Context() context.Context { return s.ctx }

// RecvMsg implements [grpc.ServerStream].
func (s *roleStream) RecvMsg(m any) error {
	return s.wait(func() error { return s.ServerStream.RecvMsg(m) })
}

// SendMsg implements [grpc.ServerStream].
func (s *roleStream) SendMsg(m any) error {
	return s.wait(func() error { return s.ServerStream.SendMsg(m) })
}

// wait waits for a call that knows nothing of the role. One that is left behind ends with the stream, when the handler has returned.
func (s *roleStream) wait(call func() error) error {
	if s.ctx.Err() == nil {
		done := make(chan error, 1)
		go func() { done <- call() }()
		select {
		case err := <-done:
			return err
		case <-s.ctx.Done():
		}
	}
	if s.role.Err() != nil {
		return over(s.role)
	}
	return status.FromContextError(s.ctx.Err()).Err()
}
