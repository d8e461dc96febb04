package ha_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/storage"
)

// faults are the errors that errors.Join has joined.
func faults(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return nil
}

func TestOpenBadConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	good := func() ha.Config {
		return ha.Config{Name: "a", Dir: dir, Cluster: "test", Members: []ha.Member{
			{Name: "a", Addr: "127.0.0.1:7001"}, {Name: "b", Addr: "127.0.0.1:7002"}, {Name: "c", Addr: "127.0.0.1:7003"},
		}}
	}
	if err := good().Validate(); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for _, test := range []struct {
		want   string
		change func(*ha.Config)
	}{
		{"Cluster:", func(c *ha.Config) { c.Cluster = "" }},
		{"Cluster:", func(c *ha.Config) { c.Cluster = "my cluster" }},
		{"Cluster:", func(c *ha.Config) { c.Cluster = strings.Repeat("x", 129) }},
		{"Dir:", func(c *ha.Config) { c.Dir = "" }},
		{"Name:", func(c *ha.Config) { c.Name = "" }},
		{"Name:", func(c *ha.Config) { c.Name = "d" }},
		{"Members:", func(c *ha.Config) { c.Members = nil }},
		{"Members[1].Name:", func(c *ha.Config) { c.Members[1].Name = "ü" }},
		{"Members[2].Name:", func(c *ha.Config) { c.Members[2].Name = "b" }},
		{"Members[2].Addr:", func(c *ha.Config) { c.Members[2].Addr = c.Members[0].Addr }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "127.0.0.1" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = ":7002" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "127.0.0.1:0" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "127.0.0.1:70000" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "127.0.0.1:-1" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "127.0.0.1:nosuchservice" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "0.0.0.0:7002" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "[::]:7002" }},
		{"Members[1].Addr:", func(c *ha.Config) { c.Members[1].Addr = "224.0.0.1:7002" }},
		{"Members[2].Addr:", func(c *ha.Config) { c.Members[2].Addr = "[::ffff:127.0.0.1]:07001" }},
		{"Bind:", func(c *ha.Config) { c.Bind = "127.0.0.1:0" }},
		{"Bind:", func(c *ha.Config) { c.Bind = "239.1.1.1:7001" }},
		{"FormWithout[0]:", func(c *ha.Config) { c.FormWithout = []string{"d"} }},
		{"FormWithout[0]:", func(c *ha.Config) { c.FormWithout = []string{"a"} }},
		{"FormWithout:", func(c *ha.Config) { c.FormWithout = []string{"b", "c"} }},
		{"Bind:", func(c *ha.Config) { c.Bind = "everywhere" }},
		{"GetTLS:", func(c *ha.Config) {
			c.TLS = &tls.Config{Certificates: make([]tls.Certificate, 1), RootCAs: x509.NewCertPool()}
			c.GetTLS = func() (*tls.Config, error) { return c.TLS, nil }
		}},
		{"TLS:", func(c *ha.Config) { c.TLS = new(tls.Config) }},
		{"DialTimeout:", func(c *ha.Config) { c.DialTimeout = -1 }},
		{"DialTimeout:", func(c *ha.Config) { c.DialTimeout = time.Hour }},
		{"Heartbeat:", func(c *ha.Config) { c.Heartbeat = time.Millisecond }},
		{"Heartbeat:", func(c *ha.Config) { c.Heartbeat = -time.Second }},
		{"ElectionTimeout:", func(c *ha.Config) { c.ElectionTimeout = 100 * time.Millisecond }},
		{"ElectionTimeout:", func(c *ha.Config) { c.ElectionTimeout = time.Hour }},
		{"ElectionTimeout:", func(c *ha.Config) { c.ElectionTimeout = -time.Second }},
		{"ElectionTimeout: a lease", func(c *ha.Config) { c.ElectionTimeout, c.MaxClockDrift = 200*time.Millisecond, 0.49 }},
		{"ElectionTimeout: a lease", func(c *ha.Config) { c.ElectionTimeout, c.MaxClockDrift = 300*time.Millisecond, 0.45 }},
		{"ElectionTimeout: a lease", func(c *ha.Config) { c.ElectionTimeout, c.MaxClockDrift = 4*50*time.Millisecond, 0.13 }},
		{"MaxClockDrift:", func(c *ha.Config) { c.MaxClockDrift = -0.1 }},
		{"MaxClockDrift:", func(c *ha.Config) { c.MaxClockDrift = 0.5 }},
		{"DrainTimeout:", func(c *ha.Config) { c.DrainTimeout = -1 }},
		{"CoolDown:", func(c *ha.Config) { c.CoolDown = -1 }},
		{"MaxRecord:", func(c *ha.Config) { c.MaxRecord = -1 }},
		{"MaxRecord:", func(c *ha.Config) { c.MaxRecord = 32<<20 + 1 }},
		{"MemoryBytes:", func(c *ha.Config) { c.MemoryBytes = -1 }},
		{"MemoryBytes: 1000 is less than 67108864, which is 16 times MaxRecord (4194304)", func(c *ha.Config) { c.MemoryBytes = 1000 }},
		{"MemoryBytes: 1000 is less than 33554432, which any member needs", func(c *ha.Config) { c.MemoryBytes, c.MaxRecord = 1000, 1000 }},
		{"MemoryBytes: 67108864 is less than 134217730, which is twice MaxPending (67108864) and CacheBytes (1) together", func(c *ha.Config) {
			c.MemoryBytes, c.MaxPending, c.CacheBytes = 64<<20, 64<<20, 1
		}},
		{"MaxPending:", func(c *ha.Config) { c.MaxPending = -1 }},
		{"CacheBytes:", func(c *ha.Config) { c.CacheBytes = -1 }},
		{"CheckpointBytes:", func(c *ha.Config) { c.CheckpointBytes = -1 }},
		{"RetainBytes:", func(c *ha.Config) { c.RetainBytes = -1 }},
	} {
		c := good()
		test.change(&c)
		err := refusedOpen(t, c)
		if fs := faults(err); len(fs) != 1 || !strings.HasPrefix(fs[0].Error(), "baton: Config."+test.want) {
			t.Errorf("want one fault, of %s: got %v", test.want, err)
		}
	}

	all := good()
	all.Cluster, all.Dir, all.Name, all.Members[2].Addr = "", "", "z", "nowhere"
	all.Heartbeat, all.MaxClockDrift, all.DrainTimeout, all.MaxRecord, all.MaxPending, all.RetainBytes = 1, 2, -1, -1, -1, -1
	before := tree(t, ".")
	_, err := ha.Open(all)
	if got := faults(err); len(got) != 10 {
		t.Errorf("of ten faults %d are reported: %v", len(got), err)
	}
	for _, field := range []string{
		"Cluster:", "Dir:", "Name:", "Members[2].Addr:", "Heartbeat:", "MaxClockDrift:", "DrainTimeout:", "MaxRecord:", "MaxPending:", "RetainBytes:",
	} {
		if err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s is not reported", field)
		}
	}
	if after := tree(t, "."); after != before {
		t.Error("the working directory has changed")
	}
}

