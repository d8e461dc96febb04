package main

import (
	"bytes"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
)

func TestConfigure(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env                        map[string]string
		bind, advertise, dir, http string
		fault                      string
	}{
		"by name": {
			env:  map[string]string{"BATON_NAME": "kv-1", "BATON_MEMBERS": "kv-0=kv-0.kv:7000, kv-1=kv-1.kv:7000"},
			bind: ":7000", advertise: "http://kv-1.kv:8080", dir: "/data", http: ":8080",
		},
		"the host's name": {
			env:  map[string]string{"BATON_MEMBERS": host + "=one:7000", "STATE_DIRECTORY": "/var/lib/kv", "BATON_HTTP": ":80"},
			bind: ":7000", advertise: "http://one:80", dir: "/var/lib/kv", http: ":80",
		},
		"several on a host": {
			env: map[string]string{"BATON_NAME": "a", "BATON_MEMBERS": "a=127.0.0.1:7000,b=127.0.0.1:7001", "BATON_HTTP": "127.0.0.1:80",
				"BATON_DIR": "/d", "STATE_DIRECTORY": "/var/lib/kv", "BATON_ADVERTISE": "https://kv.example"},
			bind: "127.0.0.1:7000", advertise: "https://kv.example", dir: "/d", http: "127.0.0.1:80",
		},
		"no members": {env: map[string]string{"BATON_NAME": "a"}, fault: "BATON_MEMBERS is not set"},
		"no address": {env: map[string]string{"BATON_NAME": "a", "BATON_MEMBERS": "a"}, fault: `"a" is not name=host:port`},
		"no port":    {env: map[string]string{"BATON_NAME": "a", "BATON_MEMBERS": "a=b"}, fault: "missing port"},
		"bad HTTP":   {env: map[string]string{"BATON_NAME": "a", "BATON_MEMBERS": "a=b:1", "BATON_HTTP": "80"}, fault: "BATON_HTTP"},
		"not listed": {env: map[string]string{"BATON_NAME": "c", "BATON_MEMBERS": "a=b:1,b=b:2"}, fault: `"c" is none of Members`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := configure(func(key string) string { return c.env[key] })
			if err == nil {
				err = got.node.Validate()
			}
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("got %v, want %q", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			n := got.node
			if n.Bind != c.bind || n.Advertise != c.advertise || n.Dir != c.dir || got.http != c.http || !n.Heal {
				t.Errorf("bind %s, advertise %s, dir %s, http %s, heal %v", n.Bind, n.Advertise, n.Dir, got.http, n.Heal)
			}
		})
	}
}

// A store that is restored from another's snapshot has its values, of the moment when it was taken.
func TestStore(t *testing.T) {
	s := newStore()
	apply := func(records ...string) {
		t.Helper()
		for i, r := range records {
			if err := s.Apply([]ha.Entry{{Index: uint64(i), Data: []byte(r)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply(`{"key":"a","value":"MQ=="}`, `{"key":"b","value":"Mg=="}`, `{"key":"a","delete":true}`, `{"key":"empty"}`)
	at, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	apply(`{"key":"b","value":"Mw=="}`)
	var b bytes.Buffer
	n, err := at.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Errorf("wrote %d bytes of %d, %v", n, b.Len(), err)
	}
	other := newStore()
	if err := other.Restore(&b); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"b": "2", "empty": ""}
	if !maps.EqualFunc(other.values, want, func(v []byte, w string) bool { return string(v) == w }) {
		t.Errorf("restored %q, want %q", other.values, want)
	}
	if err := s.Apply([]ha.Entry{{Index: 9, Data: []byte("{")}}); err == nil {
		t.Error("what is no change was applied")
	}
}
