package activegrpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activegrpc"
	"github.com/baton-ha/baton/ha/activegrpc/follow"
)

// Three kinds of calls are served on the Active alone, with its token, and end with its role.
func TestServer(t *testing.T) {
	t.Parallel()
	causes := make(chan error, 3)
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	}
	s := newSite(t, func(_ *ha.Config, s *activegrpc.Server) { s.Anywhere = func(m string) bool { return m == manyMethod } }, func(n *ha.Node) *service {
		return &service{
			unary: func(ctx context.Context, in []byte) ([]byte, error) {
				if string(in) == "hang" {
					return nil, hang(ctx)
				}
				return []byte(activegrpc.Token(ctx).String()), nil
			},
			many: func(_ []byte, st grpc.ServerStream) error {
				return st.SendMsg(wrapperspb.Bytes([]byte(n.Status().Name + activegrpc.Token(st.Context()).String())))
			},
			stream: func(st grpc.ServerStream) error {
				if err := st.SendMsg(wrapperspb.Bytes([]byte(activegrpc.Token(st.Context()).String()))); err != nil {
					return err
				}
				return st.RecvMsg(new(wrapperspb.BytesValue)) // nothing comes
			},
		}
	})
	active, other := s.settled()
	token := s.nodes[active].Status().Token.String()
	here, there := direct(t, s.addr(active)), direct(t, s.addr(other))

	var header metadata.MD
	if got, err := call(t.Context(), here, "", grpc.Header(&header)); got != token || err != nil || fmt.Sprint(header.Get(activegrpc.Key)) != "["+token+"]" {
		t.Errorf("on the Active: %q, %v, header %v, want %s", got, err, header, token)
	}
	_, err := call(t.Context(), there, "")
	if r := follow.Refused(err); r == nil || *r != (follow.Refusal{Active: active, Addr: s.addr(active)}) || status.Code(err) != codes.Unavailable {
		t.Errorf("elsewhere: %v", err)
	}
	st, err := there.NewStream(t.Context(), &streamDesc, streamMethod)
	if err == nil {
		_, err = recv(st)
	}
	if r := follow.Refused(err); r == nil || r.Active != active {
		t.Errorf("a stream elsewhere: %v", err)
	}
	st, err = many(t.Context(), there, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := recv(st); got != other+"none" {
		t.Errorf("anywhere: %q, %v", got, err)
	}

	st, err = here.NewStream(t.Context(), &streamDesc, streamMethod)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := recv(st); got != token {
		t.Errorf("a stream on the Active: %q, %v", got, err)
	}
	if h, err := st.Header(); fmt.Sprint(h.Get(activegrpc.Key)) != "["+token+"]" {
		t.Errorf("header %v, %v", h, err)
	}
	ends := make(chan error, 1)
	go func() {
		_, err := call(t.Context(), here, "hang")
		ends <- err
	}()
	time.Sleep(20 * time.Millisecond) // or it comes too late, and is refused below
	s.handOver()
	if err := <-ends; follow.Refused(err) == nil {
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not known") {
			t.Errorf("a call in a role that ends: %v", err)
		}
		if cause := <-causes; cause == nil || cause == context.Canceled {
			t.Errorf("its ctx has ended by %v", cause)
		}
	}
	if _, err := recv(st); status.Code(err) != codes.Unavailable || follow.Refused(err) != nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("a stream in a role that ends: %v", err)
	}
}

// Without an Active a call is refused at once, or waits as long as it may.
func TestServer_Wait(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *ha.Config, _ *activegrpc.Server) { c.StayAway = "for the test" }, func(*ha.Node) *service {
		return &service{unary: func(ctx context.Context, in []byte) ([]byte, error) { return in, nil }}
	})
	_, err := call(t.Context(), direct(t, s.addr("a")), "")
	if r := follow.Refused(err); r == nil || *r != (follow.Refusal{}) {
		t.Errorf("nobody is active: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	patient := &activegrpc.Server{Node: s.nodes["a"], Wait: patience}
	intercepted := func(ctx context.Context) error {
		_, err := patient.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: unaryMethod}, func(context.Context, any) (any, error) { return nil, nil })
		return err
	}
	if err := intercepted(ctx); follow.Refused(err) == nil || ctx.Err() == nil {
		t.Errorf("it has waited as long as its ctx: %v", err)
	}
	served := make(chan error, 1)
	go func() { served <- intercepted(grpc.NewContextWithServerTransportStream(t.Context(), new(noTransport))) }()
	s.nodes["a"].ComeBack()
	if err := <-served; err != nil {
		t.Errorf("who has waited is told %v", err)
	}
}

type noTransport struct{ grpc.ServerTransportStream }

func (noTransport) SetHeader(metadata.MD) error { return nil }

func TestStatus(t *testing.T) {
	t.Parallel()
	own := status.Error(codes.NotFound, "no such job")
	plain := errors.New("plain")
	for _, c := range []struct {
		err     error
		code    codes.Code
		refused bool
	}{
		{nil, codes.OK, false},
		{own, codes.NotFound, false},
		{plain, codes.Unknown, false},
		{&ha.NotActiveError{Active: "b", Addr: "h:1", Advertise: "h:2"}, codes.Unavailable, true},
		{ha.ErrFenced, codes.Unavailable, true},
		{ha.ErrClosed, codes.Unavailable, true},
		{fmt.Errorf("%w: %w", ha.ErrUnknown, ha.ErrDeposed), codes.Unavailable, false},
		{fmt.Errorf("%w: %w", ha.ErrUnknown, context.DeadlineExceeded), codes.DeadlineExceeded, false},
		{ha.ErrNoQuorum, codes.Unavailable, false},
		{ha.ErrBusy, codes.ResourceExhausted, false},
		{fmt.Errorf("%w: %w", ha.ErrNoRoom, ha.ErrBusy), codes.ResourceExhausted, false},
		{fmt.Errorf("%w: 9 bytes", ha.ErrTooLarge), codes.InvalidArgument, false},
	} {
		got := activegrpc.Status(c.err)
		if status.Code(got) != c.code || (follow.Refused(got) != nil) != c.refused {
			t.Errorf("Status(%v) = %v, want %v, refused %v", c.err, got, c.code, c.refused)
		}
	}
	if r := follow.Refused(activegrpc.Status(&ha.NotActiveError{Active: "b", Addr: "h:1", Advertise: "h:2"})); r == nil || *r != (follow.Refusal{Active: "b", Addr: "h:1", Advertise: "h:2"}) {
		t.Errorf("%v", r)
	}
	if follow.Refused(status.Error(codes.Unavailable, "of the service")) != nil || follow.Refused(plain) != nil || follow.Refused(nil) != nil {
		t.Error("what is no refusal is taken for one")
	}
}
