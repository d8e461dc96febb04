package activegrpc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/ha/activegrpc"
	"github.com/baton-ha/baton/ha/activegrpc/follow"
	"github.com/baton-ha/baton/ha/client"
)

// naming is a service that says who serves.
func naming(n *ha.Node) *service {
	name := []byte(n.Status().Name)
	return &service{
		unary:  func(context.Context, []byte) ([]byte, error) { return name, nil },
		many:   func(_ []byte, st grpc.ServerStream) error { return st.SendMsg(wrapperspb.Bytes(name)) },
		stream: func(st grpc.ServerStream) error { return st.SendMsg(wrapperspb.Bytes(name)) },
	}
}

// A connection goes on where the Active is, after each hand-over, with both kinds of calls that have one request.
func TestActive(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, naming)
	c := dialCluster(t, s.addrs[0])
	conn := following(t, follow.Active, c, follow.Config{})
	for range 4 {
		active, _ := s.settled()
		if who, err := call(t.Context(), conn, ""); who != active || err != nil {
			t.Errorf("%q, %v has served, and %s is active", who, err, active)
		}
		st, err := many(t.Context(), conn, "")
		if err != nil {
			t.Fatal(err)
		}
		if who, err := recv(st); who != active || err != nil {
			t.Errorf("%q, %v has streamed, and %s is active", who, err, active)
		}
		s.handOver()
	}
}

// What is refused is made again, whoever tells us who is Active: here nobody does until then.
func TestActive_Refused(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, naming)
	_, other := s.settled()
	c := dialCluster(t, s.addrs[0])
	var wrong atomic.Bool
	wrong.Store(true)
	elsewhere := s.addr(other)
	cfg := follow.Config{Dial: func(ctx context.Context, to string) (net.Conn, error) {
		if wrong.Load() {
			to = elsewhere
		}
		return new(net.Dialer).DialContext(ctx, "tcp", to)
	}}
	cfg.Patience = -1
	conn := following(t, follow.Active, c, cfg)
	if _, err := call(t.Context(), conn, ""); follow.Refused(err) == nil {
		t.Errorf("without patience: %v", err)
	}
	cfg.Patience = 100 * time.Millisecond
	conn = following(t, follow.Active, c, cfg)
	began := time.Now()
	if _, err := call(t.Context(), conn, ""); follow.Refused(err) == nil || time.Since(began) > patience {
		t.Errorf("with patience of 100 ms: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	cfg.Patience = 0
	conn = following(t, follow.Active, c, cfg)
	if _, err := call(ctx, conn, ""); err == nil || ctx.Err() == nil && status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("it has failed before its ctx: %v", err)
	}
	st, err := conn.NewStream(t.Context(), &streamDesc, streamMethod)
	if err == nil {
		_, err = recv(st)
	}
	if follow.Refused(err) == nil {
		t.Errorf("a stream of requests: %v", err)
	}
	answer := make(chan string, 2)
	for _, f := range []func() (string, error){
		func() (string, error) { return call(t.Context(), conn, "") },
		func() (string, error) {
			st, err := many(t.Context(), conn, "")
			if err != nil {
				return "", err
			}
			return recv(st)
		},
	} {
		go func() {
			who, err := f()
			answer <- fmt.Sprint(who, err)
		}()
	}
	wrong.Store(false)
	s.handOver() // so that there is another connection
	active, _ := s.settled()
	for range 2 {
		if got := <-answer; got != active+"<nil>" {
			t.Errorf("who was refused first has got %s, and %s is active", got, active)
		}
	}
}

