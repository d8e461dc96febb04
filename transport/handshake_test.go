package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/baton-ha/baton/internal/session"
)

// refusal returns what Probe says and what the listening side was told. The listener is b, and knows a.
func refusal(t *testing.T, ca, cb Config, to string) (dialler, listener error) {
	t.Helper()
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	p := b.self
	p.Name = to
	_, dialler = Probe(t.Context(), ca, p)
	if dialler != nil {
		b.wait(t, "listener's side", func() bool { return len(b.refusals) > 0 })
		listener = b.noes()[0]
	}
	return dialler, listener
}

func says(h Hello) func() Hello { return func() Hello { return h } }

func TestT13_EveryRefusalOnBothSides(t *testing.T) {
	for _, c := range []struct {
		name     string
		want     error
		texts    []string
		to       string
		change   func(a, b *Config)
		byDialer bool
	}{
		{name: "cluster", want: ErrWrongCluster, texts: []string{`"jobs"`, `"mail"`}, change: func(a, b *Config) { a.Hello = says(Hello{Cluster: "mail"}) }},
		{name: "cluster id", want: ErrClusterID, texts: []string{"0101", "0202"}, change: func(a, b *Config) {
			a.Hello = says(Hello{Cluster: "jobs", ClusterID: []byte{1, 1}})
			b.Hello = says(Hello{Cluster: "jobs", ClusterID: []byte{2, 2}})
		}},
		{name: "wrong member", want: ErrWrongMember, to: "c", texts: []string{`"a"`, `"b"`, `"c"`}},
		{name: "duplicate name", want: ErrDuplicate, change: func(a, b *Config) { a.Self = b.Self }},
		{name: "unknown member", want: ErrUnknownMember, texts: []string{`"d"`}, change: func(a, b *Config) { a.Self = peerAt("d", "127.0.0.1:1") }},
		{name: "other id", want: ErrIDMismatch, change: func(a, b *Config) { a.Self.ID = 77 }},
		{name: "member lists", want: ErrMemberList, texts: []string{`["a" "b"]`, `["a" "b" "c"]`}, change: func(a, b *Config) {
			a.Hello = says(Hello{Cluster: "jobs", Members: []string{"a", "b"}})
		}},
		{name: "listener does not admit", want: ErrNotAdmitted, texts: []string{"come back later"}, change: func(a, b *Config) {
			b.Admit = func(h Hello) error { return fmt.Errorf("%s, come back later", h.Name) }
		}},
		{name: "removed", want: ErrRemoved, texts: []string{"since yesterday"}, change: func(a, b *Config) {
			b.Admit = func(h Hello) error { return fmt.Errorf("%s is %w since yesterday", h.Name, ErrRemoved) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca, cb := config("a"), config("b")
			if c.change != nil {
				c.change(&ca, &cb)
			}
			to := "b"
			if c.to != "" {
				to = c.to
			}
			dialler, listener := refusal(t, ca, cb, to)
			for side, err := range map[string]error{"dialler": dialler, "listener": listener} {
				var r *RefusedError
				if !errors.Is(err, c.want) || !errors.Is(err, ErrRefused) || !errors.As(err, &r) || r.Addr == "" || r.Local != (side == "listener") {
					t.Fatalf("%s: got %v, want %v", side, err, c.want)
				}
				for code, other := range map[Code]error{CodeProtocol: ErrProtocol, CodeWrongCluster: ErrWrongCluster, CodeClusterID: ErrClusterID, CodeSelf: ErrSelf, CodeDuplicate: ErrDuplicate, CodeWrongMember: ErrWrongMember, CodeUnknownMember: ErrUnknownMember, CodeIDMismatch: ErrIDMismatch, CodeMemberList: ErrMemberList, CodeNotAdmitted: ErrNotAdmitted, CodeNotNow: ErrNotNow, CodeRemoved: ErrRemoved} {
					if other != c.want && errors.Is(err, other) {
						t.Errorf("%s: matches also code %d", side, code)
					}
				}
				for _, text := range c.texts {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%s: %q does not say %s", side, err, text)
					}
				}
			}
		})
	}
}

