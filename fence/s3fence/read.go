package s3fence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/baton-ha/baton/fence"
)

// A Reader reads one version. Not safe for concurrent use.
type Reader struct {
	Version
	body io.ReadCloser
	left int64
	id   string // that comes behind it; "" if the object is not ours
}

// Get opens the newest version. While none was written the error wraps [fs.ErrNotExist]. Others wrap [ErrDamaged], or are the
// store's. Close what it returns.
func (o *Object) Get(ctx context.Context) (*Reader, error) {
	r, err := o.get(ctx, "")
	for range looks { // as in head
		if !errors.Is(err, ErrDamaged) {
			break
		}
		fault := err
		if r, err = o.get(ctx, ""); err != nil && alike(err, fault) {
			break
		}
	}
	if statusOf(err) == http.StatusNotFound || err == nil && r.Size < 0 {
		if err == nil {
			r.Close()
		}
		return nil, fmt.Errorf("s3fence: get: nothing was written yet: %w", fs.ErrNotExist)
	}
	return r, wrap("get", fence.Token{}, err)
}

func (o *Object) get(ctx context.Context, etag string) (*Reader, error) {
	in := &s3.GetObjectInput{Bucket: &o.bucket, Key: &o.key}
	if etag != "" {
		in.IfMatch = &etag
	}
	out, err := o.api.GetObject(ctx, in)
	if err != nil {
		return nil, err
	}
	h, err := headOf(out.ETag, out.Metadata, aws.ToInt64(out.ContentLength))
	if err != nil {
		out.Body.Close()
		return nil, err
	}
	return &Reader{Version: h.Version, body: out.Body, left: max(h.Size, 0), id: h.id}, nil
}

// Read implements [io.Reader]. Instead of io.EOF it returns an error that wraps [ErrDamaged] if the version does not end as it was
// written.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.end()
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF && r.left == 0 {
		err = nil
	} else if err == io.EOF {
		err = fmt.Errorf("%w: it is cut short by %d bytes", ErrDamaged, r.left)
	}
	return n, err
}

func (r *Reader) end() error {
	if r.id == "" {
		return io.EOF
	}
	tail := make([]byte, idSize)
	if _, err := io.ReadFull(r.body, tail); err != nil || string(tail) != r.id {
		return fmt.Errorf("%w: it ends with %q, %v", ErrDamaged, tail, err)
	}
	r.id = ""
	return io.EOF
}

// Close implements [io.Closer].
func (r *Reader) Close() error { return r.body.Close() }
