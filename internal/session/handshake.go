package session

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

// Layout is the version of the frame layout.
const Layout = 1

const (
	openingMagic = "\xBAbaton"
	openingSize  = len(openingMagic) + 2

	// lingerTime is how long a side that refuses waits for the other to read why.
	lingerTime = 500 * time.Millisecond
)

// ErrStranger: the other side does not speak our protocol at all. It gets no answer.
var ErrStranger = errors.New("not a baton member")

// Endpoint makes handshakes for one member, client or operator. Its fields do not change.
type Endpoint struct {
	cfg      Config
	role     Role
	Said     *Conditions
	tls      *security
	instance uint64
	outside  outsiders
	problems teller // to Config.Problem
	refusals teller // to Config.Refused
	standing standing
	Members  func() []Peer // the present list, this member included
	Names    *Dialer
	DialTCP  func(ctx context.Context, network, addr string) (net.Conn, error) // Names.dial
}

// NewEndpoint returns the endpoint of c, which is valid.
func NewEndpoint(c Config) *Endpoint {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	c = c.WithDefaults()
	d := newDialer(c.DialTimeout)
	s := &security{fixed: c.TLS, get: c.GetTLS}
	s.certs.changed, s.certs.peers, s.certs.refused = make(chan struct{}, 1), map[string]*x509.Certificate{}, map[refusalOf]refused{}
	e := &Endpoint{cfg: c, role: RoleMember, tls: s, Said: NewConditions(c.Logger), instance: binary.BigEndian.Uint64(b[:]) | 1, Names: d, DialTCP: d.dial}
	e.problems.logger, e.refusals.logger = c.Logger, c.Logger
	e.Members = func() []Peer { return append([]Peer{c.Self}, c.Peers...) }
	return e
}

// AppendOpening appends what both sides begin with.
func AppendOpening(b []byte) []byte {
	return binary.BigEndian.AppendUint16(append(b, openingMagic...), Layout)
}

// Opening reads what both sides begin with, and returns the other side's layout version.
func (fr *FrameReader) Opening() (uint16, error) { return readOpening(fr.r) }

// readOpening returns the other side's layout version.
func readOpening(r *bufio.Reader) (uint16, error) {
	var b [openingSize]byte
	// The first byte alone tells most strangers, who may send less than an opening and wait.
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return 0, err
	}
	if b[0] != openingMagic[0] {
		// What came with it tells who that is.
		begin, _ := r.Peek(min(r.Buffered(), len(b)-1))
		return 0, &strangerError{append(b[:1], begin...)}
	}
	if _, err := io.ReadFull(r, b[1:]); err != nil {
		return 0, err
	}
	if string(b[:len(openingMagic)]) != openingMagic {
		return 0, &strangerError{b[:len(openingMagic)]}
	}
	return binary.BigEndian.Uint16(b[len(openingMagic):]), nil
}

// Secure says whether there is TLS.
func (e *Endpoint) Secure() bool { return e.tls.on() }

// Prepare asks for the TLS configuration once, and fails with what is wrong with it.
func (e *Endpoint) Prepare() error {
	c, err := outside(context.Background(), &e.outside, "own", "GetTLS", e.cfg.HandshakeTimeout, func(context.Context) (*tls.Config, error) { return e.tls.config() })
	if err == nil && c != nil {
		e.tls.certs.watchOwn(c.Clone())
	}
	return err
}

// hello asks the program what we say of ourselves, to be told to who.
func (e *Endpoint) hello(ctx context.Context, who string, purpose Purpose, to string) (Hello, error) {
	h, err := outside(ctx, &e.outside, who, "Hello", e.cfg.HandshakeTimeout, func(context.Context) (Hello, error) { return e.cfg.Hello(), nil })
	h.Version, h.Name, h.ID, h.Instance = Version, e.cfg.Self.Name, e.cfg.Self.ID, e.instance
	h.Purpose, h.To, h.Role = purpose, to, e.role
	return h, err
}

