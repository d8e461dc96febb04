package transport

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	openingMagic = "\xBAbaton"
	layout       = 1 // version of the frame layout
	openingSize  = len(openingMagic) + 2

	// lingerTime is how long a side that refuses waits for the other to read why.
	lingerTime = 500 * time.Millisecond
)

// errStranger: the other side does not speak our protocol at all. It gets no answer.
var errStranger = errors.New("not a baton member")

// endpoint makes handshakes for one member. Its fields do not change.
type endpoint struct {
	cfg      Config
	said     *conditions
	tls      *security
	instance uint64
	outside  outsiders
	problems teller // to Config.Problem
	refusals teller // to Config.Refused
	standing standing
	members  func() []Peer // the present list, this member included
	names    *dialer
	dialTCP  func(ctx context.Context, network, addr string) (net.Conn, error) // names.dial
}

func newEndpoint(c Config) *endpoint {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	c = c.withDefaults()
	d := newDialer(c.DialTimeout)
	s := &security{fixed: c.TLS, get: c.GetTLS}
	s.certs.changed, s.certs.peers, s.certs.refused = make(chan struct{}, 1), map[string]*x509.Certificate{}, map[refusalOf]refused{}
	e := &endpoint{cfg: c, tls: s, said: newConditions(c.Logger), instance: binary.BigEndian.Uint64(b[:]) | 1, names: d, dialTCP: d.dial}
	e.problems.logger, e.refusals.logger = c.Logger, c.Logger
	e.members = func() []Peer { return append([]Peer{c.Self}, c.Peers...) }
	return e
}

// link is a connection after its handshake, or in it.
type link struct {
	net.Conn // TLS, or the same as raw
	raw      net.Conn
	r        *frameReader
	in       *counter  // what r reads from
	peer     Hello     // what the other side said
	shown    *shown    // nil: no TLS
	standing *standing // nil: nobody keeps it
	due      time.Time
}

func newLink(conn, raw net.Conn) *link {
	in := &counter{r: conn}
	return &link{Conn: conn, raw: raw, in: in, r: newFrameReader(in)}
}

// Close ends the connection at once. It does not say goodbye on TLS, because that can block when the peer does not read.
func (l *link) Close() error {
	if l.standing != nil {
		l.standing.remove(l)
	}
	return l.raw.Close()
}

// reset ends the connection at once, and leaves nothing behind that the kernel would try to bring there.
func (l *link) reset() {
	if c, ok := l.raw.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	l.raw.Close()
}

// write writes b in pieces, each of which must find room within the timeout.
func (l *link) write(b []byte, timeout time.Duration) error {
	const piece = 256 << 10
	for len(b) > 0 {
		// A deadline costs more than reading the clock, so one is set for several writes.
		if now := time.Now(); l.due.Sub(now) < timeout {
			l.due = now.Add(timeout + timeout/4)
			if err := l.SetWriteDeadline(l.due); err != nil {
				return err
			}
		}
		n := min(len(b), piece)
		if _, err := l.Conn.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// inline returns what writes to the connection without waiting, or nil: of a TLS record all must be written, or nothing.
func (l *link) inline() *nowWriter {
	if l.Conn != l.raw {
		return nil
	}
	return newNowWriter(l.raw)
}

// linger lets the other side read what was written last, before the connection is closed: closing with unread input
// would reset it and discard that.
func (l *link) linger(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.raw.Close() })
	defer stop()
	_ = l.SetDeadline(time.Now().Add(lingerTime))
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, l.Conn, 64<<20)
}

func appendOpening(b []byte) []byte {
	return binary.BigEndian.AppendUint16(append(b, openingMagic...), layout)
}

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

// hello asks the program what we say of ourselves, to be told to who.
func (e *endpoint) hello(ctx context.Context, who string, purpose Purpose, to string) (Hello, error) {
	h, err := outside(ctx, &e.outside, who, "Hello", e.cfg.HandshakeTimeout, func(context.Context) (Hello, error) { return e.cfg.Hello(), nil })
	h.Version, h.Name, h.ID, h.Instance = Version, e.cfg.Self.Name, e.cfg.Self.ID, e.instance
	h.Purpose, h.To, h.Role = purpose, to, RoleMember
	return h, err
}

