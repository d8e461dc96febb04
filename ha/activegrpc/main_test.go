package activegrpc_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activegrpc"
	"github.com/baton-ha/baton/ha/activegrpc/follow"
	"github.com/baton-ha/baton/ha/client"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		childMain()
		return
	}
	goleak.VerifyTestMain(m)
}

const patience = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A service has one method of each kind. All carry bytes.
type service struct {
	unary  func(ctx context.Context, in []byte) ([]byte, error)
	many   func(in []byte, st grpc.ServerStream) error // answers to one request
	stream func(st grpc.ServerStream) error
}

const (
	unaryMethod  = "/test.Service/Unary"
	manyMethod   = "/test.Service/Many"
	streamMethod = "/test.Service/Stream"
)

var manyDesc, streamDesc = grpc.StreamDesc{ServerStreams: true}, grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

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
				out, err := s.unary(ctx, in.Value)
				return wrapperspb.Bytes(out), err
			}
			if intercept == nil {
				return handler(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: unaryMethod}, handler)
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Many", ServerStreams: true, Handler: func(_ any, st grpc.ServerStream) error {
				in := new(wrapperspb.BytesValue)
				if err := st.RecvMsg(in); err != nil {
					return err
				}
				return s.many(in.Value, st)
			}},
			{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(_ any, st grpc.ServerStream) error { return s.stream(st) }},
		},
	}
}

func call(ctx context.Context, conn *grpc.ClientConn, in string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.BytesValue)
	err := conn.Invoke(ctx, unaryMethod, wrapperspb.Bytes([]byte(in)), out, opts...)
	return string(out.Value), err
}

func many(ctx context.Context, conn *grpc.ClientConn, in string) (grpc.ClientStream, error) {
	st, err := conn.NewStream(ctx, &manyDesc, manyMethod)
	if err != nil {
		return nil, err
	}
	if err := st.SendMsg(wrapperspb.Bytes([]byte(in))); err != nil {
		return nil, err
	}
	return st, st.CloseSend()
}

func recv(st grpc.ClientStream) (string, error) {
	out := new(wrapperspb.BytesValue)
	err := st.RecvMsg(out)
	return string(out.Value), err
}

// A site is three members that share their ports with a gRPC service.
type site struct {
	t       *testing.T
	members []ha.Member
	nodes   map[string]*ha.Node
	addrs   []string
}

// newSite starts a site. edit, if not nil, changes a member and its Server, svc makes its service.
func newSite(t *testing.T, edit func(c *ha.Config, s *activegrpc.Server), svc func(n *ha.Node) *service, opts ...grpc.ServerOption) *site {
	s := &site{t: t, nodes: map[string]*ha.Node{}}
	dir := t.TempDir()
	listeners := map[string]net.Listener{}
	for _, name := range []string{"a", "b", "c"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[name] = l
		s.members = append(s.members, ha.Member{Name: name, Addr: l.Addr().String()})
		s.addrs = append(s.addrs, l.Addr().String())
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	for _, m := range s.members {
		active := new(activegrpc.Server)
		cfg := ha.Config{
			Name: m.Name, Dir: filepath.Join(dir, m.Name), Cluster: "test", Members: s.members, Listener: listeners[m.Name], SharePort: true,
			Heartbeat: 100 * time.Millisecond, ElectionTimeout: 5 * time.Second, Logger: quiet, // so that no role ends by itself
		}
		if edit != nil {
			edit(&cfg, active)
		}
		n, err := ha.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.nodes[m.Name], active.Node = n, n
		g := grpc.NewServer(append(opts, grpc.ChainUnaryInterceptor(active.Unary), grpc.ChainStreamInterceptor(active.Stream))...)
		g.RegisterService(svc(n).desc(), struct{}{})
		wg.Go(func() { _ = g.Serve(n.Others()) })
		t.Cleanup(func() {
			n.Close()
			g.Stop()
		})
	}
	return s
}

// settled waits until all know the same Active, and returns its name and another one's.
func (s *site) settled() (active, other string) {
	s.t.Helper()
	eventually(s.t, "all know the Active", func() bool {
		active = ""
		for name, n := range s.nodes {
			st := n.Status()
			if active == "" {
				active = st.Active
			}
			if st.Active == "" || st.Active != active {
				return false
			}
			if name != active {
				other = name
			}
		}
		return s.nodes[active].Status().State == ha.Active
	})
	return active, other
}

func (s *site) addr(name string) string {
	for _, m := range s.members {
		if m.Name == name {
			return m.Addr
		}
	}
	return ""
}

// handOver lets another member be Active.
func (s *site) handOver() {
	s.t.Helper()
	was, _ := s.settled()
	eventually(s.t, "the role is handed over", func() bool {
		_ = s.nodes[was].Become(s.t.Context(), ha.Standby)
		now, _ := s.settled()
		return now != was
	})
}

func insecurely() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

// direct is a connection to one member that follows nobody.
func direct(t *testing.T, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	if len(opts) == 0 {
		opts = append(opts, insecurely())
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func dialCluster(t *testing.T, addrs ...string) *client.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, client.Config{Cluster: "test", Addrs: addrs, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// following is a connection of one kind.
func following(t *testing.T, kind func(*client.Client, follow.Config, ...grpc.DialOption) (*grpc.ClientConn, error), c *client.Client, cfg follow.Config, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	if len(opts) == 0 {
		opts = append(opts, insecurely())
	}
	conn, err := kind(c, cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
