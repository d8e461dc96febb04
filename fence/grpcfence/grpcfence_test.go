package grpcfence_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/grpcfence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func token(epoch uint64) fence.Token { return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: "a"} }

// A service has one method of each kind. Nil functions do nothing.
type service struct {
	unary  func(ctx context.Context) error
	stream func(s grpc.ServerStream) error
}

const unaryMethod, streamMethod = "/test.Service/Unary", "/test.Service/Stream"

func (s *service) desc() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.Service",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			handler := func(ctx context.Context, req any) (any, error) {
				if s.unary != nil {
					if err := s.unary(ctx); err != nil {
						return nil, err
					}
				}
				return new(emptypb.Empty), nil
			}
			if intercept == nil {
				return handler(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: unaryMethod}, handler)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			return s.stream(stream)
		}}},
	}
}

// serve starts a server in memory, and returns how to connect to it. A nil fence is none.
func serve(t testing.TB, f *grpcfence.Server, s *service) func(opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	var opts []grpc.ServerOption
	if f != nil {
		opts = append(opts, grpc.UnaryInterceptor(f.Unary), grpc.StreamInterceptor(f.Stream))
	}
	server, l := grpc.NewServer(opts...), bufconn.Listen(1<<16)
	server.RegisterService(s.desc(), struct{}{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { server.Stop(); wg.Wait() })
	return func(opts ...grpc.DialOption) *grpc.ClientConn {
		conn, err := grpc.NewClient("passthrough:///memory", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
}

func as(tok fence.Token) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithUnaryInterceptor(grpcfence.UnaryClient(tok)), grpc.WithStreamInterceptor(grpcfence.StreamClient(tok))}
}

func call(ctx context.Context, conn *grpc.ClientConn) error {
	return conn.Invoke(ctx, unaryMethod, wrapperspb.Bytes(nil), new(emptypb.Empty))
}

func open(ctx context.Context, conn *grpc.ClientConn) (grpc.ClientStream, error) {
	return conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, streamMethod)
}

func guard() *fence.Guard { return fence.NewGuard("jobs", new(fence.MemoryStore)) }

func TestRefuses(t *testing.T) {
	var seen []fence.Token
	echo := &service{
		unary: func(ctx context.Context) error { seen = append(seen, grpcfence.TokenOf(ctx)); return nil },
		stream: func(s grpc.ServerStream) error {
			seen = append(seen, grpcfence.TokenOf(s.Context()))
			return s.SendMsg(new(emptypb.Empty))
		},
	}
	dial := serve(t, &grpcfence.Server{Guard: guard()}, echo)
	ctx := t.Context()
	both := func(conn *grpc.ClientConn, ctx context.Context, check func(what string, err error)) {
		check("unary", call(ctx, conn))
		s, err := open(ctx, conn)
		if err == nil {
			err = s.RecvMsg(new(emptypb.Empty))
		}
		if err == nil && s.RecvMsg(new(emptypb.Empty)) != io.EOF {
			t.Error("the stream goes on")
		}
		check("stream", err)
	}
	both(dial(as(token(7))...), ctx, func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	both(dial(as(token(6))...), ctx, func(what string, err error) {
		var stale *fence.StaleError
		if !errors.As(grpcfence.Check(err), &stale) || *stale != (fence.StaleError{Token: token(6), Known: token(7)}) || status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s with a lower token: %v", what, err)
		}
	})
	other := fence.Token{Cluster: "work", Epoch: 9, Holder: "a"}
	both(dial(as(other)...), ctx, func(what string, err error) {
		var foreign *fence.ForeignError
		if !errors.As(grpcfence.Check(err), &foreign) || *foreign != (fence.ForeignError{Token: other, Cluster: "jobs"}) {
			t.Errorf("%s with a token of another cluster: %v", what, err)
		}
	})
	both(dial(as(fence.Token{})...), ctx, func(what string, err error) {
		if !errors.Is(err, fence.ErrInvalid) {
			t.Errorf("%s with the zero token: %v", what, err)
		}
	})
	for _, fields := range [][]string{nil, {""}, {"jobs/0/a"}, {"jobs/8/a", "jobs/9/a"}} {
		ctx := ctx
		for _, f := range fields {
			ctx = metadata.AppendToOutgoingContext(ctx, grpcfence.Key, f)
		}
		both(dial(), ctx, func(what string, err error) {
			if status.Code(err) != codes.InvalidArgument || grpcfence.Check(err) != nil {
				t.Errorf("%s with %q: %v", what, fields, err)
			}
		})
	}
	both(dial(as(token(3))...), metadata.AppendToOutgoingContext(ctx, grpcfence.Key, token(7).String()), func(what string, err error) {
		if err != nil {
			t.Errorf("%s that has a token: %v", what, err)
		}
	})
	if fmt.Sprint(seen) != "[jobs/7/a jobs/7/a jobs/7/a jobs/7/a]" {
		t.Errorf("served: %v", seen)
	}
}

func TestFree(t *testing.T) {
	free := func(method string) bool { return method == unaryMethod }
	dial := serve(t, &grpcfence.Server{Guard: guard(), Free: free}, &service{stream: func(grpc.ServerStream) error { return nil }})
	if err := call(t.Context(), dial()); err != nil {
		t.Errorf("a free method: %v", err)
	}
	s, err := open(t.Context(), dial())
	if err == nil {
		err = s.RecvMsg(new(emptypb.Empty))
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("another one: %v", err)
	}
	if err := call(t.Context(), dial(as(token(2))...)); err != nil {
		t.Error(err)
	}
	if err := call(t.Context(), dial(as(token(1))...)); grpcfence.Check(err) == nil {
		t.Errorf("a free method with a stale token: %v", err)
	}
}

