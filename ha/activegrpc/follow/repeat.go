package follow

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/baton-ha/baton/ha/client"
)

const (
	minPause = 10 * time.Millisecond
	maxPause = time.Second
)

// A repeater makes calls again that were refused, and those that may be made twice.
type repeater struct {
	c   *client.Client
	cfg Config
}

// A trial is one call, made once and again.
type trial struct {
	r      *repeater
	ctx    context.Context
	method string
	until  time.Time
	pause  time.Duration  // the last one
	knew   client.Cluster // when it was made last
}

func (r *repeater) begin(ctx context.Context, method string) *trial {
	return &trial{r: r, ctx: ctx, method: method, until: time.Now().Add(r.cfg.Patience), knew: r.c.Cluster()}
}

// again reports whether a call that has ended so is to be made again, and waits until then: for a growing pause, or until somebody
// else is Active.
func (t *trial) again(err error) bool {
	if Refused(err) == nil && (status.Code(err) != codes.Unavailable || !t.r.cfg.Idempotent(t.method)) {
		return false
	}
	t.pause = min(max(2*t.pause, minPause), maxPause)
	at := time.Now().Add(t.pause/2 + rand.N(t.pause/2))
	if at.After(t.until) {
		return false
	}
	ctx, cancel := context.WithDeadline(t.ctx, at)
	defer cancel()
	for now := range t.r.c.Watch(ctx) {
		if now.Epoch != t.knew.Epoch || now.Active != t.knew.Active {
			t.knew = now
			break
		}
	}
	return t.ctx.Err() == nil
}

func (r *repeater) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err == nil {
		return nil
	}
	for t := r.begin(ctx, method); t.again(err); {
		if err = invoke(ctx, method, req, reply, cc, opts...); err == nil {
			return nil
		}
	}
	return err
}

func (r *repeater) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	reopen := func() (grpc.ClientStream, error) { return open(ctx, desc, cc, method, opts...) }
	st, err := reopen()
	if err != nil || desc.ClientStreams {
		return st, err
	}
	return &answers{ClientStream: st, reopen: reopen, trial: r.begin(ctx, method)}, nil
}

// answers is a stream of answers to one request, which is made again as long as none has come.
type answers struct {
	grpc.ClientStream
	reopen func() (grpc.ClientStream, error)
	trial  *trial
	sent   any
	begun  bool
}

// SendMsg implements [grpc.ClientStream].
func (s *answers) SendMsg(m any) error {
	s.sent = m
	return s.ClientStream.SendMsg(m)
}

// RecvMsg implements [grpc.ClientStream].
func (s *answers) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	for !s.begun && err != nil && s.trial.again(err) {
		err = s.ask()
		if err == nil {
			err = s.ClientStream.RecvMsg(m)
		}
	}
	s.begun, s.sent = true, nil
	return err
}

// ask makes the request again. An error of sending it comes from RecvMsg, too.
func (s *answers) ask() error {
	st, err := s.reopen()
	if err != nil {
		return err
	}
	s.ClientStream = st
	_ = st.SendMsg(s.sent)
	_ = st.CloseSend()
	return nil
}
