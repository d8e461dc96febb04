package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// ValidateTLS reports everything for which [Listen] would refuse a TLS configuration, or nil.
func ValidateTLS(c *tls.Config) error { return errors.Join(validateTLS(c)...) }

func validateTLS(c *tls.Config) []error {
	if c == nil {
		return nil
	}
	var faults []error
	if len(c.Certificates) == 0 && (c.GetCertificate == nil || c.GetClientCertificate == nil) {
		faults = append(faults, errors.New("transport: TLS has no certificate"))
	}
	if c.RootCAs == nil {
		faults = append(faults, errors.New("transport: TLS has no RootCAs: any authority of the system would do"))
	}
	if c.InsecureSkipVerify {
		faults = append(faults, errors.New("transport: TLS has InsecureSkipVerify set"))
	}
	if c.GetConfigForClient != nil {
		faults = append(faults, errors.New("transport: TLS has GetConfigForClient set, which could admit unverified clients"))
	}
	return faults
}

func serverTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if c.ClientCAs == nil {
		c.ClientCAs = c.RootCAs
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	return c
}

func clientTLS(c *tls.Config, addr string) *tls.Config {
	c = c.Clone()
	if c.ServerName == "" {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			// A zone is the dialler's own business: no certificate has it.
			c.ServerName, _, _ = strings.Cut(host, "%")
		}
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	return c
}
