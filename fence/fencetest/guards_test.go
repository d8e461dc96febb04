package fencetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/filefence"
	"github.com/baton-ha/baton/fence/grpcfence"
	"github.com/baton-ha/baton/fence/httpfence"
	"github.com/baton-ha/baton/fence/redisfence"
	"github.com/baton-ha/baton/fence/s3fence"
	"github.com/baton-ha/baton/fence/sqlfence"
)

// bare before the name of a guard is the same without it.
const bare = "bare-"

// A target is a journal behind a guard: where, and what there.
type target struct{ Where, Resource string }

// errLate is what a writer returns that finds the write of an older token in the place of its own.
var errLate = errors.New("something late was written")

type write func(ctx context.Context, t fence.Token) error

// writer returns how to write a token's epoch into a journal through a guard.
func writer(guard string, at target) (write, error) {
	name, isBare := strings.CutPrefix(guard, bare)
	switch name {
	case "http":
		return httpWriter(at.Where, isBare), nil
	case "grpc":
		return grpcWriter(at.Where)
	case "redis":
		return redisWriter(at, isBare)
	case "file":
		return fileWriter(at.Where, isBare)
	case "s3":
		return s3Writer(at, isBare)
	}
	for _, d := range databases {
		if d.name == name {
			return sqlWriter(d, at, isBare)
		}
	}
	return nil, fmt.Errorf("no guard %q", guard)
}

func httpWriter(socket string, isBare bool) write {
	base := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	url := "http://owner/"
	if isBare {
		url += bare
	}
	return func(ctx context.Context, t fence.Token) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("x"))
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Transport: &httpfence.Transport{Token: t, Base: base}}).Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			return errors.Join(httpfence.Check(resp), errors.New(resp.Status))
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

func grpcWriter(socket string) (write, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return func(ctx context.Context, t fence.Token) error {
		ctx = metadata.AppendToOutgoingContext(ctx, grpcfence.Key, t.String())
		err := conn.Invoke(ctx, grpcMethod, new(emptypb.Empty), new(emptypb.Empty))
		if refused := grpcfence.Check(err); refused != nil {
			return refused
		}
		return err
	}, err
}

func redisWriter(at target, isBare bool) (write, error) {
	client := redis.NewClient(&redis.Options{Addr: at.Where})
	f, err := redisfence.New(func(ctx context.Context, script string, keys []string, args ...any) (any, error) {
		return client.Eval(ctx, script, keys, args...).Result()
	}, at.Resource+":token")
	return func(ctx context.Context, t fence.Token) error {
		if isBare {
			return client.RPush(ctx, at.Resource+":journal", t.Epoch).Err()
		}
		_, err := f.Do(ctx, t, push, []string{at.Resource + ":journal"}, t.Epoch)
		return err
	}, err
}

func fileWriter(path string, isBare bool) (write, error) {
	if isBare {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
		return func(_ context.Context, t fence.Token) error {
			_, err := fmt.Fprintln(f, t.Epoch)
			return err
		}, err
	}
	j, err := filefence.NewJournal(path)
	return func(ctx context.Context, t fence.Token) error {
		_, err := j.Append(ctx, t, strconv.AppendUint(nil, t.Epoch, 10))
		return err
	}, err
}

// s3Writer replaces an object, and looks first whether what it has written is still there.
func s3Writer(at target, isBare bool) (write, error) {
	client := s3Client(at.Where)
	o, err := s3fence.New(client, s3Bucket, at.Resource)
	wrote := uint64(0)
	look := func(ctx context.Context, t fence.Token) error {
		r, err := o.Get(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if epoch, err := strconv.ParseUint(string(text), 10, 64); err != nil || wrote == t.Epoch && epoch < wrote {
			return fmt.Errorf("%w: %q after %d, %v", errLate, text, wrote, err)
		}
		return nil
	}
	return func(ctx context.Context, t fence.Token) error {
		late := look(ctx, t)
		if late != nil && !errors.Is(late, errLate) {
			return late
		}
		text, err := strconv.AppendUint(nil, t.Epoch, 10), error(nil)
		if isBare {
			_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(s3Bucket), Key: &at.Resource, Body: bytes.NewReader(text)})
		} else {
			_, err = o.Put(ctx, t, bytes.NewReader(text))
		}
		if err == nil {
			wrote, err = t.Epoch, late
		}
		return err
	}, err
}

