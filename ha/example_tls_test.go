package ha_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// certificates are made in a directory, as openssl would: NAME.crt and NAME.key, and ca.crt.
type certificates struct {
	dir string
	ca  *x509.Certificate
	key *ecdsa.PrivateKey
}

// issue makes the certificate of a holder. The first one is the authority's own.
func (c *certificates) issue(name string, uri *url.URL) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := c.ca, c.key
	if parent == nil {
		cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage, cert.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		parent, signer = cert, key
	} else {
		cert.URIs = []*url.URL{uri}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	if c.ca == nil {
		c.key = key
		if c.ca, err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	write := func(ending, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(c.dir, name+ending), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(write(".crt", "CERTIFICATE", der), write(".key", "PRIVATE KEY", private))
}

// Three members with certificates that say who is who. The files can be replaced while the members run.
func ExampleTLSFiles() {
	dir, err := os.MkdirTemp("", "baton")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	certs := &certificates{dir: dir}
	errs := []error{certs.issue("ca", nil)}
	members := []ha.Member{{Name: "a", Addr: localAddr()}, {Name: "b", Addr: localAddr()}, {Name: "c", Addr: localAddr()}}
	for _, m := range members {
		errs = append(errs, certs.issue(m.Name, ha.RoleURI(ha.RoleMember, "shop", m.Name)))
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Println(err)
		return
	}

	roles := make(chan fence.Token, len(members))
	nodes := map[string]*ha.Node{}
	for _, m := range members {
		file := filepath.Join(dir, m.Name)
		nodes[m.Name], err = ha.Open(ha.Config{
			Name: m.Name, Dir: file, Cluster: "shop", Members: members,
			GetTLS: ha.TLSFiles(file+".crt", file+".key", filepath.Join(dir, "ca.crt")),
			OnActive: func(_ context.Context, t fence.Token) error {
				roles <- t
				return nil
			},
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer nodes[m.Name].Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	token := <-roles
	index, err := nodes[token.Holder].Append(ctx, token, []byte("a visit"))
	fmt.Println(index, err)
	fmt.Println(ha.RoleURI(ha.RoleMember, "shop", "a"), ha.RoleURI(ha.RoleClient, "shop", ""))
	// Output:
	// 1 <nil>
	// baton://shop/member/a baton://shop/client
}