// judge adds Admit to the built-in checks.
func (e *endpoint) judge(ctx context.Context, who string, own, other Hello, want string, known func(string) (Peer, bool)) *RefusedError {
	if r := judge(own, other, want, known); r != nil {
		return r
	}
	if e.cfg.Admit != nil {
		_, err := outside(ctx, &e.outside, who, "Admit", e.cfg.HandshakeTimeout, func(context.Context) (struct{}, error) { return struct{}{}, e.cfg.Admit(other) })
		if err != nil {
			code := CodeNotAdmitted
			if errors.Is(err, ErrNotNow) {
				code = CodeNotNow
			}
			return &RefusedError{Peer: other.Name, Code: code, Text: err.Error(), Local: true}
		}
	}
	return nil
}

func (e *endpoint) refused(r *RefusedError) {
	if e.cfg.Refused != nil {
		e.refusals.add(news{tell: func() { e.cfg.Refused(r.Peer, r) }})
	}
}

// dial connects to p and makes the handshake. Its errors are of the dial, of the handshake, or *RefusedError.
func (e *endpoint) dial(ctx context.Context, p Peer, purpose Purpose) (*link, error) {
	raw, err := e.dialTCP(ctx, "tcp", p.Addr)
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
		e.names.praise(p.Addr, raw)
	case ctx.Err() == nil:
		e.names.blame(p.Addr, raw)
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
		err = fmt.Errorf("handshake with member %q at %s (%s): %w", p.Name, p.Addr, raw.RemoteAddr(), explain(err, true, e.tls.on()))
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
func (e *endpoint) greet(ctx context.Context, raw net.Conn, p Peer, purpose Purpose) (*link, error) {
	if err := raw.SetDeadline(time.Now().Add(e.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	who := "to " + p.Name
	l := newLink(raw, raw)
	if e.tls.on() {
		conn, shown, err := e.secure(ctx, raw, who, p.Addr)
		if err != nil {
			return nil, err
		}
		l = newLink(conn, raw)
		l.shown = shown
	}
	l.standing = &e.standing
	own, err := e.hello(ctx, who, purpose, p.Name)
	if err != nil {
		return nil, err
	}
	refuse := func(r *RefusedError) (*link, error) {
		r.Peer, r.Addr = p.Name, p.Addr
		_, _ = l.Conn.Write(appendFrame(nil, kindRefuse, 0, appendCoded(nil, uint16(r.Code), r.Text)))
		return nil, r
	}
	// Before a word is said: somebody else's listener learns nothing of us.
	claim := e.claim(l, RoleMember, own.Cluster, p.Name, p.Addr, true)
	if r := e.authorize(ctx, claim); r != nil {
		_, _ = l.Conn.Write(appendOpening(nil))
		return refuse(r)
	}
	body, err := encodeHello(own)
	if err != nil {
		return nil, err
	}
	if _, err := l.Conn.Write(appendFrame(appendOpening(nil), kindHello, 0, body)); err != nil {
		return nil, err
	}
	theirs, err := readOpening(l.r.r)
	if err != nil {
		return nil, err
	}
	f, err := l.r.next(maxHello)
	if err != nil {
		return nil, err
	}
	switch {
	case f.kind == kindRefuse:
		code, text, err := decodeCoded(f.body)
		if err != nil {
			return nil, err
		}
		return nil, &RefusedError{Peer: p.Name, Addr: p.Addr, Code: Code(code), Text: text}
	case theirs != layout:
		return refuse(wrongLayout(own.Name, theirs))
	case f.kind != kindHello:
		return nil, fmt.Errorf("%w: type %d in the handshake", errFrame, f.kind)
	}
	other, err := decodeHello(f.body)
	if err != nil {
		return refuse(&RefusedError{Code: CodeProtocol, Text: err.Error(), Local: true})
	}
	known := func(name string) (Peer, bool) { return p, name == p.Name }
	if r := e.judge(ctx, who, own, other, p.Name, known); r != nil {
		return refuse(r)
	}
	l.peer = other
	e.saw(l, true)
	e.standing.add(l, claim)
	return l, raw.SetDeadline(time.Time{})
}

// saw takes note of the certificate of a member that was let in.
func (e *endpoint) saw(l *link, dialled bool) {
	e.tls.certs.refuse(l.peer.Name, dialled, nil)
	if l.shown != nil {
		e.tls.certs.notePeer(l.peer.Name, l.shown.state)
	}
}

func wrongLayout(own string, theirs uint16) *RefusedError {
	return &RefusedError{Code: CodeVersion, Local: true, Text: fmt.Sprintf("%q speaks frame layout %d, the other side %d", own, layout, theirs)}
}

// answer is the listener's side of the handshake. On a refusal the link is returned too, and is to linger. The last check,
// register, makes the connection known; what it registered must be undone by the caller when answer fails after it.
func (e *endpoint) answer(ctx context.Context, raw net.Conn, known func(string) (Peer, bool), register func(*link) *RefusedError) (*link, error) {
	if err := raw.SetDeadline(time.Now().Add(e.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	who := from(raw.RemoteAddr())
	l := newLink(raw, raw)
	if e.tls.on() {
		conn, shown, err := e.secure(ctx, raw, who, "")
		if err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		l = newLink(conn, raw)
		l.shown = shown
	}
	l.standing = &e.standing
	theirs, err := readOpening(l.r.r)
	if err != nil {
		return nil, err
	}
	refuse := func(r *RefusedError) (*link, error) {
		r.Addr = raw.RemoteAddr().String()
		body := appendCoded(nil, uint16(r.Code), r.Text)
		if _, err := l.Conn.Write(appendFrame(appendOpening(nil), kindRefuse, 0, body)); err != nil {
			return nil, errors.Join(r, err)
		}
		return l, r
	}
	if theirs != layout {
		return refuse(wrongLayout(e.cfg.Self.Name, theirs))
	}
	f, err := l.r.next(maxHello)
	if err != nil {
		if errors.Is(err, errFrame) {
			return refuse(&RefusedError{Code: CodeProtocol, Text: err.Error(), Local: true})
		}
		return nil, err
	}
	if f.kind == kindRefuse {
		code, text, err := decodeCoded(f.body)
		if err != nil {
			return nil, err
		}
		return nil, &RefusedError{Addr: raw.RemoteAddr().String(), Code: Code(code), Text: text}
	}
	if f.kind != kindHello {
		return refuse(&RefusedError{Code: CodeProtocol, Text: fmt.Sprintf("type %d instead of hello", f.kind), Local: true})
	}
	other, err := decodeHello(f.body)
	if err != nil {
		return refuse(&RefusedError{Code: CodeProtocol, Text: err.Error(), Local: true})
	}
	l.peer = other
	own, err := e.hello(ctx, who, other.Purpose, "")
	if err != nil {
		return nil, err
	}
	if other.Purpose < PurposeControl || other.Purpose > PurposeProbe {
		return refuse(&RefusedError{Peer: other.Name, Code: CodeProtocol, Text: fmt.Sprintf("unknown %v", other.Purpose), Local: true})
	}
	if other.Role > RoleMember {
		return refuse(&RefusedError{Peer: other.Name, Code: CodeProtocol, Text: fmt.Sprintf("a %v on a %v connection", other.Role, other.Purpose), Local: true})
	}
	p, isKnown := known(other.Name)
	claim := e.claim(l, RoleMember, own.Cluster, other.Name, p.Addr, false)
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
	body, err := encodeHello(own)
	if err != nil {
		return nil, err
	}
	// Cleared before the answer, so that nobody clears a deadline that was set since.
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if err := l.write(appendFrame(appendOpening(nil), kindHello, 0, body), e.cfg.HandshakeTimeout); err != nil {
		return nil, err
	}
	e.standing.add(l, claim)
	return l, nil
}

// Probe dials p, makes a handshake of purpose probe, and returns what p says of itself. It fails with a *RefusedError
// when either side refuses, with the error of the dial, or with ctx's; c.Refused is not called. It needs no Listen and
// registers nothing at p: a fresh member can ask before it writes its first byte.
func Probe(ctx context.Context, c Config, p Peer) (Hello, error) {
	_, err := CheckAddr(p.Addr, false)
	if err := errors.Join(c.Validate(), err); err != nil {
		return Hello{}, err
	}
	l, err := newEndpoint(c).dial(ctx, p, PurposeProbe)
	if err != nil {
		return Hello{}, err
	}
	return l.peer, l.Close()
}

// Probe is the package's [Probe] of a member that listens: one handshake with p, which tells both sides about the other.
func (t *TCP) Probe(ctx context.Context, p Peer) (Hello, error) {
	if q := t.dir.Load().byName[p.Name]; q != nil {
		ctx = q.small(ctx)
	}
	l, err := t.dial(ctx, p, PurposeProbe)
	if err != nil {
		return Hello{}, err
	}
	return l.peer, l.Close()
}
