package s3fence

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/baton-ha/baton/fence"
)

// ErrUnknown is returned, wrapped, by writes when the answer to a request was lost and the object has been replaced since, so
// that it cannot be told whether it took effect before. A *[fence.StaleError] is wrapped, too, if the token is stale.
var ErrUnknown = errors.New("s3fence: it is not known whether the write took effect before newer ones")

// ErrDamaged is returned, wrapped, when the object is not what was written: its metadata cannot be read, or its end is missing.
var ErrDamaged = errors.New("s3fence: the object is damaged")

// ErrUnconditional is returned, wrapped, by [Object.Probe].
var ErrUnconditional = errors.New("s3fence: the store ignores the conditions of writes")

// API is what is used of *[s3.Client].
type API interface {
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

// The metadata of an object. Stores give the names back in lower case.
const (
	metaToken = "fencing-token"
	metaID    = "fencing-id"   // the 32 hex digits behind the content
	metaSize  = "fencing-size" // of the content in bytes; -1 if there was none yet
)

const (
	idSize = 32
	tries  = 8 // of a request whose answer was lost, or that was in conflict with another
)

// An Object is one that tokens fence. Safe for concurrent use, in any number of processes.
type Object struct {
	api         API
	bucket, key string
	turn        chan struct{} // has room for one: who writes. Others of this process would only be in his way
}

// New returns a fenced object. It does not speak to the store. The first token decides to which cluster the object belongs;
// one that was written in another way has none until then.
func New(api API, bucket, key string) (*Object, error) {
	if api == nil || bucket == "" || key == "" {
		return nil, errors.New("s3fence: New needs an API, a bucket and a key")
	}
	return &Object{api: api, bucket: bucket, key: key, turn: make(chan struct{}, 1)}, nil
}

// A Version says which one was written or read.
type Version struct {
	Token fence.Token // the newest
	ETag  string
	Size  int64 // of the content, in bytes
}

// A head is what is known of an object; the zero head if there is none.
type head struct {
	Version
	id string
}

// Put makes what is left in body the object, if the token is the newest. It may read it several times. On nil it is stored, and nobody
// with an older token can replace it.
//
// Errors: *[fence.StaleError], *[fence.ForeignError]; one that wraps [fence.ErrInvalid], [ErrUnknown] or [ErrDamaged]; the cause
// of ctx, that of body, or the store's, after which it may not be known whether the write took effect.
func (o *Object) Put(ctx context.Context, t fence.Token, body io.ReadSeeker) (Version, error) {
	var start, size int64
	err := fence.Check(t, fence.Token{})
	if err == nil {
		start, err = body.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		size, err = body.Seek(0, io.SeekEnd)
		size -= start
	}
	if err != nil {
		return Version{}, err
	}
	h, err := o.write(ctx, t, func(head) (*section, int64, error) {
		s, err := newSection(body, start, size)
		return s, size, err
	})
	return h.Version, wrap("put", t, err)
}

// Raise implements [fence.Store]: it makes t the newest token, if it is newer. It then reads the content and writes it back, through
// a temporary file.
func (o *Object) Raise(ctx context.Context, t fence.Token) (fence.Token, error) {
	if err := fence.Check(t, fence.Token{}); err != nil {
		return fence.Token{}, err
	}
	spool, err := os.CreateTemp("", "s3fence")
	if err != nil {
		return fence.Token{}, wrap("raise", t, err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	h, err := o.write(ctx, t, func(at head) (*section, int64, error) {
		if at.Token == t {
			return nil, 0, nil
		}
		if at.ETag == "" || at.Size < 0 {
			return new(section), -1, nil
		}
		return o.load(ctx, at, spool)
	})
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	switch {
	case errors.As(err, &stale):
		return stale.Known, nil
	case errors.As(err, &foreign):
		return o.Token(ctx)
	}
	return h.Token, wrap("raise", t, err)
}

// load copies the content of a version into a file.
func (o *Object) load(ctx context.Context, at head, spool *os.File) (*section, int64, error) {
	r, err := o.get(ctx, at.ETag)
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	if err = spool.Truncate(0); err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err == nil {
		_, err = io.Copy(spool, r)
	}
	if err != nil {
		return nil, 0, err
	}
	s, err := newSection(spool, 0, r.Size)
	return s, r.Size, err
}

// Token returns the newest token, the zero Token if there is none yet.
func (o *Object) Token(ctx context.Context) (fence.Token, error) {
	h, err := o.head(ctx)
	return h.Token, wrap("look", h.Token, err)
}

// write replaces the object by what content returns for the one that is there. If that is nil nothing is to be done.
func (o *Object) write(ctx context.Context, t fence.Token, content func(at head) (*section, int64, error)) (head, error) {
	select {
	case o.turn <- struct{}{}:
		defer func() { <-o.turn }()
	case <-ctx.Done():
		return head{}, context.Cause(ctx)
	}
	var random [idSize / 2]byte
	_, _ = rand.Read(random[:]) // never fails
	id, tried, lost := hex.EncodeToString(random[:]), head{}, error(nil)
	for try := 1; ; try++ {
		at, err := o.head(ctx)
		switch {
		case err != nil:
		case at.id == id: // the answer was lost
			return at, nil
		case lost != nil && at.ETag != tried.ETag: // and the object replaced since
			err = ErrUnknown
			if e := fence.Check(t, at.Token); e != nil {
				err = fmt.Errorf("%w: %w", err, e)
			}
			return head{}, err
		default:
			err = fence.Check(t, at.Token)
		}
		if err != nil {
			return head{}, err
		}
		body, size, err := content(at)
		if err == nil && body == nil {
			return at, nil
		}
		if err == nil {
			var done head
			if done, err = o.put(ctx, t, id, at, body, size); err == nil {
				return done, nil
			}
			if body.err != nil { // not the store's: it has got too little, and refuses that
				return head{}, body.err
			}
		}
		switch status := statusOf(err); {
		case status == http.StatusPreconditionFailed, status == http.StatusNotFound, status == http.StatusConflict:
			// Somebody was faster, or is just now: nothing was written.
		case status == 0 || status >= 500:
			tried, lost = at, err
		default:
			return head{}, err
		}
		if try == tries || !pause(ctx, try) {
			return head{}, err
		}
	}
}

// put sends one request, if the object is still the one that is known.
func (o *Object) put(ctx context.Context, t fence.Token, id string, at head, body *section, size int64) (head, error) {
	in := &s3.PutObjectInput{
		Bucket: &o.bucket, Key: &o.key,
		Body:          &tailed{body: body, size: max(size, 0), tail: id},
		ContentLength: aws.Int64(max(size, 0) + idSize),
		Metadata:      map[string]string{metaToken: t.String(), metaID: id, metaSize: strconv.FormatInt(size, 10)},
	}
	if at.ETag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &at.ETag
	}
	// Retries are made above, where it is known what an earlier request may have done.
	out, err := o.api.PutObject(ctx, in, func(o *s3.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		return head{}, err
	}
	return head{Version{Token: t, ETag: aws.ToString(out.ETag), Size: size}, id}, nil
}

// head looks until it has seen the same twice. Not every store answers HEAD in one step: one that puts the answer together from
// several parts may give the ETag of a version that has just come, and the token of the one before. With that a condition would
// hold that should not. Two answers in a row that are alike, of which the second was asked for after the first had come, are of one version. So it is with damage: that
// what is said of an object does not agree may be because it is of two versions.
func (o *Object) head(ctx context.Context) (head, error) {
	h, err := o.look(ctx)
	for range looks {
		if err != nil && !errors.Is(err, ErrDamaged) || err == nil && h == (head{}) {
			return h, err
		}
		was, fault := h, err
		if h, err = o.look(ctx); h == was && alike(err, fault) {
			return h, err
		}
	}
	return h, errors.Join(err, errBusy)
}

// alike reports whether two answers have the same fault, or none.
func alike(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
}

// looks is how often an object may be another one each time it is looked at.
const looks = 100

var errBusy = errors.New("the object is replaced all the time")

// look asks once.
func (o *Object) look(ctx context.Context) (head, error) {
	out, err := o.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &o.bucket, Key: &o.key})
	if statusOf(err) == http.StatusNotFound {
		return head{}, nil
	}
	if err != nil {
		return head{}, err
	}
	return headOf(out.ETag, out.Metadata, aws.ToInt64(out.ContentLength))
}

// headOf reads an object's metadata.
func headOf(etag *string, meta map[string]string, length int64) (h head, err error) {
	h.ETag, h.Size, h.id = aws.ToString(etag), length, meta[metaID]
	if h.ETag == "" {
		return head{}, fmt.Errorf("%w: it has no ETag", ErrDamaged)
	}
	text, ours := meta[metaToken]
	if !ours {
		return h, nil
	}
	if h.Token, err = fence.Parse(text); err == nil {
		h.Size, err = strconv.ParseInt(meta[metaSize], 10, 64)
	}
	if err != nil || len(h.id) != idSize || h.Size < -1 || max(h.Size, 0)+idSize != length {
		return head{}, fmt.Errorf("%w: %d bytes with the metadata %q", ErrDamaged, length, meta)
	}
	return h, nil
}

// statusOf returns the status of the store's answer, 0 if there was none.
func statusOf(err error) int {
	var r *smithyhttp.ResponseError
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}

// wrap says what failed, where the error does not say it itself.
func wrap(what string, t fence.Token, err error) error {
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if err == nil || (errors.As(err, &stale) || errors.As(err, &foreign)) && !errors.Is(err, ErrUnknown) {
		return err
	}
	if t == (fence.Token{}) {
		return fmt.Errorf("s3fence: %s: %w", what, err)
	}
	return fmt.Errorf("s3fence: %s with token %s: %w", what, t, err)
}

// pause waits, longer with each try, and reports false if ctx has ended.
func pause(ctx context.Context, try int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(min(time.Second, 5*time.Millisecond<<try)):
		return true
	}
}