type failing struct{}

func (failing) Raise(context.Context, fence.Token) (fence.Token, error) {
	return fence.Token{}, errors.New("the disk /secret is full")
}

func TestErrors(t *testing.T) {
	dial := serve(t, &grpcfence.Server{Guard: fence.NewGuard("jobs", failing{})}, &service{})
	if err := call(t.Context(), dial(as(token(1))...)); status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "the fence cannot answer" {
		t.Errorf("a store that fails: %v", err)
	}
	own := status.Error(codes.NotFound, "no such job")
	s := &service{unary: func(context.Context) error { return own }}
	dial = serve(t, &grpcfence.Server{Guard: guard()}, s)
	if err := call(t.Context(), dial(as(token(1))...)); status.Code(err) != codes.NotFound {
		t.Errorf("the handler's error: %v", err)
	}
	s.unary = func(context.Context) error {
		return fmt.Errorf("write: %w", &fence.StaleError{Token: token(1), Known: token(4)})
	}
	var stale *fence.StaleError
	if err := call(t.Context(), dial(as(token(1))...)); !errors.As(grpcfence.Check(err), &stale) || stale.Known != token(4) {
		t.Errorf("what a fence behind the handler says: %v", err)
	}
	over, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	s.unary = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	if err := call(over, dial(as(token(1))...)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a deadline: %v", err)
	}
	for _, err := range []error{nil, io.EOF, status.Error(codes.FailedPrecondition, "of the service"), own} {
		if e := grpcfence.Check(err); e != nil {
			t.Errorf("Check(%v) = %v", err, e)
		}
	}
}

// A handler that runs for an older token is interrupted, whatever it waits for in its stream, and the newer one waits until it has
// returned.
func TestSuperseded(t *testing.T) {
	for what, wait := range map[string]func(s grpc.ServerStream) error{
		"context": func(s grpc.ServerStream) error { <-s.Context().Done(); return s.Context().Err() },
		"receive": func(s grpc.ServerStream) error { return s.RecvMsg(new(wrapperspb.BytesValue)) },
		"send": func(s grpc.ServerStream) error {
			for {
				if err := s.SendMsg(wrapperspb.Bytes(make([]byte, 1<<16))); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			began, returned := make(chan struct{}), atomic.Bool{}
			s := &service{
				stream: func(stream grpc.ServerStream) error {
					close(began)
					err := wait(stream)
					if e := stream.RecvMsg(new(wrapperspb.BytesValue)); grpcfence.Check(e) == nil {
						t.Errorf("the stream goes on: %v", e)
					}
					time.Sleep(20 * time.Millisecond) // it does not stop at once
					returned.Store(true)
					return err
				},
				unary: func(context.Context) error {
					if !returned.Load() {
						t.Error("handlers of two tokens at the same time")
					}
					return nil
				},
			}
			dial := serve(t, &grpcfence.Server{Guard: guard()}, s)
			old, err := open(t.Context(), dial(as(token(1))...))
			if err != nil {
				t.Fatal(err)
			}
			<-began
			if err := call(t.Context(), dial(as(token(2))...)); err != nil {
				t.Error(err)
			}
			for err = nil; err == nil; {
				err = old.RecvMsg(new(wrapperspb.BytesValue))
			}
			var stale *fence.StaleError
			if !errors.As(grpcfence.Check(err), &stale) || stale.Known != token(2) {
				t.Errorf("the client of the older: %v", err)
			}
		})
	}
}

// Two clients race while the server is restarted: what takes effect never goes back to a lower token.
func TestRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	var newest, last atomic.Uint64
	for range 4 {
		store, err := fence.OpenFileStore(path)
		if err != nil {
			t.Fatal(err)
		}
		dial := serve(t, &grpcfence.Server{Guard: fence.NewGuard("jobs", store)}, &service{unary: func(ctx context.Context) error {
			mine := grpcfence.TokenOf(ctx).Epoch
			if was := last.Swap(mine); was > mine {
				t.Errorf("%d after %d", mine, was)
			}
			return nil
		}})
		var wg sync.WaitGroup
		for range 2 {
			conn := dial()
			wg.Go(func() {
				mine := newest.Add(1)
				for range 1250 {
					if rand.IntN(100) == 0 {
						mine = newest.Add(1)
					}
					err := call(metadata.AppendToOutgoingContext(t.Context(), grpcfence.Key, token(mine).String()), conn)
					if err != nil && grpcfence.Check(err) == nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		store.Close()
	}
}

// What the token costs a call, and a message of a stream, in memory.
func BenchmarkCall(b *testing.B) {
	s := &service{stream: func(s grpc.ServerStream) error {
		for {
			if err := s.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
				return nil
			}
		}
	}}
	for name, f := range map[string]*grpcfence.Server{"token=no": nil, "token=yes": {Guard: guard()}} {
		opts := as(token(1))
		if f == nil {
			opts = nil
		}
		conn := serve(b, f, s)(opts...)
		b.Run("unary/"+name, func(b *testing.B) {
			for b.Loop() {
				if err := call(b.Context(), conn); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("stream/"+name, func(b *testing.B) {
			stream, err := open(b.Context(), conn)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := stream.SendMsg(wrapperspb.Bytes(make([]byte, 1024))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
