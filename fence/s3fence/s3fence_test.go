package s3fence

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/baton-ha/baton/fence"
)

func token(epoch uint64) fence.Token { return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: "a"} }

// A store is a bucket in memory that evaluates conditions as S3 does. Tests with a real server are in fencetest.
type store struct {
	mu       sync.Mutex
	objects  map[string]*stored
	history  []fence.Token // of all versions
	careless bool          // ignores the conditions
}

type stored struct {
	body []byte
	etag string
	meta map[string]string
}

// A client is the store as one writer sees it.
type client struct {
	*store
	step func(call string)           // is called before each request
	lose func() (before, after bool) // of a PutObject: whether it or its answer is lost
}

func failure(status int) error {
	return &smithyhttp.ResponseError{Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: errors.New(http.StatusText(status))}
}

func (c *client) enter(call string) func() {
	if c.step != nil {
		c.step(call)
	}
	c.mu.Lock()
	return c.mu.Unlock
}

func (c *client) HeadObject(_ context.Context, in *s3.HeadObjectInput, _ ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	defer c.enter("head")()
	o := c.objects[*in.Key]
	if o == nil {
		return nil, failure(http.StatusNotFound)
	}
	return &s3.HeadObjectOutput{ETag: &o.etag, Metadata: o.meta, ContentLength: aws.Int64(int64(len(o.body)))}, nil
}

func (c *client) GetObject(_ context.Context, in *s3.GetObjectInput, _ ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	defer c.enter("get")()
	o := c.objects[*in.Key]
	if o == nil {
		return nil, failure(http.StatusNotFound)
	}
	if in.IfMatch != nil && *in.IfMatch != o.etag {
		return nil, failure(http.StatusPreconditionFailed)
	}
	return &s3.GetObjectOutput{ETag: &o.etag, Metadata: o.meta, ContentLength: aws.Int64(int64(len(o.body))),
		Body: io.NopCloser(iotest.OneByteReader(bytes.NewReader(o.body)))}, nil
}

func (c *client) PutObject(_ context.Context, in *s3.PutObjectInput, _ ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	defer c.enter("put")()
	body, err := io.ReadAll(iotest.OneByteReader(in.Body))
	if err != nil {
		return nil, err
	}
	var before, after bool
	if c.lose != nil {
		before, after = c.lose()
	}
	o := c.objects[*in.Key]
	switch {
	case before:
		return nil, io.ErrUnexpectedEOF
	case c.careless:
	case in.IfNoneMatch != nil && o != nil, in.IfMatch != nil && o != nil && *in.IfMatch != o.etag:
		return nil, failure(http.StatusPreconditionFailed)
	case in.IfMatch != nil && o == nil:
		return nil, failure(http.StatusNotFound)
	}
	o = &stored{body, fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(body))), in.Metadata}
	c.objects[*in.Key] = o
	t, _ := fence.Parse(in.Metadata[metaToken])
	c.history = append(c.history, t)
	if after {
		return nil, failure(http.StatusInternalServerError)
	}
	return &s3.PutObjectOutput{ETag: &o.etag}, nil
}

func newStore() *store { return &store{objects: map[string]*stored{}} }

