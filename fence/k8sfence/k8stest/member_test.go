package k8stest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/k8sfence"
	"github.com/baton-ha/baton/ha"
)

// The objects that members write to: with the fence, and without.
const (
	fenced = "fenced"
	bare   = "bare"
)

const (
	breath     = 20 * time.Millisecond // in the middle of each write
	bareWrites = 30                    // that one without a fence does after its role has ended
)

// A member is a process of the cluster. While it is the Active it writes to both objects, and goes on after its role has ended, as one that does not look:
// with the fence until it is refused, and without it for a few writes more.
//
// It prints "R EPOCH" when it is the Active, "W EPOCH OBJECT" when the first write of an epoch was done, "S EPOCH OBJECT" when the fence has refused one as stale,
// "X EPOCH OBJECT" when the writer without it has ended, and "A EPOCH text" for what the cluster says to an append with the token of a role that has ended.
type member struct {
	Name, Dir string
	Members   []ha.Member
	Server    apiServer
}

func (m *member) run() error {
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...) // one write each
	}
	n, err := ha.Open(ha.Config{
		Name: m.Name, Dir: m.Dir, Cluster: "jobs", Members: m.Members, Logger: slog.New(slog.DiscardHandler),
		OnActive: func(ctx context.Context, t fence.Token) error {
			say("R %d", t.Epoch)
			for _, object := range []string{fenced, bare} {
				go m.writeOn(ctx, object, t, say)
			}
			<-ctx.Done()
			n := ha.FromContext(ctx)
			go func() {
				_, err := n.Append(context.Background(), t, []byte("late"))
				switch {
				case err == nil:
					say("A %d accepted", t.Epoch)
				case errors.Is(err, ha.ErrUnknown):
					say("A %d unknown", t.Epoch)
				default:
					say("A %d refused", t.Epoch)
				}
			}()
			return nil
		},
	})
	if err != nil {
		return err
	}
	defer n.Close()
	select {} // the test kills it
}

// writeOn writes to one object.
func (m *member) writeOn(role context.Context, object string, t fence.Token, say func(string, ...any)) {
	wrote, after := false, 0
	var with dynamic.ResourceInterface
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		err := m.reached(&with)
		if err == nil {
			err = writeOnce(ctx, with, object, t)
		}
		cancel()
		var stale *fence.StaleError
		switch {
		case err == nil && !wrote:
			wrote = true
			say("W %d %s", t.Epoch, object)
		case errors.As(err, &stale):
			say("S %d %s", t.Epoch, object)
			return
		case err != nil:
			with = nil // it may have been started again, elsewhere
			time.Sleep(breath)
		}
		if err == nil && object == bare && role.Err() != nil {
			if after++; after > bareWrites {
				say("X %d %s", t.Epoch, object)
				return
			}
		}
	}
}

// reached makes a client where there is none.
func (m *member) reached(with *dynamic.ResourceInterface) error {
	if *with != nil {
		return nil
	}
	config, err := m.Server.reach()
	if err == nil {
		*with = client(config)
	}
	return err
}

// writeOnce writes to an object, and takes its time in the middle.
func writeOnce(ctx context.Context, with dynamic.ResourceInterface, object string, t fence.Token) error {
	if object == fenced {
		o, err := k8sfence.New(with, object)
		if err != nil {
			return err
		}
		_, err = o.Update(ctx, t, func(u *unstructured.Unstructured) error {
			time.Sleep(breath)
			return writeNow(t)(u)
		})
		return err
	}
	// As controllers do that take a lease for enough: look, and write what one wants to be there.
	if _, err := with.Get(ctx, object, metav1.GetOptions{}); err != nil {
		return err
	}
	time.Sleep(breath)
	u := journal(object)
	if err := writeNow(t)(u); err != nil {
		return err
	}
	_, err := with.Apply(ctx, object, u, metav1.ApplyOptions{FieldManager: t.Holder, Force: true})
	return err
}

// writeNow writes something new each time: what changes nothing is no version.
func writeNow(t fence.Token) func(u *unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		if err := unstructured.SetNestedField(u.Object, time.Now().UnixNano(), "at"); err != nil {
			return err
		}
		return write(t.Epoch)(u)
	}
}
