package filefence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/baton-ha/baton/fence"
)

// keep is how many versions of a [File] are kept, so that slow readers and writers find what they need.
const keep = 8

// A Version says which one was written or read.
type Version struct {
	Number uint64 // grows from version to version, with gaps
	Token  fence.Token
	Size   int64 // bytes
}

func (h head) version() Version { return Version{Number: h.number, Token: h.token, Size: h.size} }

// A File is replaced as a whole. It is a directory that holds the last versions. It keeps nothing open, and needs not be
// closed. Safe for concurrent use, in any number of processes on any number of hosts.
type File struct{ *chain }

// NewFile returns the fenced file in a directory, which is made if it is not there; its parent must be. The first token decides
// to which cluster it belongs. The errors are those of the file system.
func NewFile(dir string) (*File, error) {
	c, err := newChain(dir)
	if err != nil {
		return nil, fmt.Errorf("filefence: %w", err)
	}
	return &File{c}, nil
}

// Replace makes what content yields the newest version, if the token is the newest. On nil it is durable, and nobody with an
// older token can replace it. An error of content is returned as it is, and nothing was done.
//
// Other errors: *[fence.StaleError], *[fence.ForeignError], one that wraps [fence.ErrInvalid], [ErrUnknown] or
// [ErrDamaged], the cause of ctx, and the file system's, after which it is not known whether the version was added.
func (f *File) Replace(ctx context.Context, t fence.Token, content io.Reader) (Version, error) {
	h, err := f.add(ctx, t, content)
	if err == nil && h.number >= keep {
		// One that fails is made up for by the next.
		_ = f.prune(h.number-keep+1, t)
	}
	return h.version(), wrap("replace", t, err)
}

// wrap says what failed, where the error does not say it itself.
func wrap(what string, t fence.Token, err error) error {
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	if err == nil || errors.Is(err, fence.ErrInvalid) || (errors.As(err, &stale) || errors.As(err, &foreign)) && !errors.Is(err, ErrUnknown) {
		return err
	}
	return fmt.Errorf("filefence: %s with token %s: %w", what, t, err)
}

// A Reader reads one version, whatever comes meanwhile. Not safe for concurrent use.
type Reader struct {
	Version
	r    *bufio.Reader
	file io.Closer
	left int64
	want uint32
	sum  hash.Hash32
}

// Open opens the newest version that has content; while there is none the error wraps [fs.ErrNotExist]. Others wrap
// [ErrDamaged], or are the cause of ctx or the file system's. Close what it returns.
func (f *File) Open(ctx context.Context) (*Reader, error) {
	for tries := 1; ; tries++ {
		at, err := f.newest(ctx)
		if err != nil {
			return nil, fmt.Errorf("filefence: open: %w", err)
		}
		if at.content == 0 {
			return nil, fmt.Errorf("filefence: open: nothing was written yet: %w", fs.ErrNotExist)
		}
		h, r, file, err := f.read(at.content)
		if err == nil && h.id == at.contentID {
			return &Reader{Version: h.version(), r: r, file: file, left: h.size, want: h.sum, sum: crc32.New(castagnoli)}, nil
		}
		if err == nil {
			file.Close()
		} else if !gone(err) {
			return nil, fmt.Errorf("filefence: open: %w", err)
		}
		// It was removed because newer ones have come.
		if !pause(ctx, tries) {
			return nil, fmt.Errorf("filefence: open: %w", context.Cause(ctx))
		}
	}
}

// Read implements [io.Reader]. Instead of io.EOF it returns an error that wraps [ErrDamaged] if what it has read is not what was
// written.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.end()
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.sum.Write(p[:n])
	r.left -= int64(n)
	if err == io.EOF {
		err = fmt.Errorf("%w: number %d is cut short by %d bytes", ErrDamaged, r.Number, r.left)
	}
	return n, err
}

func (r *Reader) end() error {
	if r.sum.Sum32() != r.want {
		return fmt.Errorf("%w: number %d has another checksum", ErrDamaged, r.Number)
	}
	return io.EOF
}

// Close implements [io.Closer].
func (r *Reader) Close() error { return r.file.Close() }
