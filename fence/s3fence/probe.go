package s3fence

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/baton-ha/baton/fence"
)

// Probe finds out whether the store evaluates the conditions of writes, by trying to break them. It wraps [ErrUnconditional] if that
// succeeds. Call it when a program is set up: it leaves an empty object behind, whose key is the Object's with "-probe".
func (o *Object) Probe(ctx context.Context) error {
	put := func(ifMatch, ifNoneMatch *string) error {
		_, err := o.api.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &o.bucket, Key: aws.String(o.key + "-probe"), Body: new(section), IfMatch: ifMatch, IfNoneMatch: ifNoneMatch,
		})
		return err
	}
	if err := put(nil, nil); err != nil {
		return wrap("probe", fence.Token{}, err)
	}
	for what, err := range map[string]error{
		"If-Match":      put(aws.String(`"d41d8cd98f00b204e9800998ecf8427f-1"`), nil), // the ETag of something else
		"If-None-Match": put(nil, aws.String("*")),
	} {
		if err == nil {
			return fmt.Errorf("%w: %s", ErrUnconditional, what)
		} else if statusOf(err) != http.StatusPreconditionFailed {
			return wrap("probe", fence.Token{}, err)
		}
	}
	return nil
}
