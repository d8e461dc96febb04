package datanode

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/baton-ha/baton/examples/namenode/internal/dfs"
	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/httpfence"
)

func token(epoch uint64) fence.Token {
	return fence.Token{Cluster: "dfs", Epoch: epoch, Holder: "a"}
}

// open opens a DataNode in a directory, as Run does. close ends it.
func open(t *testing.T, dir string) (d *DataNode, shut func()) {
	t.Helper()
	s, err := openStore(filepath.Join(dir, "blocks"))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := fence.OpenFileStore(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	return &DataNode{store: s, guard: fence.NewGuard("dfs", tokens)}, func() { tokens.Close() }
}

// serve serves a handler, and returns where.
func serve(t *testing.T, h http.Handler) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// order sends a command with the token of an epoch.
func order(t *testing.T, addr, path string, epoch uint64, q, answer any) error {
	t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &httpfence.Transport{Token: token(epoch)}}
	resp, err := c.Post("http://"+addr+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := httpfence.Check(resp); err != nil {
		return err
	}
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return errors.New(string(text))
	}
	if answer != nil {
		return json.Unmarshal(text, answer)
	}
	return nil
}

// write writes a block through a pipeline, in two packets.
func write(t *testing.T, id uint64, text string, pipeline ...string) dfs.Block {
	t.Helper()
	half := len(text) / 2
	b := dfs.Block{ID: id, Gen: id, Len: int64(len(text)), Sum: dfs.Sum(0, []byte(text))}
	for _, p := range []dfs.Packet{
		{ID: id, Gen: id, Data: []byte(text[:half])},
		{ID: id, Gen: id, At: int64(half), Data: []byte(text[half:]), Last: true, Sum: b.Sum},
	} {
		if err := dfs.Send(t.Context(), &p, pipeline); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func fetch(t *testing.T, b dfs.Block, addr string) (string, error) {
	t.Helper()
	data, err := dfs.Fetch(t.Context(), b, addr)
	return string(data), err
}

// TestT15_LateCommand is HDFS's third fence: a command of an Active that was replaced is not carried out, also where the DataNode was
// restarted in between. Without the guard, which is tried, too, it is.
func TestT15_LateCommand(t *testing.T) {
	dir := t.TempDir()
	d, shut := open(t, dir)
	addr := serve(t, d.handler())
	b := write(t, 1, "precious", addr)
	if err := order(t, addr, "/delete", 7, dfs.Delete{Number: 1}, nil); err != nil {
		t.Fatal(err)
	}
	if err := order(t, addr, "/delete", 8, dfs.Delete{Number: 1}, nil); err != nil {
		t.Fatal(err)
	}
	shut()
	d, shut = open(t, dir)
	defer shut()
	addr = serve(t, d.handler())

	var stale *fence.StaleError
	for path, q := range map[string]any{
		"/delete": dfs.Delete{Number: 2, Blocks: []dfs.Block{b}}, "/copy": dfs.Copy{Block: dfs.Block{ID: 9}},
		"/prepare": dfs.Prepare{Block: b, Recovery: 9}, "/settle": dfs.Settle{ID: 1, Recovery: 9},
	} {
		if err := order(t, addr, path, 7, q, nil); !errors.As(err, &stale) || stale.Known != token(8) {
			t.Errorf("late %s: %v", path, err)
		}
	}
	if text, err := fetch(t, b, addr); text != "precious" {
		t.Errorf("after late commands: %q, %v", text, err)
	}
	unguarded := serve(t, d.commands())
	if err := order(t, unguarded, "/delete", 7, dfs.Delete{Number: 2, Blocks: []dfs.Block{b}}, nil); err != nil {
		t.Errorf("without the guard: %v", err)
	}
	if text, err := fetch(t, b, addr); err == nil {
		t.Errorf("without the guard the late command did no harm: %q", text)
	}
}

// TestOvertaken checks that of one Active's commands one that comes after a later one is refused.
func TestOvertaken(t *testing.T) {
	d, shut := open(t, t.TempDir())
	defer shut()
	addr := serve(t, d.handler())
	b := write(t, 1, "precious", addr)
	var done dfs.Deleted
	if err := order(t, addr, "/delete", 1, dfs.Delete{Number: 2}, &done); err != nil || done.Boot != d.store.boot {
		t.Fatalf("%+v, %v", done, err)
	}
	if err := order(t, addr, "/delete", 1, dfs.Delete{Number: 1, Blocks: []dfs.Block{b}}, nil); err == nil {
		t.Error("an overtaken command was carried out")
	}
	if err := order(t, addr, "/delete", 2, dfs.Delete{Number: 1, Blocks: []dfs.Block{b}}, &done); err != nil {
		t.Errorf("the next Active counts from 1: %v", err)
	}
	p, _ := d.store.report(0, true)
	if len(p.Replicas) > 0 || p.To != done.Change || p.Obeys != token(2) {
		t.Errorf("the report %+v, after the answer %+v", p, done)
	}
}

// TestPipeline writes through three DataNodes, of which one is lost on the way, and goes on in a new generation.
func TestPipeline(t *testing.T) {
	var nodes []*DataNode
	var addrs []string
	var servers []*httptest.Server
	for range 3 {
		d, shut := open(t, t.TempDir())
		defer shut()
		srv := httptest.NewServer(d.handler())
		defer srv.Close()
		nodes, servers, addrs = append(nodes, d), append(servers, srv), append(addrs, strings.TrimPrefix(srv.URL, "http://"))
	}
	send := func(p dfs.Packet, to ...string) error { return dfs.Send(t.Context(), &p, to) }
	if err := send(dfs.Packet{ID: 1, Gen: 1, Data: []byte("one ")}, addrs...); err != nil {
		t.Fatal(err)
	}
	servers[2].Close()
	var failed *dfs.PipelineError
	if err := send(dfs.Packet{ID: 1, Gen: 1, At: 4, Data: []byte("two ")}, addrs...); !errors.As(err, &failed) || failed.Addr != addrs[2] {
		t.Fatalf("with a DataNode lost: %v", err)
	}
	// Some have the second packet, which nobody has acknowledged: the new generation is without it.
	if err := send(dfs.Packet{ID: 1, Gen: 5, Was: 1, At: 4}, addrs[:2]...); err != nil {
		t.Fatal(err)
	}
	if err := send(dfs.Packet{ID: 1, Gen: 1, At: 4, Data: []byte("late")}, addrs[0]); err == nil {
		t.Error("a packet of an old generation was taken")
	}
	if err := send(dfs.Packet{ID: 1, Gen: 5, At: 9, Data: []byte("gap")}, addrs[0]); err == nil {
		t.Error("a packet behind a gap was taken")
	}
	sum := dfs.Sum(0, []byte("one TWO"))
	last := dfs.Packet{ID: 1, Gen: 5, At: 4, Data: []byte("TWO"), Last: true, Sum: sum}
	for range 2 { // the second is a repetition
		if err := send(last, addrs[:2]...); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range addrs[:2] {
		if text, err := fetch(t, dfs.Block{ID: 1, Gen: 5, Len: 7, Sum: sum}, addr); text != "one TWO" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if p, _ := nodes[2].store.report(0, true); len(p.Replicas) != 1 || p.Replicas[0].Complete || p.Replicas[0].Gen != 1 {
		t.Errorf("the lost one has %+v", p.Replicas)
	}
}

// TestSettle settles a block whose writer has died: what both have stays, also after a restart, and the writer can do no more.
func TestSettle(t *testing.T) {
	dir := t.TempDir()
	one, shutOne := open(t, dir)
	two, shutTwo := open(t, t.TempDir())
	defer shutTwo()
	addrOne, addrTwo := serve(t, one.handler()), serve(t, two.handler())
	send := func(p dfs.Packet, to ...string) error { return dfs.Send(t.Context(), &p, to) }
	if err := send(dfs.Packet{ID: 1, Gen: 2, Data: []byte("flushed"), Sync: true}, addrOne, addrTwo); err != nil {
		t.Fatal(err)
	}
	if err := send(dfs.Packet{ID: 1, Gen: 2, At: 7, Data: []byte(" and more")}, addrTwo); err != nil {
		t.Fatal(err)
	}
	shutOne()
	one, shutOne = open(t, dir)
	defer shutOne()
	addrOne = serve(t, one.handler())
	if err := send(dfs.Packet{ID: 1, Gen: 2, At: 7, Data: []byte("x")}, addrOne); err == nil {
		t.Error("a writer goes on after a restart, which may have lost its packets")
	}
	for addr, length := range map[string]int64{addrOne: 7, addrTwo: 16} {
		var p dfs.Prepared
		if err := order(t, addr, "/prepare", 1, dfs.Prepare{Block: dfs.Block{ID: 1, Gen: 3}, Recovery: 9}, &p); err != nil || p.There {
			t.Errorf("a replica that was left behind: %+v, %v", p, err)
		}
		if err := order(t, addr, "/prepare", 1, dfs.Prepare{Block: dfs.Block{ID: 1, Gen: 2}, Recovery: 9}, &p); err != nil || p.Len != length {
			t.Errorf("prepare: %+v, %v", p, err)
		}
		if err := order(t, addr, "/prepare", 1, dfs.Prepare{Block: dfs.Block{ID: 1, Gen: 2}, Recovery: 8}, &p); err == nil {
			t.Error("an earlier recovery was let in")
		}
		if err := send(dfs.Packet{ID: 1, Gen: 2, At: 7, Data: []byte("late")}, addr); err == nil {
			t.Error("the writer that was given up goes on")
		}
		want := dfs.Block{ID: 1, Gen: 9, Len: 7, Sum: dfs.Sum(0, []byte("flushed"))}
		for range 2 {
			var b dfs.Block
			if err := order(t, addr, "/settle", 1, dfs.Settle{ID: 1, Recovery: 9, Len: 7}, &b); err != nil || b != want {
				t.Errorf("settle: %+v, %v", b, err)
			}
		}
		if text, err := fetch(t, want, addr); text != "flushed" {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// TestCopyAndDamage copies a replica, damages one, and finds it put aside.
func TestCopyAndDamage(t *testing.T) {
	dir := t.TempDir()
	one, shutOne := open(t, dir)
	defer shutOne()
	two, shutTwo := open(t, t.TempDir())
	defer shutTwo()
	addrOne, addrTwo := serve(t, one.handler()), serve(t, two.handler())
	b := write(t, 1, "what was written", addrOne)
	if err := order(t, addrTwo, "/copy", 1, dfs.Copy{Block: b, From: addrOne}, nil); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "blocks", fmt.Sprintf("1.1.%08x.blk", b.Sum))
	if err := os.WriteFile(name, []byte("what was damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := fetch(t, b, addrOne); err == nil {
		t.Errorf("a damaged replica was read: %q", text)
	}
	p, _ := one.store.report(0, false)
	if r := p.Replicas[len(p.Replicas)-1]; !r.Gone {
		t.Errorf("the last change is %+v", r)
	}
	if text, err := fetch(t, b, addrTwo); text != "what was written" {
		t.Errorf("%q, %v", text, err)
	}
	if err := one.store.copy(context.Background(), dfs.Copy{Block: b, From: addrTwo}); err != nil {
		t.Errorf("after the damage: %v", err)
	}
	if text, err := fetch(t, b, addrOne); text != "what was written" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestReports checks that changes are reported in order, and all where some are no longer known.
func TestReports(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for id := uint64(1); id <= 3; id++ {
		if err := s.write(&dfs.Packet{ID: id, Gen: id, Last: true}); err != nil {
			t.Fatal(err)
		}
	}
	if p, _ := s.report(4, false); p.All || p.From != 4 || p.To != 6 || len(p.Replicas) != 2 || !p.Replicas[1].Complete {
		t.Errorf("%+v", p)
	}
	p, changed := s.report(6, false)
	if len(p.Replicas) != 0 {
		t.Errorf("%+v", p)
	}
	s.obey(token(3))
	<-changed // or this would hang
	if p, _ := s.report(6, false); p.Obeys != token(3) {
		t.Errorf("%+v", p)
	}
	s.changes = s.changes[3:]
	if p, _ := s.report(2, false); !p.All || len(p.Replicas) != 3 {
		t.Errorf("%+v", p)
	}
}
