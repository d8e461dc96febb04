package cmdline

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

// This file makes an authority and the certificates of a cluster, as ha.AuthorizeByCertificate wants them.

func certCommand() *cli.Command {
	return &cli.Command{
		Name: "cert", Usage: "make an authority, and certificates for members, clients and operators", ArgsUsage: "[NAME=HOST,…]…", Category: "Set up",
		Description: "In -out it makes ca.crt and ca.key, and for each member NAME.crt and NAME.key, valid for its hosts; besides client.crt, with which one may\n" +
			"read and call, and operator.crt, with which one may change the cluster. What is there already is kept, so the command can be run again for\n" +
			"more members; -renew makes all certificates anew but the authority's. Keep ca.key away from the members. Each has the URI that says\n" +
			"what it is: baton://CLUSTER/member/NAME, baton://CLUSTER/client or baton://CLUSTER/operator.\n\n" +
			"A member's program then has GetTLS: ha.TLSFiles(\"a.crt\", \"a.key\", \"ca.crt\").\n\n" +
			"With -operators the members' certificates are an operator's, too: `baton handover -here` and the like then work where a member runs, as a\n" +
			"hook of a supervisor does it, without another key there. Whoever has one of them may change the cluster.\n" +
			"With -shared there is one certificate for all members that are named, as one secret of Kubernetes wants it: whoever has it may be any of them.\n\n" +
			"Examples:\n\n" +
			"    baton cert -cluster jobs -out certs a=a.example b=b.example,10.0.0.2 c=c.example\n" +
			"    baton cert -cluster jobs -out certs -renew a=a.example\n" +
			"    baton cert -cluster kv -out certs -operators -shared tls kv-0=kv-0.kv-members kv-1=kv-1.kv-members kv-2=kv-2.kv-members",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write the files into `DIR`", Value: "."},
			&cli.IntFlag{Name: "days", Usage: "the certificates are valid for `N` days, the authority's for ten times as long", Value: 365},
			&cli.BoolFlag{Name: "renew", Usage: "make certificates anew that are there already"},
			&cli.BoolFlag{Name: "operators", Usage: "let the members' certificates be an operator's, too"},
			&cli.StringFlag{Name: "shared", Usage: "make one certificate for all members that are named, in `FILE`.crt and FILE.key"},
		},
		Action: runCert,
	}
}

func runCert(_ context.Context, c *cli.Command) error {
	args, err := words(c, 0, -1)
	cluster, days := c.String("cluster"), c.Int("days")
	switch {
	case err != nil:
		return err
	case !fence.ValidName(cluster):
		return usage("cert: -cluster NAME says for which cluster; %q is no name", cluster)
	case days < 1 || days > 3650:
		return usage("cert: -days %d is not from 1 to 3650", days)
	}
	wanted, err := wantedCerts(cluster, args, c.Bool("operators"), c.String("shared"))
	if err != nil {
		return err
	}
	dir := c.String("out")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return usage("cert: %w", err)
	}
	a, made, err := authorityIn(dir, cluster, time.Duration(days)*10*24*time.Hour)
	if err != nil {
		return err
	}
	said := map[bool]string{true: "made", false: "kept"}[made]
	fmt.Fprintf(out(c), "%s %s (authority, until %s)\n", said, filepath.Join(dir, "ca.crt"), a.cert.NotAfter.Format(time.DateOnly))
	for _, w := range wanted {
		path := filepath.Join(dir, w.file+".crt")
		is, err := marksOf(path)
		switch {
		case errors.Is(err, fs.ErrNotExist), c.Bool("renew"):
			if err := a.issue(dir, w, time.Duration(days)*24*time.Hour); err != nil {
				return err
			}
			fmt.Fprintf(out(c), "made %s (%s)\n", path, strings.Join(w.marks(), ", "))
		case err != nil:
			return usage("cert: %s: %w; -renew makes it anew", path, err)
		default:
			lacks := slices.DeleteFunc(w.marks(), func(mark string) bool { return slices.Contains(is, mark) })
			if len(lacks) > 0 {
				return usage("cert: %s is there, and is not %s; -renew makes it anew", path, strings.Join(lacks, ", "))
			}
			fmt.Fprintf(out(c), "kept %s (%s)\n", path, strings.Join(is, ", "))
		}
	}
	return nil
}