func sqlWriter(d database, at target, isBare bool) (write, error) {
	db, err := sql.Open(d.driver, at.Where)
	if err != nil {
		return nil, err
	}
	f, err := sqlfence.New(sqlfence.Config{DB: db, Dialect: d.dialect, Resource: at.Resource})
	j := journal{d, at.Resource}
	return func(ctx context.Context, t fence.Token) error {
		if isBare {
			return j.write(ctx, db, t.Epoch)
		}
		return f.Tx(ctx, t, func(tx *sql.Tx) error { return j.write(ctx, tx, t.Epoch) })
	}, err
}

// An owner is a process that serves HTTP and gRPC behind guards, and without, and keeps journals of what was let through.
type owner struct{ Dir string }

const grpcMethod = "/fence.Journal/Write"

func (o *owner) socket(name string) string  { return o.Dir + "/" + name + ".sock" }
func (o *owner) journal(name string) string { return o.Dir + "/" + name + ".journal" }

func (o *owner) run() error {
	ended := make(chan error, 3) // one for each server
	guards := map[string]*fence.Guard{}
	for _, name := range []string{"http", "grpc"} {
		store, err := fence.OpenFileStore(o.Dir + "/" + name + ".token")
		if err != nil {
			return err
		}
		guards[name] = fence.NewGuard("t3", store)
	}
	mux := http.NewServeMux()
	mux.Handle("/", &httpfence.Handler{Guard: guards["http"], Next: httpJournal(o.journal("http"))})
	mux.Handle("/"+bare, httpJournal(o.journal(bare+"http")))
	fenced := &grpcfence.Server{Guard: guards["grpc"]}
	for name, serve := range map[string]func(net.Listener) error{
		"http": func(l net.Listener) error { return http.Serve(l, mux) },
		"grpc": func(l net.Listener) error {
			return grpcJournal(o.journal("grpc"), grpc.UnaryInterceptor(fenced.Unary)).Serve(l)
		},
		bare + "grpc": func(l net.Listener) error { return grpcJournal(o.journal(bare + "grpc")).Serve(l) },
	} {
		_ = os.Remove(o.socket(name)) // of an owner that was killed
		l, err := net.Listen("unix", o.socket(name))
		if err != nil {
			return err
		}
		go func() { ended <- serve(l) }()
	}
	return <-ended
}

// note adds the epoch of a token to a journal.
func note(path, tok string) error {
	t, err := fence.Parse(tok)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, t.Epoch)
	return errors.Join(err, f.Close())
}

func httpJournal(path string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := note(path, r.Header.Get(httpfence.Header)); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func grpcJournal(path string, opts ...grpc.ServerOption) *grpc.Server {
	s := grpc.NewServer(opts...)
	handler := func(ctx context.Context, _ any) (any, error) {
		return new(emptypb.Empty), note(path, strings.Join(metadata.ValueFromIncomingContext(ctx, grpcfence.Key), " "))
	}
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "fence.Journal", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Write",
		Handler: func(srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			in := new(emptypb.Empty)
			if err := decode(in); err != nil {
				return nil, err
			}
			if intercept == nil {
				return handler(ctx, in)
			}
			return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: grpcMethod}, handler)
		},
	}}}, struct{}{})
	return s
}

// readEpochs reads a journal of lines, without one that is torn.
func readEpochs(path string) (epochs []uint64, err error) {
	b, err := os.ReadFile(path)
	for _, line := range strings.SplitAfter(string(b), "\n") {
		if e, err := strconv.ParseUint(strings.TrimSuffix(line, "\n"), 10, 64); err == nil && strings.HasSuffix(line, "\n") {
			epochs = append(epochs, e)
		}
	}
	return epochs, err
}

// breath is how long a writer waits between two writes: the members must have a processor, too.
const breath = 2 * time.Millisecond