func object(t testing.TB, api API) *Object {
	t.Helper()
	o, err := New(api, "bucket", "key")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func put(t testing.TB, o *Object, epoch uint64, text string) error {
	_, err := o.Put(t.Context(), token(epoch), strings.NewReader(text))
	return err
}

func content(t testing.TB, o *Object) (string, Version, error) {
	r, err := o.Get(t.Context())
	if err != nil {
		return "", Version{}, err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), r.Version, err
}

func TestObject(t *testing.T) {
	s := newStore()
	o := object(t, &client{store: s})
	if tok, err := o.Token(t.Context()); err != nil || tok != (fence.Token{}) {
		t.Errorf("the token of no object: %v, %v", tok, err)
	}
	if _, _, err := content(t, o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the content of no object: %v", err)
	}
	if known, err := o.Raise(t.Context(), token(1)); err != nil || known != token(1) {
		t.Errorf("Raise where there is no object: %v, %v", known, err)
	}
	if _, _, err := content(t, o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the content of an object that has only a token: %v", err)
	}
	for i, epoch := range []uint64{1, 1, 7} {
		if err := put(t, o, epoch, fmt.Sprint("text ", i)); err != nil {
			t.Fatal(err)
		}
	}
	o = object(t, &client{store: s}) // after a restart
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if err := put(t, o, 6, "late"); !errors.As(err, &stale) || stale.Known != token(7) {
		t.Errorf("a lower token: %v", err)
	}
	other := fence.Token{Cluster: "work", Epoch: 9, Holder: "a"}
	if _, err := o.Put(t.Context(), other, new(bytes.Reader)); !errors.As(err, &foreign) {
		t.Errorf("another cluster: %v", err)
	}
	if _, err := o.Put(t.Context(), fence.Token{}, new(bytes.Reader)); !errors.Is(err, fence.ErrInvalid) {
		t.Errorf("no token: %v", err)
	}
	for _, r := range []struct{ t, known fence.Token }{{token(7), token(7)}, {token(8), token(8)}, {token(5), token(8)}, {other, token(8)}} {
		if known, err := o.Raise(t.Context(), r.t); err != nil || known != r.known {
			t.Errorf("Raise to %s: %v, %v", r.t, known, err)
		}
	}
	if text, v, err := content(t, o); err != nil || text != "text 2" || v.Token != token(8) || v.Size != 6 {
		t.Errorf("%q, %v, %v", text, v, err)
	}
	body := strings.NewReader("skip this, keep that")
	if _, err := body.Seek(11, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if v, err := o.Put(t.Context(), token(8), body); err != nil || v.Size != 9 || v.ETag != s.objects["key"].etag {
		t.Errorf("%v, %v", v, err)
	}
	if text, _, err := content(t, o); err != nil || text != "keep that" {
		t.Errorf("what is left in a body: %q, %v", text, err)
	}
	if err := put(t, o, 8, ""); err != nil {
		t.Error(err)
	}
	if text, _, err := content(t, o); err != nil || text != "" {
		t.Errorf("an empty content: %q, %v", text, err)
	}
	if _, err := o.Put(t.Context(), token(8), &shrinking{strings.NewReader("12345")}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that becomes shorter: %v", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	o.turn <- struct{}{} // somebody else writes
	if _, err := o.Put(over, token(8), new(bytes.Reader)); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that is over: %v", err)
	}
}

type shrinking struct{ *strings.Reader }

func (s *shrinking) Read(p []byte) (int, error) {
	if s.Len() <= 2 {
		return 0, io.EOF
	}
	return s.Reader.Read(p[:1])
}

// An object that was written by other means has no token, until the first one comes.
func TestForeignObject(t *testing.T) {
	s := newStore()
	s.objects["key"] = &stored{[]byte("plain"), `"etag"`, nil}
	o := object(t, &client{store: s})
	if text, v, err := content(t, o); err != nil || text != "plain" || v.Token != (fence.Token{}) {
		t.Errorf("%q, %v, %v", text, v, err)
	}
	if known, err := o.Raise(t.Context(), token(3)); err != nil || known != token(3) {
		t.Errorf("Raise: %v, %v", known, err)
	}
	if text, v, err := content(t, o); err != nil || text != "plain" || v.Token != token(3) {
		t.Errorf("%q, %v, %v", text, v, err)
	}
}

func TestDamage(t *testing.T) {
	s := newStore()
	o := object(t, &client{store: s})
	for what, damage := range map[string]func(o *stored){
		"cut short":       func(o *stored) { o.body = o.body[:3] },
		"another end":     func(o *stored) { o.body[len(o.body)-1] ^= 1 },
		"no token":        func(o *stored) { o.meta[metaToken] = "x" },
		"no size":         func(o *stored) { delete(o.meta, metaSize) },
		"another size":    func(o *stored) { o.meta[metaSize] = "3" },
		"no id":           func(o *stored) { delete(o.meta, metaID) },
		"another id":      func(o *stored) { o.meta[metaID] = strings.Repeat("0", idSize) },
		"no ETag":         func(o *stored) { o.etag = "" },
		"a negative size": func(o *stored) { o.meta[metaSize], o.body = "-5", o.body[:idSize] },
	} {
		delete(s.objects, "key")
		if err := put(t, o, 1, "text"); err != nil {
			t.Fatal(err)
		}
		damage(s.objects["key"])
		if _, _, err := content(t, o); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestProbe(t *testing.T) {
	for _, careless := range []bool{false, true} {
		s := newStore()
		s.careless = careless
		for range 2 {
			if err := object(t, &client{store: s}).Probe(t.Context()); errors.Is(err, ErrUnconditional) != careless || !careless && err != nil {
				t.Errorf("careless %v: %v", careless, err)
			}
		}
	}
}

// A writer sleeps before each of its requests while newer ones write, also what was there before.
func TestSleepers(t *testing.T) {
	refused := 0
	for n := 1; n <= 4; n++ {
		for times := range 3 {
			s := newStore()
			if err := put(t, object(t, &client{store: s}), 1, "same"); err != nil {
				t.Fatal(err)
			}
			asleep, wake, old := make(chan struct{}), make(chan struct{}), make(chan error, 1)
			calls := 0
			late := object(t, &client{store: s, step: func(string) {
				if calls++; calls == n {
					close(asleep)
					<-wake
				}
			}})
			go func() { old <- put(t, late, 1, "late") }()
			select {
			case <-asleep:
				newer := object(t, &client{store: s})
				for range times {
					if err := put(t, newer, 2, "same"); err != nil {
						t.Error(err)
					}
				}
				close(wake)
			case err := <-old:
				old <- err
			}
			err := <-old
			var stale *fence.StaleError
			if calls >= n && times > 0 {
				if refused++; !errors.As(err, &stale) {
					t.Errorf("asleep before request %d: %v", n, err)
				}
			} else if err != nil {
				t.Error(err)
			}
			inOrder(t, s)
		}
	}
	if refused != 6 { // three requests, twice
		t.Errorf("%d were refused: this test shows nothing", refused)
	}
}

func inOrder(t *testing.T, s *store) {
	t.Helper()
	for i := 1; i < len(s.history); i++ {
		if s.history[i].Epoch < s.history[i-1].Epoch {
			t.Errorf("%s after %s", s.history[i], s.history[i-1])
		}
	}
}

// Requests and answers are lost, and others write in between.
func TestLost(t *testing.T) {
	lost := func(before, after bool, times int) func() (bool, bool) {
		return func() (bool, bool) {
			if times--; times < 0 {
				return false, false
			}
			return before, after
		}
	}
	for _, c := range []struct {
		what          string
		before, after bool
		times         int
		fails         bool
	}{
		{"a request", true, false, 1, false},
		{"an answer", false, true, 1, false},
		{"requests again and again", true, false, 100, true},
	} {
		s := newStore()
		o := object(t, &client{store: s, lose: lost(c.before, c.after, c.times)})
		if err := put(t, o, 1, "text"); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.what, err)
		}
		if n := len(s.history); n != 1 && !c.fails {
			t.Errorf("%s: written %d times", c.what, n)
		}
	}
	for _, epoch := range []uint64{1, 2} {
		s := newStore()
		heads := 0
		o := object(t, &client{store: s, lose: lost(false, true, 1), step: func(call string) {
			if call == "head" {
				if heads++; heads == 2 { // the answer was lost, and before it is known that it was written somebody else writes
					if err := put(t, object(t, &client{store: s}), epoch, "next"); err != nil {
						t.Error(err)
					}
				}
			}
		}})
		err := put(t, o, 1, "text")
		var stale *fence.StaleError
		if !errors.Is(err, ErrUnknown) || errors.As(err, &stale) != (epoch == 2) {
			t.Errorf("an answer, and epoch %d writes: %v", epoch, err)
		}
		if text, _, err := content(t, o); err != nil || text != "next" || len(s.history) != 2 {
			t.Errorf("%q, %v, %d versions", text, err, len(s.history))
		}
	}
}

// Two writers race: the order of tokens never goes back.
func TestRace(t *testing.T) {
	s := newStore()
	var newest atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		o := object(t, &client{store: s})
		wg.Go(func() {
			epoch := newest.Add(1)
			for range 2500 {
				if rand.IntN(10) == 0 {
					epoch = newest.Add(1)
				}
				err := put(t, o, epoch, "x")
				var stale *fence.StaleError
				if err != nil && !errors.As(err, &stale) && statusOf(err) != http.StatusPreconditionFailed {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	inOrder(t, s)
}

func TestSeek(t *testing.T) {
	text := "in front content behind"
	s, err := newSection(strings.NewReader(text), 9, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(&tailed{body: s, size: 7, tail: "-tail"}, []byte("content-tail")); err != nil {
		t.Error(err)
	}
}

func Example() {
	ctx := context.Background()
	api := &client{store: newStore()} // s3.NewFromConfig(cfg)
	o, err := New(api, "bucket", "jobs/state")
	if err != nil {
		fmt.Println(err)
		return
	}
	write := func(t fence.Token, text string) {
		_, err := o.Put(ctx, t, strings.NewReader(text))
		fmt.Println(t.Holder, err)
	}
	write(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}, "by a")
	write(fence.Token{Cluster: "jobs", Epoch: 8, Holder: "b"}, "by b")
	write(fence.Token{Cluster: "jobs", Epoch: 7, Holder: "a"}, "by a, who was asleep")
	r, err := o.Get(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	fmt.Printf("%s, of %s, %v\n", text, r.Token, err)
	// Output:
	// a <nil>
	// b <nil>
	// a fence: token jobs/7/a is stale: jobs/8/b has been here
	// by b, of jobs/8/b, <nil>
}

// A mixing client's first HEAD has the token of one version and the ETag of the next.
type mixing struct {
	*client
	between func()
}

func (m *mixing) HeadObject(ctx context.Context, in *s3.HeadObjectInput, opts ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	out, err := m.client.HeadObject(ctx, in, opts...)
	if m.between != nil {
		m.between()
		m.between = nil
		next, _ := m.client.HeadObject(ctx, in, opts...)
		out.ETag = next.ETag
	}
	return out, err
}

// A store whose HEAD is not one step lets nothing late through.
func TestMixedHead(t *testing.T) {
	s := newStore()
	newer := object(t, &client{store: s})
	if err := put(t, newer, 1, "first"); err != nil {
		t.Fatal(err)
	}
	late, err := New(&mixing{&client{store: s}, func() {
		if err := put(t, newer, 2, "newer"); err != nil {
			t.Error(err)
		}
	}}, "bucket", "key")
	if err != nil {
		t.Fatal(err)
	}
	var stale *fence.StaleError
	if err := put(t, late, 1, "late"); !errors.As(err, &stale) {
		t.Errorf("a late write: %v", err)
	}
	inOrder(t, s)
}

// A torn client's answers have the size of one version and the metadata of the next, as long as there is something to write in between.
type torn struct {
	*client
	between []func()
}

func (c *torn) tear() {
	if len(c.between) > 0 {
		c.between[0]()
		c.between = c.between[1:]
	}
}

func (c *torn) HeadObject(ctx context.Context, in *s3.HeadObjectInput, opts ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	size := int64(0)
	if out, err := c.client.HeadObject(ctx, in, opts...); err == nil {
		size = aws.ToInt64(out.ContentLength)
	}
	c.tear()
	out, err := c.client.HeadObject(ctx, in, opts...)
	if err == nil {
		out.ContentLength = &size
	}
	return out, err
}

func (c *torn) GetObject(ctx context.Context, in *s3.GetObjectInput, opts ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	size := int64(0)
	if out, err := c.client.GetObject(ctx, in, opts...); err == nil {
		size = aws.ToInt64(out.ContentLength)
	}
	c.tear()
	out, err := c.client.GetObject(ctx, in, opts...)
	if err == nil {
		out.ContentLength = &size
	}
	return out, err
}

// An object that becomes another one while a store puts its answer together is not damaged; one that stays so is.
func TestTornAnswers(t *testing.T) {
	s := newStore()
	writer := object(t, &client{store: s})
	grow := func(epoch uint64, text string) func() {
		return func() {
			if err := put(t, writer, epoch, text); err != nil {
				t.Error(err)
			}
		}
	}
	grow(1, "1")()
	c := &torn{client: &client{store: s}, between: []func(){grow(2, "22"), grow(3, "333")}}
	o, err := New(c, "bucket", "key")
	if err != nil {
		t.Fatal(err)
	}
	if tok, err := o.Token(t.Context()); err != nil || tok.Epoch != 3 {
		t.Errorf("the token is %v, %v", tok, err)
	}
	c.between = []func(){grow(4, "4444"), grow(5, "55555")}
	r, err := o.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || string(got) != "55555" {
		t.Errorf("it reads %q, %v", got, err)
	}
	cut := *s.objects["key"]
	cut.body = cut.body[1:]
	s.objects["key"] = &cut
	if _, err := o.Token(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("the token of a damaged one: %v", err)
	}
	if _, err := o.Get(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged one: %v", err)
	}
}
