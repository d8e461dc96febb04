package k8stest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kubewatch "k8s.io/apimachinery/pkg/watch"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/k8sfence"
)

var _ fence.Store = (*k8sfence.Object)(nil)

func token(epoch uint64) fence.Token {
	return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: fmt.Sprintf("m%d", epoch)}
}

// object makes an object of a test.
func object(t *testing.T, name string) *k8sfence.Object {
	t.Helper()
	o, err := k8sfence.New(api(), name)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// write says in the object in whose time it was written.
func write(epoch uint64) func(u *unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		return unstructured.SetNestedField(u.Object, int64(epoch), "epoch")
	}
}

// holds checks what is there.
func holds(t *testing.T, name string, epoch uint64) {
	t.Helper()
	u, err := api().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _ := unstructured.NestedInt64(u.Object, "epoch"); got != int64(epoch) {
		t.Errorf("%s was written in epoch %d last, want %d", name, got, epoch)
	}
}

func TestObject(t *testing.T) {
	ctx := t.Context()
	o := object(t, "rules")
	if _, err := o.Update(ctx, token(1), write(1)); !apierrors.IsNotFound(err) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := o.Create(ctx, token(2), journal("")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Create(ctx, token(2), journal("")); !apierrors.IsAlreadyExists(err) {
		t.Errorf("created twice: %v", err)
	}
	var stale *fence.StaleError
	if _, err := o.Update(ctx, token(1), write(1)); !errors.As(err, &stale) || stale.Known != token(2) {
		t.Errorf("an older token: %v", err)
	}
	for _, epoch := range []uint64{2, 3, 3} {
		if _, err := o.Update(ctx, token(epoch), write(epoch)); err != nil {
			t.Errorf("epoch %d: %v", epoch, err)
		}
		holds(t, "rules", epoch)
	}
	var foreign *fence.ForeignError
	if _, err := o.Update(ctx, fence.Token{Cluster: "other", Epoch: 9, Holder: "x"}, write(9)); !errors.As(err, &foreign) {
		t.Errorf("a token of another cluster: %v", err)
	}
	if _, err := o.Update(ctx, fence.Token{}, write(9)); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("no token: %v", err)
	}
	mine := errors.New("I do not want to")
	if _, err := o.Update(ctx, token(4), func(*unstructured.Unstructured) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("the change's error: %v", err)
	}
	for _, c := range []struct{ raise, known uint64 }{{3, 3}, {5, 5}, {4, 5}} {
		if known, err := o.Raise(ctx, token(c.raise)); err != nil || known != token(c.known) {
			t.Errorf("Raise(%d): %v, %v, want epoch %d", c.raise, known, err, c.known)
		}
	}
	holds(t, "rules", 3)

	// What others change is left, and a token that they have damaged is not taken for none.
	u, err := api().Get(ctx, "rules", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	u.SetAnnotations(map[string]string{k8sfence.Annotation: "what"})
	if _, err := api().Update(ctx, u, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Update(ctx, token(6), write(6)); !errors.Is(err, k8sfence.ErrDamaged) {
		t.Errorf("a damaged annotation: %v", err)
	}
	holds(t, "rules", 3)
}

// T3: an Active that stands still in the middle of a change, while the next one makes another, changes nothing when it goes on. Without the fence it does.
func TestT3_Late(t *testing.T) {
	ctx := t.Context()
	const rounds = 100
	late := 0
	for round := range uint64(rounds) {
		old, next := token(2*round+1), token(2*round+2)
		name, bare := fmt.Sprintf("late-%d", round), fmt.Sprintf("bare-%d", round)
		if _, err := object(t, name).Create(ctx, old, journal("")); err != nil {
			t.Fatal(err)
		}
		if _, err := api().Create(ctx, journal(bare), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := object(t, name).Update(ctx, old, func(u *unstructured.Unstructured) error {
			if known, _ := object(t, name).Token(ctx); known == old { // the first time
				if _, err := object(t, name).Update(ctx, next, write(next.Epoch)); err != nil {
					t.Fatal(err)
				}
			}
			return write(old.Epoch)(u)
		})
		var stale *fence.StaleError
		if !errors.As(err, &stale) {
			t.Errorf("a late change: %v", err)
		}
		holds(t, name, next.Epoch)

		// The same by hand, as controllers do that take a lease for enough: read, sleep, and write what one wants to be there.
		for _, epoch := range []uint64{next.Epoch, old.Epoch} {
			u := journal(bare)
			if err := write(epoch)(u); err != nil {
				t.Fatal(err)
			}
			if _, err := api().Get(ctx, bare, metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			u.SetResourceVersion("")
			if _, err := api().Apply(ctx, bare, u, metav1.ApplyOptions{FieldManager: fmt.Sprint("m", epoch), Force: true}); err != nil {
				t.Fatal(err)
			}
		}
		u, err := api().Get(ctx, bare, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := unstructured.NestedInt64(u.Object, "epoch"); got == int64(old.Epoch) {
			late++
		}
	}
	if late != rounds {
		t.Errorf("without the fence %d of %d late changes took effect: the test would not notice", late, rounds)
	}
}

// Two writers race, each with a new token each time: as the API server has it, the tokens never go back.
func TestRace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const name = "race"
	first, err := object(t, name).Create(ctx, token(1), journal(""))
	if err != nil {
		t.Fatal(err)
	}
	w, err := api().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name, ResourceVersion: first.GetResourceVersion()})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan int64, 1)
	go func() { seen <- inOrder(t, w) }() // as they come: who is slow is not told any more
	var epochs atomic.Uint64
	epochs.Store(1)
	began := time.Now()
	var wrote, refused atomic.Int64
	var writers sync.WaitGroup
	for range 2 {
		o := object(t, name)
		writers.Go(func() {
			for range *raceTimes {
				epoch := epochs.Add(1)
				var stale *fence.StaleError
				switch _, err := o.Update(ctx, token(epoch), write(epoch)); {
				case err == nil:
					wrote.Add(1)
				case errors.As(err, &stale):
					refused.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	if err := end(ctx, name); err != nil {
		t.Fatal(err)
	}
	if versions := <-seen; versions != wrote.Load() {
		t.Errorf("%d versions, %d writes", versions, wrote.Load())
	}
	t.Logf("%d writes took effect, %d were refused, in %v", wrote.Load(), refused.Load(), time.Since(began).Round(time.Millisecond))
}

// end says in an object that there is no more to come.
func end(ctx context.Context, name string) error {
	u, err := api().Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		u.SetLabels(map[string]string{"end": "yes"})
		_, err = api().Update(ctx, u, metav1.UpdateOptions{})
	}
	return err
}

// inOrder looks at the versions of an object up to its end, and returns how many there were.
func inOrder(t *testing.T, w kubewatch.Interface) (versions int64) {
	highest := uint64(1)
	for e := range w.ResultChan() {
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			t.Errorf("the watch ends with %v", e)
			return versions
		}
		if u.GetLabels()["end"] != "" {
			return versions
		}
		known, err := fence.Parse(u.GetAnnotations()[k8sfence.Annotation])
		epoch, _, _ := unstructured.NestedInt64(u.Object, "epoch")
		if err != nil || known.Epoch < highest || epoch != int64(known.Epoch) {
			t.Errorf("epoch %d, written with %v, after %d: %v", epoch, known, highest, err)
		}
		highest = max(highest, known.Epoch)
		versions++
	}
	t.Error("the watch ends before the end")
	return versions
}

func Example() {
	ctx := context.Background()
	if _, err := api().Create(ctx, journal("example"), metav1.CreateOptions{}); err != nil {
		fmt.Println(err)
		return
	}
	o, err := k8sfence.New(api(), "example") // client.Resource(…).Namespace(…)
	if err != nil {
		fmt.Println(err)
		return
	}
	set := func(t fence.Token) {
		_, err := o.Update(ctx, t, func(u *unstructured.Unstructured) error {
			return unstructured.SetNestedField(u.Object, t.Holder, "spec", "owner")
		})
		fmt.Println(t.Holder, err)
	}
	set(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"})
	set(fence.Token{Cluster: "jobs", Epoch: 8, Holder: "b"})
	set(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}) // a was asleep
	// Output:
	// a <nil>
	// b <nil>
	// a fence: token jobs/7/a is stale: jobs/8/b has been here
}
