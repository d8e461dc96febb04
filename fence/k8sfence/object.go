package k8sfence

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/baton-ha/baton/fence"
)

// Annotation is where the newest token is. A newer one may only replace it by this package's functions.
const Annotation = "baton-ha.github.io/fencing-token"

// ErrDamaged is returned, wrapped, when what is in the annotation is no token.
var ErrDamaged = errors.New("k8sfence: the annotation is damaged")

// API is what is used of client-go's dynamic.ResourceInterface, for one kind of object and one namespace.
type API interface {
	Get(ctx context.Context, name string, options metav1.GetOptions, subresources ...string) (*unstructured.Unstructured, error)
	Create(ctx context.Context, obj *unstructured.Unstructured, options metav1.CreateOptions, subresources ...string) (*unstructured.Unstructured, error)
	Update(ctx context.Context, obj *unstructured.Unstructured, options metav1.UpdateOptions, subresources ...string) (*unstructured.Unstructured, error)
}

// An Object is one that tokens fence. Safe for concurrent use, in any number of processes.
type Object struct {
	api  API
	name string
	turn chan struct{} // has room for one: who writes. Others of this process would only be in his way
}

// New returns a fenced object. It does not speak to the API server. The first token decides to which cluster of baton's the object belongs.
func New(api API, name string) (*Object, error) {
	if api == nil || name == "" {
		return nil, errors.New("k8sfence: New needs an API and a name")
	}
	return &Object{api: api, name: name, turn: make(chan struct{}, 1)}, nil
}

// Update changes the object, if the token is the newest. change is given a copy of what is there, and may be called several times, each time with a newer one;
// its error is returned, and then nothing is changed. It may leave the annotation alone. On nil the change has taken effect, and nobody with an older token
// changes the object any more.
//
// Errors: *[fence.StaleError], *[fence.ForeignError]; one that wraps [fence.ErrInvalid] or [ErrDamaged]; that of change; the cause of ctx; or the API server's: it is
// not found (apierrors.IsNotFound), or the answer was lost, after which it is not known whether the change took effect.
func (o *Object) Update(ctx context.Context, t fence.Token, change func(*unstructured.Unstructured) error) (*unstructured.Unstructured, error) {
	u, err := o.update(ctx, t, change)
	return u, wrap("update", o.name, t, err)
}

func (o *Object) update(ctx context.Context, t fence.Token, change func(*unstructured.Unstructured) error) (*unstructured.Unstructured, error) {
	if err := fence.Check(t, fence.Token{}); err != nil {
		return nil, err
	}
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		u, err := o.api.Get(ctx, o.name, metav1.GetOptions{})
		var known fence.Token
		if err == nil {
			known, err = tokenOf(u)
		}
		if err == nil {
			err = fence.Check(t, known)
		}
		if err != nil {
			return nil, err
		}
		version := u.GetResourceVersion()
		if err := change(u); err != nil {
			return nil, err
		}
		mark(u, t)
		u.SetResourceVersion(version) // without it the API server would ask nothing
		u, err = o.api.Update(ctx, u, metav1.UpdateOptions{})
		if !apierrors.IsConflict(err) {
			return u, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Create makes the object, with the token. One that is there already is apierrors.IsAlreadyExists: Update it.
//
// Errors: one that wraps [fence.ErrInvalid], the cause of ctx, or the API server's.
func (o *Object) Create(ctx context.Context, t fence.Token, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	err := fence.Check(t, fence.Token{})
	if err == nil {
		obj = obj.DeepCopy()
		obj.SetName(o.name)
		mark(obj, t)
		obj, err = o.api.Create(ctx, obj, metav1.CreateOptions{})
	}
	return obj, wrap("create", o.name, t, err)
}

// Raise implements [fence.Store]: it makes t the newest token, if it is newer, and returns the newest.
func (o *Object) Raise(ctx context.Context, t fence.Token) (fence.Token, error) {
	u, err := o.update(ctx, t, func(*unstructured.Unstructured) error { return nil })
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	switch {
	case errors.As(err, &stale):
		return stale.Known, nil
	case errors.As(err, &foreign):
		return o.Token(ctx)
	case err != nil:
		return fence.Token{}, wrap("raise", o.name, t, err)
	}
	return tokenOf(u)
}

// Token returns the newest token, the zero Token if there is none yet.
func (o *Object) Token(ctx context.Context) (fence.Token, error) {
	u, err := o.api.Get(ctx, o.name, metav1.GetOptions{})
	if err != nil {
		return fence.Token{}, wrap("look at", o.name, fence.Token{}, err)
	}
	return tokenOf(u)
}

func tokenOf(u *unstructured.Unstructured) (fence.Token, error) {
	text, ok := u.GetAnnotations()[Annotation]
	if !ok {
		return fence.Token{}, nil
	}
	t, err := fence.Parse(text)
	if err != nil {
		return t, fmt.Errorf("%w: %s: %w", ErrDamaged, u.GetName(), err)
	}
	return t, nil
}

func mark(u *unstructured.Unstructured, t fence.Token) {
	all := u.GetAnnotations()
	if all == nil {
		all = map[string]string{}
	}
	all[Annotation] = t.String()
	u.SetAnnotations(all)
}

// wrap says what was done, where the error does not say it itself.
func wrap(what, name string, t fence.Token, err error) error {
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if err == nil || errors.As(err, &stale) || errors.As(err, &foreign) {
		return err
	}
	return fmt.Errorf("k8sfence: %s %s with token %s: %w", what, name, t, err)
}
