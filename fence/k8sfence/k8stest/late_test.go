package k8stest

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/baton-ha/baton/ha"
	"github.com/baton-ha/baton/internal/loopback"
)

var lateRounds = flag.Int("late.rounds", 2, "how often TestT3_PausedActive stops the Active")

const lease = 500 * time.Millisecond // the default election timeout, which is longer than any lease

// TestT3_PausedActive is T3: three members, real processes, of which the Active writes to two objects all the time, one with the fence and one
// without. It is stopped by SIGSTOP for three leases and more, until the next one has written to both; in every other round the API server and its etcd are
// killed meanwhile, and started again. Then it goes on and does not know that its role has ended. Nothing that it writes to the fenced object then takes effect; to the other one
// it does. All versions of both objects are looked at. For the real thing:
//
//	go -C fence/k8sfence/k8stest test -vet=off -run PausedActive -v -late.rounds=100 -timeout 1h
func TestT3_PausedActive(t *testing.T) {
	c := newLateCluster(t)
	for round := range *lateRounds {
		c.round(round)
	}
	for _, m := range c.members {
		m.Process.Kill()
	}
	for object, w := range c.watched {
		versions, late := w.seen(t)
		t.Logf("%s: %d of %d versions were late", object, late, versions)
		if object == fenced && late > 0 {
			t.Errorf("%d late writes took effect", late)
		}
		if object == bare && late == 0 {
			t.Error("without the fence no write was late: this test shows nothing")
		}
	}
}

// A watch counts the versions of an object, and those of an epoch after that of a later one. It goes on where the server was restarted, which has nobody told of what was
// before: those who are stopped meanwhile write nothing.
type watch struct {
	mu             sync.Mutex // guards what follows
	last           string     // resource version
	highest        int64
	versions, late int
}

func watchObject(t *testing.T, name string) *watch {
	if _, err := api().Create(t.Context(), journal(name), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w := &watch{}
	go func() {
		for t.Context().Err() == nil {
			w.follow(t.Context(), name)
			time.Sleep(breath)
		}
	}()
	return w
}

// follow watches until the server ends it.
func (w *watch) follow(ctx context.Context, name string) {
	u, err := api().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return // it is not there for a moment
	}
	w.note(u)
	in, err := api().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: u.GetResourceVersion()})
	if err != nil {
		return
	}
	defer in.Stop()
	for e := range in.ResultChan() {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return
		}
		w.note(u)
	}
}

func (w *watch) note(u *unstructured.Unstructured) {
	epoch, _, _ := unstructured.NestedInt64(u.Object, "epoch")
	w.mu.Lock()
	defer w.mu.Unlock()
	if u.GetResourceVersion() == w.last {
		return
	}
	w.last = u.GetResourceVersion()
	if w.versions++; epoch < w.highest {
		w.late++
	}
	w.highest = max(w.highest, epoch)
}

// seen waits until the present version was seen, and returns how many there were.
func (w *watch) seen(t *testing.T) (versions, late int) {
	for deadline := time.Now().Add(patience); ; time.Sleep(breath) {
		w.mu.Lock()
		at := w.last
		versions, late = w.versions, w.late
		w.mu.Unlock()
		list, err := api().List(t.Context(), metav1.ListOptions{})
		if err == nil {
			for _, u := range list.Items {
				if u.GetResourceVersion() == at {
					return versions, late
				}
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the last version was not seen: %v", err)
		}
	}
}

// A lateCluster is three members, and what they have said.
type lateCluster struct {
	*testing.T
	members map[string]*process
	watched map[string]*watch
	lines   chan [2]string

	epoch   uint64            // the highest
	active  string            // whose it is
	wrote   map[string]uint64 // by object: the highest epoch of which a write was done
	refused map[string]bool   // "EPOCH OBJECT", by which a writer has ended
	said    map[uint64]bool   // epochs whose late append was refused
}

func newLateCluster(t *testing.T) *lateCluster {
	c := &lateCluster{
		T: t, members: map[string]*process{}, watched: map[string]*watch{}, lines: make(chan [2]string),
		wrote: map[string]uint64{}, refused: map[string]bool{}, said: map[uint64]bool{},
	}
	for _, object := range []string{fenced, bare} {
		c.watched[object] = watchObject(t, object)
	}
	var list []ha.Member
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, ha.Member{Name: name, Addr: loopback.Addr(t)})
	}
	dir := t.TempDir()
	for _, m := range list {
		p, err := spawn(child{Member: &member{Name: m.Name, Dir: filepath.Join(dir, m.Name), Members: list, Server: server.apiServer}})
		if err != nil {
			t.Fatal(err)
		}
		c.members[m.Name] = p
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for text := range p.lines {
				select {
				case c.lines <- [2]string{m.Name, text}:
				case <-t.Context().Done():
				}
			}
		}()
		t.Cleanup(func() {
			_ = p.Process.Kill()
			<-ended
			_ = p.Wait()
		})
	}
	return c
}

// take takes note of a line.
func (c *lateCluster) take(from, text string) {
	var epoch uint64
	fields := append(strings.Fields(text), "", "", "")
	if _, err := fmt.Sscan(fields[1], &epoch); err != nil {
		c.Fatalf("%s says %q", from, text)
	}
	switch object := fields[2]; fields[0] {
	case "R":
		if epoch > c.epoch {
			c.epoch, c.active = epoch, from
		}
	case "W":
		c.wrote[object] = max(c.wrote[object], epoch)
	case "S", "X":
		c.refused[fmt.Sprint(epoch, " ", object)] = true
	case "A":
		if object != "refused" {
			c.Errorf("an append with the token of epoch %d was %s after its role had ended", epoch, object)
		}
		c.said[epoch] = true
	default:
		c.Fatalf("%s says %q", from, text)
	}
}

// until takes note of what is said until ok.
func (c *lateCluster) until(what string, ok func() bool) {
	c.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case l := <-c.lines:
			c.take(l[0], l[1])
		case <-deadline:
			c.Fatalf("not within %v: %s; epoch %d of %s, written %v, ended %v", patience, what, c.epoch, c.active, c.wrote, c.refused)
		}
	}
}

// written reports whether both were written to in an epoch or a later one.
func (c *lateCluster) written(epoch uint64) bool {
	return c.wrote[fenced] >= epoch && c.wrote[bare] >= epoch
}

func (c *lateCluster) round(n int) {
	c.until("the Active writes", func() bool { return c.epoch > 0 && c.written(c.epoch) })
	old, victim := c.epoch, c.members[c.active]
	if err := victim.Process.Signal(syscall.SIGSTOP); err != nil {
		c.Fatal(err)
	}
	stopped := time.Now()
	c.until("the next one writes", func() bool { return c.written(old + 1) })
	if n%2 == 1 {
		if err := restartServer(); err != nil {
			c.Fatal(err)
		}
	}
	time.Sleep(time.Until(stopped.Add(3 * lease)))
	if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
		c.Fatal(err)
	}
	c.until("the old one has heard that it is deposed", func() bool {
		return c.refused[fmt.Sprint(old, " ", fenced)] && c.refused[fmt.Sprint(old, " ", bare)] && c.said[old]
	})
}