func TestOpenPortTaken(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	cfg := c.config("a")
	l, err := net.Listen("tcp", cfg.Members[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := refusedOpen(t, cfg); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), cfg.Members[0].Addr) {
		t.Errorf("open: %v", err)
	}
	if _, err := os.Stat(cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory that was absent: %v", err)
	}
}

func TestG7_DamagedFiles(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	c.start("a")
	secret := []byte("the record that a cosmic ray will hit")
	for range 100 {
		c.put(append(number(1), secret...))
	}
	c.closeAll()
	cfg := c.config("a")
	wals, err := filepath.Glob(filepath.Join(cfg.Dir, "wal", "*.wal"))
	if err != nil || len(wals) != 1 {
		t.Fatalf("segments: %v, %v", wals, err)
	}
	for name, at := range map[string]struct {
		file   string
		offset func([]byte) int
	}{
		"wal":      {wals[0], func(b []byte) int { return bytes.Index(b, secret) + 3 }},
		"wal end":  {wals[0], func(b []byte) int { return bytes.LastIndex(b, secret) + 3 }},
		"identity": {filepath.Join(cfg.Dir, "identity"), func(b []byte) int { return len(b) / 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			good, err := os.ReadFile(at.file)
			if err != nil {
				t.Fatal(err)
			}
			bad, offset := bytes.Clone(good), at.offset(good)
			bad[offset] ^= 0x10
			if err := os.WriteFile(at.file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			err = refusedOpen(t, cfg)
			var damage *storage.CorruptError
			if !errors.As(err, &damage) || damage.File != at.file || damage.Offset > int64(offset) || !strings.Contains(err.Error(), at.file) {
				t.Errorf("open with byte %d of %s flipped: %v", offset, at.file, err)
			}
			if err := os.WriteFile(at.file, good, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	c.start("a")
	c.awaitSum(100, 100)
	c.closeAll()
}
