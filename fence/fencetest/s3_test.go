package fencetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/s3fence"
)

// An s3Server is versitygw on a directory, a process of its own, so that it can be killed.
type s3Server struct{ Dir, Socket string }

const s3Secret, s3Bucket = "baton-test", "jobs"

func (s *s3Server) run() error {
	if err := os.MkdirAll(filepath.Join(s.Dir, s3Bucket), 0o755); err != nil {
		return err
	}
	_ = os.Remove(s.Socket) // of a server that was killed
	// The metadata is in extended attributes, with which it changes together with the content.
	backend, err := posix.New(s.Dir, meta.XattrMeta{}, posix.PosixOpts{})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(context.Background(), backend, &embedgw.Config{
		RootUserAccess: s3Secret, RootUserSecret: s3Secret, Ports: []string{s.Socket},
		MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10000, Quiet: true,
	})
}

// startS3 starts a server with an empty bucket.
func startS3(t testing.TB) (*s3Server, *process) {
	t.Helper()
	s := &s3Server{Dir: filepath.Join(t.TempDir(), "s3"), Socket: filepath.Join(t.TempDir(), "s3.sock")}
	return s, s.start(t)
}

func (s *s3Server) start(t testing.TB) *process {
	t.Helper()
	p := spawn(t, child{S3: s})
	go func() {
		for range p.lines {
		}
	}()
	await(t, s.Socket)
	return p
}

func s3Client(socket string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://s3.test"), Region: "us-east-1", UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s3Secret, SecretAccessKey: s3Secret}, nil
		}),
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}},
	})
}

func s3Object(t testing.TB, socket, key string) *s3fence.Object {
	t.Helper()
	o, err := s3fence.New(s3Client(socket), s3Bucket, key)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func s3Put(t testing.TB, o *s3fence.Object, tok fence.Token, text string) error {
	_, err := o.Put(t.Context(), tok, strings.NewReader(text))
	return err
}

func TestS3_Refuses(t *testing.T) {
	s, p := startS3(t)
	o := s3Object(t, s.Socket, "state/object")
	if err := o.Probe(t.Context()); err != nil {
		t.Fatalf("the server: %v", err)
	}
	for _, epoch := range []uint64{1, 1, 7} {
		if err := s3Put(t, o, token(epoch), fmt.Sprint("of ", epoch)); err != nil {
			t.Fatalf("epoch %d: %v", epoch, err)
		}
	}
	p.kill()
	s.start(t)
	o = s3Object(t, s.Socket, "state/object")
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if err := s3Put(t, o, token(6), "late"); !errors.As(err, &stale) || stale.Known != token(7) {
		t.Errorf("a lower token: %v", err)
	}
	if err := s3Put(t, o, fence.Token{Cluster: "work", Epoch: 9, Holder: "a"}, "foreign"); !errors.As(err, &foreign) {
		t.Errorf("another cluster: %v", err)
	}
	if known, err := o.Raise(t.Context(), token(8)); err != nil || known != token(8) {
		t.Errorf("Raise: %v, %v", known, err)
	}
	r, err := o.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); err != nil || string(text) != "of 7" || r.Token != token(8) {
		t.Errorf("%q, %s, %v", text, r.Token, err)
	}
}

// Two writers race, each reading what is there and writing more: nothing is lost, and the order of tokens never goes back.
func TestS3_Race(t *testing.T) {
	s, _ := startS3(t)
	var newest, done, last atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		o := s3Object(t, s.Socket, "race")
		wg.Go(func() {
			epoch := newest.Add(1)
			for range *raceTimes / 2 {
				if rand.IntN(10) == 0 {
					epoch = newest.Add(1)
				}
				_, err := o.Put(t.Context(), token(epoch), bytes.NewReader(fmt.Append(nil, epoch)))
				var stale *fence.StaleError
				switch {
				case err == nil:
					done.Add(1)
				case !errors.As(err, &stale) && !strings.Contains(err.Error(), "PreconditionFailed"):
					t.Error(err)
					return
				}
				known, err := o.Token(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for was := last.Load(); ; was = last.Load() { // what was seen before this look began
					if known.Epoch >= was {
						if last.CompareAndSwap(was, known.Epoch) {
							break
						}
					} else if again, err := o.Token(t.Context()); err != nil || again.Epoch < was {
						t.Errorf("epoch %d after %d, %v", again.Epoch, was, err)
						return
					} else {
						break
					}
				}
			}
		})
	}
	wg.Wait()
	if done.Load() == 0 {
		t.Error("nothing was written")
	}
}

// What the token costs an object of 4 KiB.
func BenchmarkS3(b *testing.B) {
	s, _ := startS3(b)
	text := string(make([]byte, 4096))
	b.Run("token=no", func(b *testing.B) {
		c := s3Client(s.Socket)
		for b.Loop() {
			if _, err := c.PutObject(b.Context(), &s3.PutObjectInput{Bucket: aws.String(s3Bucket), Key: aws.String("plain"), Body: strings.NewReader(text)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("token=yes", func(b *testing.B) {
		o := s3Object(b, s.Socket, "fenced")
		for b.Loop() {
			if err := s3Put(b, o, token(1), text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