// The dialler makes the same checks. It meets a listener that admits everybody.
func TestT13_DiallerRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		want   error
		change func(a, b *Config)
	}{
		{"cluster", ErrWrongCluster, func(a, b *Config) { b.Hello = says(Hello{Cluster: "mail"}) }},
		{"cluster id", ErrClusterID, func(a, b *Config) {
			a.Hello = says(Hello{Cluster: "jobs", ClusterID: []byte{1, 1}})
			b.Hello = says(Hello{Cluster: "jobs", ClusterID: []byte{2, 2}})
		}},
		{"wrong member", ErrWrongMember, func(a, b *Config) { b.Self = peerAt("c", "127.0.0.1:1") }},
		{"duplicate name", ErrDuplicate, func(a, b *Config) { b.Self = a.Self }},
		{"other id", ErrIDMismatch, func(a, b *Config) { b.Self.ID = 77 }},
		{"member lists", ErrMemberList, func(a, b *Config) { b.Hello = says(Hello{Cluster: "jobs", Members: []string{"x"}}) }},
		{"not admitted", ErrNotAdmitted, func(a, b *Config) { a.Admit = func(Hello) error { return errors.New("no") } }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ca, cb := config("a"), config("b")
			c.change(&ca, &cb)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			told := make(chan error, 1)
			go func() {
				raw, err := ln.Accept()
				if err != nil {
					told <- err
					return
				}
				defer raw.Close()
				l := session.NewLink(raw, raw)
				_ = raw.SetDeadline(time.Now().Add(patience))
				_, _ = l.Opening()
				_, _ = l.Next(session.MaxHello)
				hello := cb.Hello()
				hello.Version, hello.Name, hello.ID, hello.Instance = Version, cb.Self.Name, cb.Self.ID, 1
				body, _ := session.EncodeHello(hello)
				_, _ = raw.Write(session.AppendFrame(session.AppendOpening(nil), session.KindHello, 0, body))
				f, err := l.Next(session.MaxHello)
				if err == nil {
					code, text, cerr := session.DecodeCoded(f.Body)
					told <- errors.Join(cerr, &RefusedError{Code: Code(code), Text: text})
					return
				}
				told <- err
			}()
			_, err = Probe(t.Context(), ca, peerAt("b", ln.Addr().String()))
			var r *RefusedError
			if !errors.Is(err, c.want) || !errors.As(err, &r) || !r.Local {
				t.Errorf("dialler: got %v, want %v", err, c.want)
			}
			if err := <-told; !errors.Is(err, c.want) {
				t.Errorf("listener was told %v, want %v", err, c.want)
			}
		})
	}
}

// A running member that is refused by the dialler hears it too.
func TestT13_RunningMembersAreToldBothWays(t *testing.T) {
	t.Parallel()
	ca := config("a")
	ca.Admit = func(Hello) error { return errors.New("a wants nobody") }
	a, b := listen(t, ca), listen(t, config("b"))
	a.start(t, b.self)
	b.start(t, a.self)
	dialled, accepted := false, false
	b.wait(t, "refusals", func() bool {
		for _, err := range b.refusals {
			var r *RefusedError
			if errors.As(err, &r) && !r.Local && errors.Is(err, ErrNotAdmitted) && strings.Contains(r.Text, "a wants nobody") {
				dialled = dialled || r.Addr == a.self.Addr
				accepted = accepted || r.Addr != a.self.Addr
			}
		}
		return dialled && accepted
	})
}