// judge adds Admit to the built-in checks. It is asked before it counts whom we know, so that it may make the other side known.
func (e *Endpoint) judge(ctx context.Context, who string, own, other Hello, want string, known func(string) (Peer, bool)) *RefusedError {
	if r := judge(own, other, want); r != nil || !own.Role.member() || !other.Role.member() {
		return r
	}
	if e.cfg.Admit != nil {
		_, err := outside(ctx, &e.outside, who, "Admit", e.cfg.HandshakeTimeout, func(context.Context) (struct{}, error) { return struct{}{}, e.cfg.Admit(other) })
		if err != nil {
			return &RefusedError{Peer: other.Name, Code: codeOf(err), Text: err.Error(), Local: true}
		}
	}
	return judgePeer(own, other, known)
}

// codeOf is that of a refusal by Admit.
func codeOf(err error) Code {
	for _, c := range []Code{CodeNotNow, CodeRemoved, CodeUnknownMember} {
		if errors.Is(err, sentinels[c]) {
			return c
		}
	}
	return CodeNotAdmitted
}

// whoAt names a peer, if it is known who that should be, and where it is: as it was said, and what that has led to.
func whoAt(p Peer, addr string) string {
	text := p.Addr
	if p.Name != "" {
		text = fmt.Sprintf("member %q at %s", p.Name, p.Addr)
	}
	if addr != p.Addr {
		text += " (" + addr + ")"
	}
	return text
}

// Refuse tells of a refusal, theirs or ours.
func (e *Endpoint) Refuse(r *RefusedError) {
	if e.cfg.Refused != nil {
		e.refusals.add(news{tell: func() { e.cfg.Refused(r.Peer, r) }})
	}
}