// What may have taken effect is made again where that does no harm.
func TestActive_Idempotent(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := newSite(t, nil, func(*ha.Node) *service {
		return &service{
			unary: func(context.Context, []byte) ([]byte, error) {
				if calls.Add(1)%2 == 1 {
					return nil, status.Error(codes.Unavailable, "try again")
				}
				return nil, nil
			},
			many: func(_ []byte, st grpc.ServerStream) error {
				if calls.Add(1)%2 == 1 {
					return status.Error(codes.Unavailable, "try again")
				}
				if err := st.SendMsg(wrapperspb.Bytes(nil)); err != nil {
					return err
				}
				return status.Error(codes.Unavailable, "broken")
			},
		}
	})
	c := dialCluster(t, s.addrs[0])
	for _, may := range []bool{false, true} {
		conn := following(t, follow.Active, c, follow.Config{Idempotent: func(m string) bool { return may && (m == unaryMethod || m == manyMethod) }})
		calls.Store(0)
		if _, err := call(t.Context(), conn, ""); (err == nil) != may || calls.Load() != map[bool]int32{false: 1, true: 2}[may] {
			t.Errorf("idempotent %v: %v after %d calls", may, err, calls.Load())
		}
		calls.Store(0)
		st, err := many(t.Context(), conn, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := recv(st); (err == nil) != may {
			t.Errorf("idempotent %v: %v", may, err)
		}
		if _, err := recv(st); may && (status.Convert(err).Message() != "broken" || calls.Load() != 2) {
			t.Errorf("a stream that breaks after its first answer is begun again: %v", err)
		}
	}
}

// All members are asked in turn.
func TestMembers(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(_ *ha.Config, s *activegrpc.Server) { s.Anywhere = func(m string) bool { return m == unaryMethod } }, naming)
	active, _ := s.settled()
	conn := following(t, follow.Members, dialCluster(t, s.addrs[0]), follow.Config{})
	seen := map[string]bool{}
	eventually(t, "all have been asked", func() bool {
		who, err := call(t.Context(), conn, "")
		if err != nil {
			t.Fatal(err)
		}
		seen[who] = true
		return len(seen) == 3
	})
	st, err := many(t.Context(), conn, "") // which only the Active serves
	if err != nil {
		t.Fatal(err)
	}
	if who, err := recv(st); who != active || err != nil {
		t.Errorf("%q, %v has served, and %s is active", who, err, active)
	}
}

// The service has TLS of its own behind a port that is shared, with members that have TLS, too, and without; each member is known by its own host.
func TestActive_TLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "service"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	secure := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, RootCAs: roots, ClientCAs: roots}
	for what, between := range map[string]*tls.Config{"plain members": nil, "secure members": secure} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *ha.Config, _ *activegrpc.Server) { c.TLS = between }, naming, grpc.Creds(credentials.NewTLS(secure)))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c, err := client.Dial(ctx, client.Config{Cluster: "test", Addrs: s.addrs, TLS: between, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			conn := following(t, follow.Active, c, follow.Config{}, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
			for range 2 {
				active, _ := s.settled()
				if who, err := call(t.Context(), conn, ""); who != active || err != nil {
					t.Errorf("%q, %v has served, and %s is active", who, err, active)
				}
				s.handOver()
			}
			conn.Close()
		})
	}
}

// Nobody to be found is said so to those who do not wait, and those who do wait as long as their ctx.
func TestActive_Nowhere(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, naming)
	c := dialCluster(t, s.addrs[0])
	conn := following(t, follow.Active, c, follow.Config{Address: func(client.Member) string { return "" }})
	eventually(t, "it says why", func() bool {
		_, err := call(t.Context(), conn, "", grpc.WaitForReady(false))
		return status.Code(err) == codes.Unavailable && follow.Refused(err) == nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := call(ctx, conn, ""); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	none, err := grpc.NewClient("baton:///nobody", insecurely(), grpc.WithResolvers(follow.Resolver(c, follow.Config{})))
	if err == nil { // it is found out with the first call
		defer none.Close()
		_, err = call(t.Context(), none, "")
	}
	if err == nil {
		t.Error("a target that is none is called")
	}
	plain, err := grpc.NewClient("baton:///", insecurely(), grpc.WithResolvers(follow.Resolver(c, follow.Config{})), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	s.settled()
	if _, err := call(t.Context(), plain, ""); err != nil {
		t.Errorf("the resolver alone: %v", err)
	}
	c.Close()
	eventually(t, "it says that the client is closed", func() bool {
		_, err := call(t.Context(), conn, "", grpc.WaitForReady(false))
		return strings.Contains(err.Error(), client.ErrClosed.Error())
	})
}
