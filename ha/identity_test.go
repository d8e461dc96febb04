package ha_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
	"github.com/baton-ha/baton/storage"
	"github.com/baton-ha/baton/transport"
)

// used runs a cluster for one record, so that its members know each other, and returns it running.
func used(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, 3, quick)
	c.startAll()
	c.put(number(7))
	c.awaitSum(7, 1)
	return c
}

func TestT13_ForeignDirectory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	cfg := c.config("a")
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "thesis.tex"), []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := refusedOpen(t, cfg); !errors.Is(err, storage.ErrForeign) || !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("open: %v", err)
	}
}

func TestT13_DirectoryIsAFile(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	cfg := c.config("a")
	if err := os.WriteFile(cfg.Dir, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := refusedOpen(t, cfg); !strings.Contains(err.Error(), cfg.Dir) {
		t.Errorf("open: %v", err)
	}
}

func TestT13_DirectoryOfSomebodyElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	c.start("a")
	c.put(number(7))
	c.closeAll()
	for name, change := range map[string]func(*ha.Config){
		"other cluster": func(cfg *ha.Config) { cfg.Cluster = "other" },
		"other member": func(cfg *ha.Config) {
			cfg.Name, cfg.Members = "b", []ha.Member{{Name: "b", Addr: cfg.Members[0].Addr}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.config("a")
			change(&cfg)
			err := refusedOpen(t, cfg)
			var id *storage.IdentityError
			if !errors.As(err, &id) || id.Have.Cluster != "test" || id.Have.Member != "a" || id.Want.Cluster != cfg.Cluster || id.Want.Member != cfg.Name {
				t.Errorf("open: %v", err)
			}
		})
	}
	c.start("a")
	c.awaitSum(7, 1)
	c.closeAll()
}

func TestT13_DirectoryOpenedTwice(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, quick)
	c.start("a")
	c.put(number(7))
	again := c.config("a")
	if _, err := ha.Open(again); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("on the same port: %v", err)
	}
	again.Bind = loopback.Addr(t)
	if _, err := ha.Open(again); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("in the same process: %v", err)
	}
	if o := openElsewhere(t, again); !o.Locked || !strings.Contains(o.Err, again.Dir) {
		t.Errorf("in a second process: %+v", o)
	}
	c.put(number(1)) // the first one has not noticed
	c.stop("a")
	if o := openElsewhere(t, again); o.Err != "" {
		t.Errorf("in a second process, after Close: %v", o.Err)
	}
	c.start("a")
	c.awaitSum(8, 2)
	c.closeAll()
}

func TestT13_KnownNameEmptyDirectory(t *testing.T) {
	t.Parallel()
	c := used(t)
	c.stop("c")
	cfg := c.config("c")
	for _, how := range []string{"absent", "empty"} {
		if err := os.RemoveAll(cfg.Dir); err != nil {
			t.Fatal(err)
		}
		if how == "empty" {
			if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		n, err := ha.Open(cfg)
		if err == nil {
			n.Close()
			t.Fatalf("%s: opened", how)
		}
		if !errors.Is(err, ha.ErrForgotten) || !errors.Is(err, transport.ErrNotAdmitted) {
			t.Errorf("%s: %v", how, err)
		}
		if entries, err := os.ReadDir(cfg.Dir); len(entries) > 0 || (how == "absent") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: after the refusal: %v, %v", how, entries, err)
		}
	}
	c.put(number(1))
}

func TestT13_TwoMembersWithOneName(t *testing.T) {
	t.Parallel()
	c := used(t)
	cfg := c.config("b")
	cfg.Dir, cfg.Bind = filepath.Join(c.dir, "second-b"), loopback.Addr(t)
	if o := openElsewhere(t, cfg); !o.Forgotten || !strings.Contains(o.Err, "another directory") {
		t.Errorf("in a second process: %+v", o)
	}
	if _, err := ha.Open(cfg); !errors.Is(err, ha.ErrForgotten) {
		t.Errorf("in this process: %v", err)
	}
	if got := tree(t, cfg.Dir); got != "" {
		t.Errorf("the refused start has left\n%s", got)
	}
	c.put(number(1))
	c.awaitSum(8, 2)
}

// A copy of a member's directory, opened beside the member, keeps it from nothing, also where its answers are needed.
func TestT13_CopiedDirectory(t *testing.T) {
	t.Parallel()
	c := used(t)
	c.stop("c")
	cfg := c.config("c")
	cfg.Dir, cfg.Bind = filepath.Join(c.dir, "copy-of-c"), loopback.Addr(t)
	if err := os.CopyFS(cfg.Dir, os.DirFS(c.config("c").Dir)); err != nil {
		t.Fatal(err)
	}
	c.start("c")
	c.put(number(1))
	c.awaitSum(8, 2) // c is connected to the leader
	copied, err := ha.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	eventually(t, "the copy is refused", func() bool {
		return slices.ContainsFunc(copied.Status().Problems, func(p ha.Problem) bool { return p.Kind == "duplicate" && errors.Is(p.Err, transport.ErrDuplicate) })
	})
	for range 20 {
		c.put(number(0))
	}
	c.awaitSum(8, 22)
	c.stop("b")
	c.put(number(1)) // which c has to acknowledge
	c.awaitSum(9, 23)
	if s := copied.Status(); s.State == ha.Active || s.State == ha.Activating || s.Index > 1 {
		t.Errorf("the copy is %+v", s)
	}
}

func TestT13_MemberListsDiffer(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, quick)
	c.start("a")
	extra := ha.Member{Name: "d", Addr: loopback.Addr(t)}
	for name, members := range map[string][]ha.Member{
		"one more":  {c.members[0], c.members[1], c.members[2], extra},
		"one less":  {c.members[0], c.members[1]},
		"one other": {c.members[0], c.members[1], extra},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.config("b")
			cfg.Dir, cfg.Members = filepath.Join(t.TempDir(), "b"), members
			if err := refusedOpen(t, cfg); !errors.Is(err, transport.ErrMemberList) || !strings.Contains(err.Error(), `"a"`) {
				t.Errorf("open: %v", err)
			}
		})
	}
	t.Run("unknown name", func(t *testing.T) {
		cfg := c.config("b")
		cfg.Name, cfg.Dir, cfg.Members = "d", filepath.Join(t.TempDir(), "d"), []ha.Member{c.members[0], c.members[1], extra}
		if err := refusedOpen(t, cfg); !errors.Is(err, transport.ErrUnknownMember) {
			t.Errorf("open: %v", err)
		}
	})
	c.start("b", "c")
	c.put(number(1))
	c.awaitSum(1, 1)
}

func TestT13_OtherClusterOnOurPorts(t *testing.T) {
	t.Parallel()
	c := used(t)
	c.stop("b")
	cfg := c.config("b")
	cfg.Cluster, cfg.Dir = "other", filepath.Join(t.TempDir(), "b")
	if err := refusedOpen(t, cfg); !errors.Is(err, transport.ErrWrongCluster) || !strings.Contains(err.Error(), "other") {
		t.Errorf("open: %v", err)
	}
	c.start("b")
	c.put(number(1))
	c.awaitSum(8, 2)
}
