package namenode

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"testing"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/testseed"
)

// edit gives a namespace a record, as the log would.
func edit(t *testing.T, n *Namespace, q dfs.Request) (a dfs.Answer) {
	t.Helper()
	record, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	answers, err := n.Answer([]ha.Entry{{Index: n.index + 1, Data: record}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(answers[0], &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestNamespace(t *testing.T) {
	n := NewNamespace()
	is := func(q dfs.Request, code dfs.Code) *dfs.Answer {
		t.Helper()
		a := edit(t, n, q)
		if a.Code != code {
			t.Fatalf("%+v: %v %q, want %v", q, a.Code, a.Refused, code)
		}
		return &a
	}
	for _, path := range []string{"", "/", "a", "/a/", "//a", "/a/../b"} {
		is(dfs.Request{Op: dfs.Create, Path: path, Holder: "w", Replication: 1}, dfs.BadRequest)
	}
	is(dfs.Request{Op: dfs.Create, Path: "/d/f", Holder: "w", Replication: 2}, 0)
	is(dfs.Request{Op: dfs.Create, Path: "/d/f", Holder: "v", Replication: 2}, dfs.Exists)
	is(dfs.Request{Op: dfs.Create, Path: "/d", Holder: "v", Replication: 2}, dfs.Exists)
	is(dfs.Request{Op: dfs.Create, Path: "/d/f/g", Holder: "v", Replication: 2}, dfs.Exists)
	is(dfs.Request{Op: dfs.Add, Path: "/d/f", Holder: "v", Nodes: []string{"d1"}}, dfs.NotHolder)
	is(dfs.Request{Op: dfs.Add, Path: "/d/f", Holder: "w"}, dfs.BadRequest)
	one := is(dfs.Request{Op: dfs.Add, Path: "/d/f", Holder: "w", Nodes: []string{"d1", "d2"}}, 0).Block
	if len(one.Nodes) != 2 || one.Nodes[1].Name != "d2" {
		t.Errorf("%+v", one)
	}
	is(dfs.Request{Op: dfs.Add, Path: "/d/f", Holder: "w", Nodes: []string{"d1"}}, dfs.BadRequest) // the first is not complete
	full := one.Block
	full.Len, full.Sum = 10, 99
	two := is(dfs.Request{Op: dfs.Add, Path: "/d/f", Holder: "w", Block: &full, Nodes: []string{"d1"}}, 0).Block
	files, _ := n.list("/", "")
	if len(files) != 1 || files[0].Len() != 10 || !files[0].Open {
		t.Errorf("%+v", files)
	}

	// A DataNode fails: the second block goes on in a new generation.
	next := is(dfs.Request{Op: dfs.Generation, Path: "/d/f", Holder: "w"}, 0).Block
	if next.ID != two.ID || next.Gen <= two.Gen {
		t.Errorf("%+v after %+v", next, two)
	}
	is(dfs.Request{Op: dfs.Pipeline, Path: "/d/f", Holder: "w", Block: &next.Block, Nodes: []string{"d2"}}, 0)
	is(dfs.Request{Op: dfs.Pipeline, Path: "/d/f", Holder: "w", Block: &two.Block, Nodes: []string{"d1"}}, dfs.BadRequest)
	is(dfs.Request{Op: dfs.Complete, Path: "/d/f", Holder: "w", Block: &two.Block}, dfs.BadRequest)

	// The writer dies, and so does the first attempt to take the file from it.
	is(dfs.Request{Op: dfs.Recover, Path: "/d/f", Holder: "r1"}, 0)
	r := is(dfs.Request{Op: dfs.Recover, Path: "/d/f", Holder: "r2"}, 0)
	if r.Block.Gen != next.Gen || r.Recovery <= next.Gen || r.Block.Nodes[0].Name != "d2" {
		t.Errorf("%+v", r)
	}
	for _, holder := range []string{"w", "r1"} {
		is(dfs.Request{Op: dfs.Complete, Path: "/d/f", Holder: holder, Block: &next.Block}, dfs.NotHolder)
	}
	is(dfs.Request{Op: dfs.Complete, Path: "/d/f", Holder: "r2", Block: &dfs.Block{ID: two.ID, Gen: r.Recovery, Len: 5, Sum: 3}}, 0)
	is(dfs.Request{Op: dfs.Recover, Path: "/d/f", Holder: "r3"}, dfs.NotHolder)

	is(dfs.Request{Op: dfs.Rename, Path: "/d", To: "/d/e"}, dfs.BadRequest)
	is(dfs.Request{Op: dfs.Rename, Path: "/d", To: "/e"}, 0)
	is(dfs.Request{Op: dfs.Remove, Path: "/d"}, dfs.NotFound)
	if files, _ = n.list("/e", ""); len(files) != 1 || files[0].Path != "/e/f" || files[0].Len() != 15 || files[0].Open {
		t.Errorf("%+v", files)
	}
	is(dfs.Request{Op: dfs.Remove, Path: "/"}, 0)
	if len(n.files)+len(n.dirs)+len(n.owner) > 0 {
		t.Errorf("left: %v %v %v", n.files, n.dirs, n.owner)
	}
}

// TestSameOnEveryMember gives random edits to two namespaces, one of which is replaced by what its image says, again and again.
func TestSameOnEveryMember(t *testing.T) {
	rnd := testseed.Rand(t)
	ops := []dfs.Op{
		dfs.Create, dfs.Create, dfs.Add, dfs.Add, dfs.Add, dfs.Generation, dfs.Pipeline, dfs.Abandon, dfs.Complete, dfs.Rename, dfs.Remove,
		dfs.Recover,
	}
	path := func() string {
		return fmt.Sprintf("/%d/%d/%d", rnd.IntN(2), rnd.IntN(3), rnd.IntN(3))[:2*(1+rnd.IntN(3))]
	}
	one, two := NewNamespace(), NewNamespace()
	done := map[dfs.Op]int{}
	for i := range 5000 {
		q := dfs.Request{Op: ops[rnd.IntN(len(ops))], Path: path(), To: path(), Holder: "w", Replication: 1, Nodes: []string{"d"}}
		if f := one.files[q.Path]; f != nil && f.last() != nil && rnd.IntN(4) > 0 {
			b := *f.last()
			b.Gen, b.Len, b.Sum = b.Gen+uint64(rnd.IntN(2)), rnd.Int64N(3), rnd.Uint32()
			q.Block = &b
		}
		a := edit(t, one, q)
		if b := edit(t, two, q); !reflect.DeepEqual(a, b) {
			t.Fatalf("edit %d, %+v: answers %+v and %+v", i, q, a, b)
		}
		if a.Code == 0 {
			done[q.Op]++
		}
		if i%100 != 0 {
			continue
		}
		im, err := two.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		edit(t, two, dfs.Request{Op: dfs.Remove, Path: "/"})
		text := written(t, im) // it has stood still
		if want, err := one.Snapshot(); err != nil || !bytes.Equal(text, written(t, want)) {
			t.Fatalf("after %d edits, %v:\n%s\n%s", i+1, err, written(t, want), text)
		}
		if err := two.Verify(bytes.NewReader(text[:len(text)-2])); err == nil {
			t.Fatal("an image that was cut off is believed")
		}
		two = NewNamespace()
		if err := two.Restore(bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(one.dirs, two.dirs) || len(one.owner) != len(two.owner) {
			t.Fatalf("after %d edits:\n%+v\n%+v", i+1, one, two)
		}
	}
	for _, op := range ops {
		if done[op] == 0 {
			t.Errorf("no %s has succeeded: %v", op, done)
		}
	}
}

func written(t *testing.T, im io.WriterTo) []byte {
	t.Helper()
	var b bytes.Buffer
	if n, err := im.WriteTo(&b); err != nil || n != int64(b.Len()) {
		t.Fatal(n, err)
	}
	return b.Bytes()
}
