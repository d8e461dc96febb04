package ha_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/ha"
)

var fullDisk = flag.Bool("disk.full", false, "run the test that mounts a small file system and fills it, which takes ten seconds")

// Others fill the disk of the Active, a small file system, to the last byte while it is under load: appends there are refused and
// say why, another member goes on within a moment, nothing that was acknowledged is lost, nobody stops, reads go on. When there is
// space again the first member can have the role by being asked, and no more.
func TestT14_FullDisk(t *testing.T) {
	mnt := smallDisk(t)
	c := newCluster(t, 3, func(cfg *ha.Config) {
		quick(cfg)
		if cfg.Name == "a" {
			cfg.Dir = filepath.Join(mnt, "a")
		}
	})
	c.startAll()
	defer c.closeAll() // before it is unmounted
	toA := func() fence.Token {
		var token fence.Token
		eventually(t, "a is active", func() bool {
			if s := c.nodes["a"].Status(); s.State == ha.Active {
				token = s.Token
				return true
			}
			_ = c.nodes["a"].Become(t.Context(), ha.Active)
			return false
		})
		return token
	}
	c.put(number(0))
	first := toA()

	l := newLedger()
	var next, noRoom atomic.Uint64
	var elsewhere atomic.Int64 // when the first append was acknowledged elsewhere
	next.Store(1)
	ctx, stop := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond) // the log must fit into the small disk
				for name, n := range c.nodes {
					s := n.Status()
					if s.State != ha.Active {
						continue
					}
					v := next.Add(1)
					record := append(number(v), make([]byte, 1000)...)
					index, err := n.Append(context.Background(), s.Token, record)
					l.note(t, v, index, err)
					var why *ha.NoRoomError
					switch {
					case err == nil && name != "a":
						elsewhere.CompareAndSwap(0, time.Now().UnixNano())
					case errors.Is(err, ha.ErrNoRoom):
						noRoom.Add(1)
						if !errors.As(err, &why) || why.Reason != ha.RoomDisk || !errors.Is(err, ha.ErrBusy) {
							t.Errorf("refused with %v", err)
						}
					}
				}
			}
		})
	}
	eventually(t, "some appends", func() bool { return next.Load() > 500 })
	other := filepath.Join(mnt, "other")
	full := fill(t, other)
	eventually(t, "another member takes appends", func() bool { return elsewhere.Load() != 0 })
	t.Logf("on another member %v after the disk was full; %d appends were refused for want of room", time.Unix(0, elsewhere.Load()).Sub(full).Round(time.Millisecond), noRoom.Load())
	fill(t, other) // what was given up since, too
	before := next.Load()
	eventually(t, "appends beside a full disk", func() bool { return next.Load() > before+2000 })
	if s := c.nodes["a"].Status(); s.State == ha.Failed {
		t.Errorf("the member on the full disk: %+v", s)
	}
	records(t, c.nodes["a"], 100) // as it always did
	must(t, os.Remove(other))
	eventually(t, "there is room again", func() bool {
		for _, o := range c.nodes["a"].Status().Obstacles {
			if o.Kind == ha.ObstacleDiskFull {
				return false
			}
		}
		return true
	})
	if again := toA(); !again.Supersedes(first) {
		t.Errorf("%v does not supersede %v", again, first)
	}
	before = next.Load()
	eventually(t, "appends on the first member again", func() bool { return next.Load() > before+500 })
	stop()
	writers.Wait()
	l.check(c)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill writes a file until there is not a block left, and returns when that was so.
func fill(t *testing.T, name string) time.Time {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
	return time.Now()
}

// smallDisk mounts a small ext4 file system, until the end of the test.
func smallDisk(t *testing.T) (mnt string) {
	t.Helper()
	if !*fullDisk || os.Geteuid() != 0 {
		t.Skip("takes ten seconds, and only root can mount a file system: -disk.full")
	}
	dir := t.TempDir()
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	must(t, os.Mkdir(mnt, 0o700))
	for _, args := range [][]string{{"truncate", "-s", "300M", img}, {"mkfs.ext4", "-q", "-F", "-m", "0", img}, {"mount", "-o", "loop", img, mnt}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("no small file system can be mounted here: %s: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, 0); err != nil {
			t.Error(err, unix.Unmount(mnt, unix.MNT_DETACH))
		}
	})
	return mnt
}
