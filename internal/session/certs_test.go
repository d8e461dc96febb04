package session

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestExpiryIsTold30DaysAhead(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	for _, c := range []struct {
		life, left time.Duration
		renewed    bool
		want       string
	}{
		{365 * day, 31 * day, false, ""},
		{365 * day, 29 * day, false, "expires at"},
		{365 * day, 29 * day, true, "expires at"},
		{365 * day, -time.Second, false, "has expired"},
		{10 * day, 9 * day, false, "expires at"},
		{day, 12 * time.Hour, true, ""},
		{day, 7 * time.Hour, true, "expires at"},
		{day, -time.Hour, true, "has expired"},
	} {
		cert := &x509.Certificate{NotBefore: now.Add(c.left - c.life), NotAfter: now.Add(c.left)}
		got := ""
		if err := expiry(cert, "this member", c.renewed, now); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