// Dial connects to p and makes the handshake. Its errors are of the dial, of the handshake, or *RefusedError.
func (e *Endpoint) Dial(ctx context.Context, p Peer, purpose Purpose) (*Link, error) {
	raw, err := e.DialTCP(ctx, "tcp", p.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	l, err := e.greet(ctx, raw, p, purpose)
	var r *RefusedError
	refused := errors.As(err, &r)
	if !stop() && !refused {
		err = context.Cause(ctx)
	}
	switch {
	case err == nil || refused && isThere(r.Code):
		e.Names.praise(p.Addr, raw)
	case ctx.Err() == nil:
		e.Names.blame(p.Addr, raw)
	}
	if err == nil {
		return l, nil
	}
	if l != nil {
		l.Close()
	}
	raw.Close()
	if refused {
		err = r
	} else {
		err = fmt.Errorf("handshake with %s: %w", whoAt(p, raw.RemoteAddr().String()), Explain(err, true, e.tls.on()))
	}
	if errors.Is(err, ErrUnauthorized) {
		e.tls.certs.refuse(p.Name, true, err)
	}
	return nil, err
}

// isThere says whether a refusal shows that the member itself is at the address that was dialled.
func isThere(c Code) bool {
	switch c {
	case CodeSelf, CodeWrongMember, CodeWrongCluster, CodeClusterID, CodeProtocol, CodeUnauthorized:
		return false
	}
	return true
}

// greet is the dialler's side of the handshake.
func (e *Endpoint) greet(ctx context.Context, raw net.Conn, p Peer, purpose Purpose) (*Link, error) {
	if err := raw.SetDeadline(time.Now().Add(e.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	who := "to " + cmp.Or(p.Name, p.Addr)
	l := NewLink(raw, raw)
	if e.tls.on() {
		conn, shown, err := e.secure(ctx, raw, who, p.Addr)
		if err != nil {
			return nil, err
		}
		l = NewLink(conn, raw)
		l.shown = shown
	}
	l.standing = &e.standing
	own, err := e.hello(ctx, who, purpose, p.Name)
	if err != nil {
		return nil, err
	}
	refuse := func(r *RefusedError) (*Link, error) {
		r.Peer, r.Addr = p.Name, p.Addr
		_, _ = l.Conn.Write(AppendFrame(nil, KindRefuse, 0, AppendCoded(nil, uint16(r.Code), r.Text)))
		return nil, r
	}
	claim := e.claim(l, RoleMember, own.Cluster, p.Name, p.Addr, true)
	if p.Name != "" {
		// Before a word is said: somebody else's listener learns nothing of us.
		if r := e.authorize(ctx, claim); r != nil {
			_, _ = l.Conn.Write(AppendOpening(nil))
			return refuse(r)
		}
	}
	body, err := EncodeHello(own)
	if err != nil {
		return nil, err
	}
	if _, err := l.Conn.Write(AppendFrame(AppendOpening(nil), KindHello, 0, body)); err != nil {
		return nil, err
	}
	theirs, err := l.r.Opening()
	if err != nil {
		return nil, err
	}
	f, err := l.Next(MaxHello)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Kind == KindRefuse:
		code, text, err := DecodeCoded(f.Body)
		if err != nil {
			return nil, err
		}
		return nil, &RefusedError{Peer: p.Name, Addr: p.Addr, Code: Code(code), Text: text}
	case theirs != Layout:
		return refuse(wrongLayout(own.Name, theirs))
	case f.Kind != KindHello:
		return nil, fmt.Errorf("%w: type %d in the handshake", ErrFrame, f.Kind)
	}
	other, err := DecodeHello(f.Body)
	if err != nil {
		return refuse(&RefusedError{Code: CodeProtocol, Text: err.Error(), Local: true})
	}
	if p.Name == "" {
		// Any member will do, but it must be the one that it says it is.
		claim.Name = other.Name
		if r := e.authorize(ctx, claim); r != nil {
			return refuse(r)
		}
	}
	known := func(name string) (Peer, bool) { return p, name == p.Name }
	if r := e.judge(ctx, who, own, other, p.Name, known); r != nil {
		return refuse(r)
	}
	l.Peer = other
	e.saw(l, true)
	e.standing.add(l, claim)
	return l, raw.SetDeadline(time.Time{})
}

// wrongPurpose says what is wrong with what the other side wants the connection for, by what it wants to be.
func wrongPurpose(other Hello) string {
	switch {
	case other.Purpose < PurposeControl || other.Purpose > PurposeStream:
		return fmt.Sprintf("unknown %v", other.Purpose)
	case other.Role > RoleOperator:
		return fmt.Sprintf("unknown %v", other.Role)
	case !other.Role.member() && other.Purpose != PurposeStream && other.Purpose != PurposeProbe:
		return fmt.Sprintf("a %v on a %v connection", other.Role, other.Purpose)
	}
	return ""
}

// saw takes note of the certificate of a member that was let in.
func (e *Endpoint) saw(l *Link, dialled bool) {
	if !l.Peer.Role.member() {
		return // its name proves nothing, and there may be any number of them
	}
	e.tls.certs.refuse(l.Peer.Name, dialled, nil)
	if l.shown != nil {
		e.tls.certs.notePeer(l.Peer.Name, l.shown.state)
	}
}

// hint is where the member of a name was at first, as far as that was said: a certificate that is for its host may be shown by one that is
// no peer now. Whether it is let in is another question.
func (e *Endpoint) hint(name string) string {
	for _, p := range e.cfg.Peers {
		if p.Name == name {
			return p.Addr
		}
	}
	return ""
}

func wrongLayout(own string, theirs uint16) *RefusedError {
	return &RefusedError{Code: CodeVersion, Local: true, Text: fmt.Sprintf("%q speaks frame layout %d, the other side %d", own, Layout, theirs)}
}

// Answer is the listener's side of the handshake. On a refusal the link is returned too, and is to linger. The last check,
// register, makes the connection known; what it registered must be undone by the caller when Answer fails after it.
func (e *Endpoint) Answer(ctx context.Context, raw net.Conn, known func(string) (Peer, bool), register func(*Link) *RefusedError) (*Link, error) {
	if err := raw.SetDeadline(time.Now().Add(e.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	who := from(raw.RemoteAddr())
	l := NewLink(raw, raw)
	if e.tls.on() {
		conn, shown, err := e.secure(ctx, raw, who, "")
		if err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		l = NewLink(conn, raw)
		l.shown = shown
	}
	l.standing = &e.standing
	theirs, err := l.r.Opening()
	if err != nil {
		return nil, err
	}
	refuse := func(r *RefusedError) (*Link, error) {
		r.Addr = raw.RemoteAddr().String()
		body := AppendCoded(nil, uint16(r.Code), r.Text)
		if _, err := l.Conn.Write(AppendFrame(AppendOpening(nil), KindRefuse, 0, body)); err != nil {
			return nil, errors.Join(r, err)
		}
		return l, r
	}
	if theirs != Layout {
		return refuse(wrongLayout(e.cfg.Self.Name, theirs))
	}
	f, err := l.Next(MaxHello)
	if err != nil {
		if errors.Is(err, ErrFrame) {
			return refuse(&RefusedError{Code: CodeProtocol, Text: err.Error(), Local: true})
		}
		return nil, err
	}
	if f.Kind == KindRefuse {
		code, text, err := DecodeCoded(f.Body)
		if err != nil {
			return nil, err
		}
		return nil, &RefusedError{Addr: raw.RemoteAddr().String(), Code: Code(code), Text: text}
	}
	if f.Kind != KindHello {
		return refuse(&RefusedError{Code: CodeProtocol, Text: fmt.Sprintf("type %d instead of hello", f.Kind), Local: true})
	}
	other, err := DecodeHello(f.Body)
	if err != nil {
		return refuse(&RefusedError{Code: CodeProtocol, Text: err.Error(), Local: true})
	}
	l.Peer = other
	own, err := e.hello(ctx, who, other.Purpose, "")
	if err != nil {
		return nil, err
	}
	if why := wrongPurpose(other); why != "" {
		return refuse(&RefusedError{Peer: other.Name, Role: other.Role, Code: CodeProtocol, Text: why, Local: true})
	}
	role, p, isKnown := RoleMember, Peer{}, false
	if other.Role.member() {
		if p, isKnown = known(other.Name); !isKnown {
			p.Addr = e.hint(other.Name)
		}
	} else {
		role, own = other.Role, own.toStrangers()
	}
	claim := e.claim(l, role, own.Cluster, other.Name, p.Addr, false)
	r := e.authorize(ctx, claim)
	if r != nil && isKnown {
		r.Addr, _, _ = net.SplitHostPort(raw.RemoteAddr().String()) // without the port, which is another each time
		e.tls.certs.refuse(other.Name, false, new(*r))
	}
	if r == nil {
		r = e.judge(ctx, who, own, other, "", known)
	}
	if r == nil {
		r = register(l)
	}
	if r != nil {
		return refuse(r)
	}
	e.saw(l, false)
	body, err := EncodeHello(own)
	if err != nil {
		return nil, err
	}
	// Cleared before the answer, so that nobody clears a deadline that was set since.
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if err := l.Send(AppendFrame(AppendOpening(nil), KindHello, 0, body), e.cfg.HandshakeTimeout); err != nil {
		return nil, err
	}
	e.standing.add(l, claim)
	return l, nil
}

// Problem tells of something that lasts; err is nil when it is over. peer is a peer's name, or empty. It waits for nobody.
func (e *Endpoint) Problem(peer, kind string, err error) {
	e.problems.add(news{kind + " " + peer, func() {
		switch {
		case e.cfg.Problem != nil:
			e.cfg.Problem(peer, kind, err)
		case err != nil:
			e.Said.Say(slog.LevelWarn, "problem", kind+" "+peer, err.Error(), "kind", kind, "peer", peer, "err", err)
		case e.Said.Over("problem", kind+" "+peer):
			e.cfg.Logger.Info("problem over", "kind", kind, "peer", peer)
		}
	}})
}

// Close waits until all is told to Config.Problem and Config.Refused, and tells nothing any more.
func (e *Endpoint) Close() {
	e.problems.close()
	e.refusals.close()
}
