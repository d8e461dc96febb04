package session

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"sync"
)

// TLSFiles returns a function for Config.GetTLS that reads a certificate, its key and the authorities that are trusted from
// files in PEM, and reads them again when one of them has changed or was replaced. The certificate's file may have
// intermediate ones behind it, the authorities' any number of authorities. Files that are just being replaced, and do not
// fit together, are an error; then the last good ones are used.
//
// A new certificate is shown from the next handshake on. A new authority is trusted from then on, and one that is taken out
// of the file is trusted no more within a minute: connections of its certificates end.
func TLSFiles(certificate, key, authorities string) func() (*tls.Config, error) {
	f := &tlsFiles{names: [...]string{certificate, key, authorities}}
	return f.get
}

type tlsFiles struct {
	names [3]string // certificate, key, authorities

	mu   sync.Mutex // guards what follows
	read [3]os.FileInfo
	last *tls.Config
}

func (f *tlsFiles) get() (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Before they are read: what changes meanwhile is read again the next time.
	var now [3]os.FileInfo
	for i, name := range f.names {
		var err error
		if now[i], err = os.Stat(name); err != nil {
			return nil, err
		}
	}
	if f.last != nil && slices.EqualFunc(f.read[:], now[:], sameFile) {
		return f.last, nil
	}
	pair, err := tls.LoadX509KeyPair(f.names[0], f.names[1])
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", f.names[0], f.names[1], err)
	}
	text, err := os.ReadFile(f.names[2])
	if err != nil {
		return nil, err
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate", f.names[2])
	}
	f.read, f.last = now, c
	return c, nil
}

func sameFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
