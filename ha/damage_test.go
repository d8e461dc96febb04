package ha_test

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/testseed"
	"github.com/baton-ha/baton/storage"
)

var healDamages = flag.Int("heal.damages", 0, "damages of each kind that TestG7_DamageIsHealed does to a member's directory")

// damages are the kinds of damage, each at a place in what a file holds.
var damages = map[string]func(rnd *rand.Rand, b []byte, at int) []byte{
	"flipped bit": func(rnd *rand.Rand, b []byte, at int) []byte {
		b[at] ^= 1 << rnd.IntN(8)
		return b
	},
	"zeroed sector": func(_ *rand.Rand, b []byte, at int) []byte {
		at &^= 511
		clear(b[at:min(at+512, len(b))])
		return b
	},
	"truncation": func(_ *rand.Rand, b []byte, at int) []byte { return b[:at] },
	"a block over another": func(rnd *rand.Rand, b []byte, at int) []byte {
		from := rnd.IntN(at + 1)
		copy(b[at:], bytes.Clone(b[from:min(from+4096, len(b))]))
		return b
	},
}

// TestG7_DamageIsHealed does damage to one of three members' directories, again and again. It is found, when the member starts or when what is damaged is
// read, and the member comes back by itself: all members have all records. Damage that nothing rests on does no harm. For the real thing:
//
//	go test ./ha -run G7_DamageIsHealed -v -heal.damages=300 -timeout 1h
func TestG7_DamageIsHealed(t *testing.T) {
	if *healDamages == 0 {
		t.Skip("see -heal.damages")
	}
	rnd := testseed.Rand(t)
	c := newCluster(t, 3, func(cfg *ha.Config) {
		heals(cfg)
		cfg.CheckpointBytes, cfg.RetainBytes = 32<<10, 32<<10
	})
	c.startAll()
	sum, n := uint64(0), 0
	put := func(records int) {
		for range records {
			v := rnd.Uint64() >> 32
			c.put(append(number(v), make([]byte, rnd.IntN(2000))...))
			sum, n = sum+v, n+1
		}
	}
	put(50)
	healed, harmless := 0, 0
	for kind, damage := range damages {
		for range *healDamages {
			put(3)
			c.awaitSum(sum, n)
			_, token := c.active()
			name := c.others(token.Holder)[rnd.IntN(2)]
			dir := c.config(name).Dir
			c.stop(name)
			file := damageOne(t, rnd, dir, damage)
			before, _ := filepath.Glob(filepath.Join(dir, "damaged-*"))
			c.revive(name)
			c.works(name)
			if err := c.readAll(name); err != nil { // found only now: whoever runs the process starts it again
				if err := c.nodes[name].Close(); !errors.As(err, new(*storage.CorruptError)) {
					t.Fatalf("%s in %s: %s has stopped: %v", kind, file, name, err)
				}
				c.revive(name)
				c.works(name)
			}
			put(1)
			c.awaitSum(sum, n)
			if err := c.readAll(name); err != nil {
				t.Fatalf("%s in %s: afterwards: %v", kind, file, err)
			}
			if after, _ := filepath.Glob(filepath.Join(dir, "damaged-*")); len(after) > len(before) {
				healed++
				for _, path := range after[:len(after)-1] { // one is enough to look at
					os.RemoveAll(path)
				}
			} else {
				harmless++
			}
		}
	}
	t.Logf("%d damages of %d kinds: %d directories were set aside and the members came back, %d damages did no harm", *healDamages*len(damages), len(damages), healed, harmless)
}

// damageOne damages what was written of one of a member's files.
func damageOne(t *testing.T, rnd *rand.Rand, dir string, damage func(*rand.Rand, []byte, int) []byte) (file string) {
	t.Helper()
	var files []string
	for _, pattern := range []string{"identity", "mark", "wal/*.wal", "snap/*.snap"} {
		some, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, some...)
	}
	file = files[rnd.IntN(len(files))]
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	written := len(bytes.TrimRight(b, "\x00"))
	was := bytes.Clone(b)
	for range 1000 { // some change nothing
		if !bytes.Equal(b, was) {
			break
		}
		b = damage(rnd, bytes.Clone(was), rnd.IntN(max(written, 1)))
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// readAll reads all records that a member holds, and compares them with the Active's.
func (c *cluster) readAll(name string) error {
	c.t.Helper()
	from := uint64(1)
	last := c.nodes[name].Status().Applied
	active, _ := c.active()
	theirs := map[uint64][]byte{}
	for _, read := range []struct {
		n    *ha.Node
		take func(e ha.Entry)
	}{
		{active, func(e ha.Entry) { theirs[e.Index] = e.Data }},
		{c.nodes[name], func(e ha.Entry) {
			if want, ok := theirs[e.Index]; ok && !bytes.Equal(want, e.Data) {
				c.t.Errorf("%s has another record %d than the active", name, e.Index)
			}
		}},
	} {
		for at := from; at <= last; {
			var err error
			for e, rerr := range read.n.Subscribe(c.t.Context(), at) {
				if err = rerr; rerr != nil {
					break
				}
				read.take(e)
				if at = e.Index + 1; at > last {
					break
				}
			}
			var gone *ha.CompactedError
			switch {
			case errors.As(err, &gone):
				at = gone.First
			case err != nil:
				return err
			}
		}
	}
	return nil
}
