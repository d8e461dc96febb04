//go:build linux

package state

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"

	"github.com/baton-ha/baton/ha"
)

// saved is what a machine's checkpoint is.
func saved(t *testing.T, m *Machine) string {
	t.Helper()
	var b bytes.Buffer
	c, err := m.Snapshot()
	if err == nil {
		_, err = c.WriteTo(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Records that make no sense, as an operator may append them, have no effect.
func TestMachineNonsense(t *testing.T) {
	m := new(Machine)
	apply := func(index uint64, records ...[]byte) {
		for _, r := range records {
			if err := m.Apply([]ha.Entry{{Index: index, Epoch: 1, Data: r}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	commit := func(c change) []byte {
		b, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	apply(1, []byte(`r"kept"`), commit(change{First: true, Last: true, Ops: []op{
		{Path: "dir", What: put, Mode: uint32(fs.ModeDir | 0o755)}, {Path: "file", What: put, Mode: 0o644, Size: 3}, {Path: "file", What: write, Data: []byte("abc")},
	}}))
	was := saved(t, m)
	for name, record := range map[string][]byte{
		"nothing": nil, "another kind": []byte("x1"), "a kind alone": []byte("r"), "no JSON": []byte("r{"), "two lines": []byte("r[1,\n2]"),
		"a part without its first": []byte("m1"), "the last without its first": []byte("e1"), "no msgpack": []byte("f\xc1\xff\xff"),
		"a commit without its beginning": commit(change{Last: true, Ops: []op{{Path: "file", What: remove}}}),
	} {
		if apply(2, record); saved(t, m) != was {
			t.Errorf("%s has an effect", name)
		}
	}
	for name, o := range map[string]op{
		"up": {Path: "../x", What: put}, "absolute": {Path: "/x", What: put}, "not clean": {Path: "dir/../x", What: put}, "itself": {Path: ".", What: put}, "no name": {What: put},
		"a zero in it": {Path: "x\x00", What: put}, "a link": {Path: "x", What: put, Mode: uint32(fs.ModeSymlink)}, "negative": {Path: "x", What: put, Size: -1},
		"huge": {Path: "x", What: put, Size: 1 << 62}, "in no directory": {Path: "x/y", What: put}, "in a file": {Path: "file/y", What: put},
		"into nothing": {Path: "x", What: write, Data: []byte("a")}, "into a directory": {Path: "dir", What: write, Data: []byte("a")},
		"too long": {Path: "file", What: write, Data: []byte("abcd")}, "behind the end": {Path: "file", What: write, At: pieceSize, Data: []byte("abc")},
		"before it": {Path: "file", What: write, At: -pieceSize, Data: []byte("abc")}, "nothing known": {Path: "x", What: 9},
	} {
		if apply(3, commit(change{First: true, Last: true, Ops: []op{{Path: "file", What: write, Data: []byte("xyz")}, {Path: "good", What: put, Mode: 0o600}, o}})); saved(t, m) != was {
			t.Errorf("%s has an effect", name)
		}
	}
	if err := m.Restore(strings.NewReader(was)); err != nil || saved(t, m) != was {
		t.Errorf("restored: %v", err)
	}
	for n := range len(was) {
		if err := m.Restore(strings.NewReader(was[:n])); err == nil {
			t.Errorf("a checkpoint that ends after %d bytes of %d is taken", n, len(was))
		}
	}
	if saved(t, m) != was {
		t.Error("what could not be restored has changed something")
	}
}