func TestT13_OurOwnAddress(t *testing.T) {
	t.Parallel()
	a := listen(t, config("a"))
	a.start(t, peerAt("b", a.self.Addr))
	a.wait(t, "refusal", func() bool { return len(a.refusals) > 1 })
	for _, err := range a.noes() {
		if !errors.Is(err, ErrSelf) {
			t.Errorf("got %v", err)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	// Another frame layout: the listener says so in the form that never changes.
	b := listen(t, config("b"))
	b.start(t)
	c, err := net.Dial("tcp", b.self.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("\xBAbaton\x00\x09 whatever comes then")); err != nil {
		t.Fatal(err)
	}
	r := session.NewFrameReader(c)
	if v, err := r.Opening(); v != session.Layout || err != nil {
		t.Fatal(v, err)
	}
	f, err := r.Next(session.MaxHello)
	if err != nil || f.Kind != session.KindRefuse {
		t.Fatal(f, err)
	}
	if code, _, err := session.DecodeCoded(f.Body); Code(code) != CodeVersion || err != nil {
		t.Error(code, err)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	cb := config("b")
	cb.Hello = says(Hello{Cluster: "jobs", ClusterID: []byte("id"), Incarnation: 5, Members: []string{"a", "b"}, Extra: []byte("more")})
	b := listen(t, cb)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	ca := config("a")
	ca.Hello = says(Hello{Cluster: "jobs"})
	h, err := Probe(t.Context(), ca, b.self)
	if err != nil || h.Name != "b" || h.ID != 2 || string(h.ClusterID) != "id" || h.Incarnation != 5 || len(h.Members) != 2 || string(h.Extra) != "more" {
		t.Fatalf("%+v, %v", h, err)
	}
	if n := b.Status()[0].Inbound; n != 0 {
		t.Errorf("probe is registered: %d", n)
	}
	b.Close()
	if _, err := Probe(t.Context(), ca, b.self); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("nobody there: %v", err)
	}
	hole := blackHole(t, "c", false)
	ca.HandshakeTimeout = patience
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := Probe(ctx, ca, hole); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > patience/2 {
		t.Errorf("black hole: %v after %v", err, time.Since(start))
	}
	if _, err := Probe(t.Context(), Config{}, hole); err == nil {
		t.Error("empty config was taken")
	}
}

// hear sends bytes and returns what comes back until the end.
func hear(t *testing.T, addr string, b []byte) []byte {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil && !session.HungUp(err) {
		t.Fatal(err)
	}
	return got
}

func TestT17_HostileOpenings(t *testing.T) {
	t.Parallel()
	c := config("b")
	c.HandshakeTimeout = 500 * time.Millisecond
	b := listen(t, c)
	b.start(t, peerAt("a", "127.0.0.1:1"))
	opening := session.AppendOpening(nil)
	huge := session.AppendFrame(bytes.Clone(opening), session.KindHello, 0, make([]byte, session.MaxHello+1))
	for _, c := range []struct {
		what   string
		bytes  []byte
		answer bool
	}{
		{"http", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false},
		{"tls", []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, false},
		{"nothing", nil, false},
		{"half an opening", opening[:3], false},
		{"almost the opening", []byte("\xBAbatoN\x00\x01"), false},
		{"opening only", opening, false},
		{"half a hello", session.AppendFrame(bytes.Clone(opening), session.KindHello, 0, []byte("1234"))[:20], false},
		{"huge hello", huge, true},
		{"garbage hello", session.AppendFrame(bytes.Clone(opening), session.KindHello, 0, []byte("\xFF\xFF")), true},
		{"message first", session.AppendFrame(bytes.Clone(opening), session.KindMessage, 0, nil), true},
		{"damaged frame", append(bytes.Clone(opening), bytes.Repeat([]byte{7}, 30)...), true},
	} {
		got := hear(t, b.self.Addr, c.bytes)
		if !c.answer {
			if len(got) != 0 {
				t.Errorf("%s: was answered %q", c.what, got)
			}
			continue
		}
		r := session.NewFrameReader(bytes.NewReader(got))
		if _, err := r.Opening(); err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		f, err := r.Next(session.MaxHello)
		if err != nil || f.Kind != session.KindRefuse {
			t.Errorf("%s: answered %v, %v", c.what, f.Kind, err)
			continue
		}
		if code, _, _ := session.DecodeCoded(f.Body); Code(code) != CodeProtocol {
			t.Errorf("%s: refused with %v", c.what, Code(code))
		}
	}
	if _, err := Probe(t.Context(), config("a"), b.self); err != nil {
		t.Errorf("a member after all this: %v", err)
	}
}

// Whoever admits another may make it a peer first: that is how a member meets those who have come to its cluster since.
func TestAdmitMakesPeers(t *testing.T) {
	t.Parallel()
	var a, b *node
	ready := make(chan struct{})
	ca, cb := config("a"), config("b")
	ca.Hello = func() Hello {
		<-ready
		return Hello{Cluster: "jobs", Roster: 2, List: []Peer{a.self, b.self}}
	}
	cb.Hello = says(Hello{Cluster: "jobs", Joining: true})
	cb.Admit = func(h Hello) error { return b.SetPeers(h.List[:1]) }
	a, b = listen(t, ca), listen(t, cb)
	close(ready)
	b.start(t)
	a.start(t, b.self)
	a.connected(t)
	b.connected(t)
	if len(b.Status()) != 1 {
		t.Errorf("the peers of b are %v", b.Status())
	}
}
