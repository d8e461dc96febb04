package session

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	expiryNotice  = 30 * 24 * time.Hour // before the end that is when it is warned about
	refusalLasts  = time.Minute         // from the last one on: whoever is refused comes again sooner
	shortLived    = 45 * 24 * time.Hour // where certificates are renewed by a program, those below live on purpose as long as they do
	ownAsListener = 0
	ownAsDialler  = 1
)

// certificates knows how long the certificates are good that were shown in the last handshakes. It is told of each, from any
// goroutine.
type certificates struct {
	changed chan struct{} // 1: something is new

	mu      sync.Mutex // guards what follows
	own     [2]*x509.Certificate
	peers   map[string]*x509.Certificate // what of the peer's chain ends first
	refused map[refusalOf]refused        // because of a certificate
}

// refusalOf is that of one peer: when it was dialled, or when it dialled.
type refusalOf struct {
	name    string
	dialled bool
}

type refused struct {
	err error
	at  time.Time
}

// refuse takes note that a peer was refused for its certificate, or has refused ours, or, with a nil error, that it is over. A
// text that stays the same is no news.
func (k *certificates) refuse(name string, dialled bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := refusalOf{name, dialled}
	old, was := k.refused[key]
	if err == nil {
		delete(k.refused, key)
	} else {
		k.refused[key] = refused{err, time.Now()}
	}
	if was != (err != nil) || was && old.err.Error() != err.Error() {
		Signal(k.changed)
	}
}

// watchOwn takes note of the certificates that a handshake with c shows.
func (k *certificates) watchOwn(c *tls.Config) {
	if len(c.Certificates) > 0 {
		k.noteOwn(ownAsListener, c.Certificates)
		k.noteOwn(ownAsDialler, c.Certificates)
	}
	if f := c.GetCertificate; f != nil {
		c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, err := f(hello)
			k.noteOwn(ownAsListener, some(cert))
			return cert, err
		}
	}
	if f := c.GetClientCertificate; f != nil {
		c.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := f(info)
			k.noteOwn(ownAsDialler, some(cert))
			return cert, err
		}
	}
}

func some(cert *tls.Certificate) []tls.Certificate {
	if cert == nil {
		return nil
	}
	return []tls.Certificate{*cert}
}

func (k *certificates) noteOwn(as int, certs []tls.Certificate) {
	var chain []*x509.Certificate
	for _, cert := range certs {
		for i, der := range cert.Certificate {
			c := cert.Leaf
			if i > 0 || c == nil {
				var err error
				if c, err = x509.ParseCertificate(der); err != nil {
					continue // the handshake says so
				}
			}
			chain = append(chain, c)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := endsFirst(chain); c != nil && (k.own[as] == nil || !c.Equal(k.own[as])) {
		k.own[as] = c
		Signal(k.changed)
	}
}

// notePeer takes note of what a peer has shown.
func (k *certificates) notePeer(name string, s tls.ConnectionState) {
	chain := s.PeerCertificates
	if len(s.VerifiedChains) > 0 {
		// The authority ends, too. Of several chains the one that holds longest counts.
		chain = slices.MaxFunc(s.VerifiedChains, func(a, b []*x509.Certificate) int {
			return endsFirst(a).NotAfter.Compare(endsFirst(b).NotAfter)
		})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := endsFirst(chain); c != nil && (k.peers[name] == nil || !c.Equal(k.peers[name])) {
		k.peers[name] = c
		Signal(k.changed)
	}
}

// endsFirst returns the certificate of a chain that is good for the shortest time, nil if it is empty.
func endsFirst(chain []*x509.Certificate) *x509.Certificate {
	if len(chain) == 0 {
		return nil
	}
	return slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
}

// expiry says that a certificate ends soon, or has ended; nil if neither.
func expiry(c *x509.Certificate, whose string, renewed bool, now time.Time) error {
	notice := expiryNotice
	if life := c.NotAfter.Sub(c.NotBefore); renewed && life < shortLived {
		notice = life / 3
	}
	at := c.NotAfter.UTC().Format(dateTime)
	switch left := c.NotAfter.Sub(now); {
	case left > notice:
		return nil
	case left > 0:
		return fmt.Errorf("certificate %s of %s expires at %s", certName(c), whose, at)
	}
	return fmt.Errorf("certificate %s of %s has expired at %s: connections that stand go on, and none is made any more", certName(c), whose, at)
}

// CertificatesChanged gets a token when there is something new about certificates.
func (e *Endpoint) CertificatesChanged() <-chan struct{} { return e.tls.certs.changed }

// CertificateProblems returns what is wrong with the certificates that were shown, by whose they are: a peer's name, or empty
// for our own.
func (e *Endpoint) CertificateProblems() map[string]error {
	now, all, k := time.Now(), map[string]error{}, &e.tls.certs
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.own {
		if c == nil {
			continue
		}
		if err := expiry(c, "this member", e.tls.renewed(), now); err != nil && all[""] == nil {
			all[""] = err
		}
	}
	for name, c := range k.peers {
		if err := expiry(c, name, e.tls.renewed(), now); err != nil {
			all[name] = err
		}
	}
	for key, r := range k.refused {
		if now.Sub(r.at) > refusalLasts {
			delete(k.refused, key) // it would have come again
		} else if _, dialled := k.refused[refusalOf{key.name, true}]; key.dialled || !dialled { // one of the two, and always the same
			all[key.name] = r.err
		}
	}
	return all
}