// wantedCert is a certificate to be made.
type wantedCert struct {
	file   string
	uris   []*url.URL
	common string
	hosts  []string
}

// marks are what it says its holder is.
func (w wantedCert) marks() (marks []string) {
	for _, u := range w.uris {
		marks = append(marks, u.String())
	}
	return marks
}

// wantedCerts says which certificates there are to be, of members that are given as NAME=HOST,….
func wantedCerts(cluster string, members []string, operators bool, shared string) ([]wantedCert, error) {
	operator := ha.RoleURI(ha.RoleOperator, cluster, "")
	wanted := []wantedCert{
		{file: "client", uris: []*url.URL{ha.RoleURI(ha.RoleClient, cluster, "")}, common: cluster + " client"},
		{file: "operator", uris: []*url.URL{operator}, common: cluster + " operator"},
	}
	taken := []string{"ca", "client", "operator"}
	all := wantedCert{file: shared, common: cluster + " members"}
	for _, arg := range members {
		name, hosts, _ := strings.Cut(arg, "=")
		w := wantedCert{
			file: name, uris: []*url.URL{ha.RoleURI(ha.RoleMember, cluster, name)},
			common: cluster + " " + name, hosts: strings.Split(cmpOr(hosts, name), ","),
		}
		switch {
		case !fence.ValidName(name):
			return nil, usage("cert: %q is no name of a member", name)
		case shared != "":
			all.uris, all.hosts = append(all.uris, w.uris...), append(all.hosts, w.hosts...)
			continue
		case slices.Contains(taken, name):
			return nil, usage("cert: the files of a member %q would have the names of others", name)
		}
		wanted = append(wanted, w)
	}
	switch {
	case shared == "":
	case !fence.ValidName(shared) || slices.Contains(taken, shared):
		return nil, usage("cert: -shared %q is no name for a file of its own", shared)
	case len(members) == 0:
		return nil, usage("cert: -shared is a certificate for members, and none is named")
	default:
		wanted = append(wanted, all)
	}
	if operators {
		for i := range wanted[2:] {
			wanted[2+i].uris = append(wanted[2+i].uris, operator)
		}
	}
	return wanted, nil
}

// marksOf returns what a certificate in a file says its holder is.
func marksOf(path string) (marks []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	for _, u := range cert.URIs {
		marks = append(marks, u.String())
	}
	return marks, nil
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authorityIn reads the authority of a directory, or makes one.
func authorityIn(dir, cluster string, lasts time.Duration) (a authority, made bool, err error) {
	crt, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	pair, err := tls.LoadX509KeyPair(crt, key)
	switch {
	case err == nil:
		own, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok || !pair.Leaf.IsCA {
			return a, false, usage("cert: %s is no authority of this command", crt)
		}
		return authority{pair.Leaf, own}, false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return a, false, usage("cert: %w", err)
	}
	for _, path := range []string{crt, key} {
		if _, err := os.Lstat(path); err == nil {
			return a, false, usage("cert: %s is there without the other file of the authority", path)
		}
	}
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return a, false, err
	}
	template := templateOf(cluster+" authority", lasts)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		return a, false, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return a, false, err
	}
	return a, true, writePair(dir, "ca", der, a.key)
}

func templateOf(common string, lasts time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // rand.Reader never fails
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: common, Organization: []string{"baton"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lasts), // an hour: clocks differ
	}
}

// issue makes a certificate and its key.
func (a authority) issue(dir string, w wantedCert, lasts time.Duration) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := templateOf(w.common, lasts)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} // members do both
	template.URIs = w.uris
	for _, host := range w.hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", w.file, err)
	}
	return writePair(dir, w.file, der, key)
}

// writePair writes a certificate and its key: the key first, since it is the one that must not be read.
func writePair(dir, name string, der []byte, key *ecdsa.PrivateKey) error {
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, name+".key"), "PRIVATE KEY", private, 0o600),
		writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der, 0o644),
	)
}

// writePEM replaces a file at once: a member may read it at any time.
func writePEM(path, kind string, der []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // an old one keeps its mode
		return err
	}
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
