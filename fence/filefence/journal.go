package filefence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	"github.com/baton-ha/baton/fence"
)

// ErrTrimmed is returned, wrapped, by [Journal.Records] when the record that is wanted next was trimmed.
var ErrTrimmed = errors.New("filefence: the record was trimmed")

// A Record is what one Append has written.
type Record struct {
	Version
	Data []byte // the receiver's own
}

// A Journal grows by records, each of them a version: make them large, with a record for all that is there to be
// written. It is a directory that holds all records until they are trimmed. It keeps nothing open, and needs not be closed. Safe for concurrent use, in
// any number of processes on any number of hosts.
type Journal struct{ *chain }

// NewJournal is [NewFile] for a journal.
func NewJournal(dir string) (*Journal, error) {
	c, err := newChain(dir)
	if err != nil {
		return nil, fmt.Errorf("filefence: %w", err)
	}
	return &Journal{c}, nil
}

// Append adds a record behind all others, if the token is the newest. On nil it is durable, and no record of an older token
// comes behind it. Errors as of [File.Replace].
func (j *Journal) Append(ctx context.Context, t fence.Token, data []byte) (Version, error) {
	h, err := j.add(ctx, t, bytes.NewReader(data))
	return h.version(), wrap("append", t, err)
}

// Trim removes the records below a number, but for the two newest versions. Errors as of [File.Replace].
func (j *Journal) Trim(ctx context.Context, t fence.Token, below uint64) error {
	h, err := j.add(ctx, t, nil)
	if err == nil {
		err = j.prune(min(below, h.number-1), t)
	}
	return wrap("trim", t, err)
}

// Records yields the records from a number on, in order, to the one that is the newest when it begins; 0 means from the first
// that is there. Numbers have gaps. An error comes once, last: one that wraps [ErrTrimmed] or [ErrDamaged], the cause of ctx, or
// the file system's.
func (j *Journal) Records(ctx context.Context, from uint64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		newest, err := j.newest(ctx)
		for at := max(from, 1); err == nil && at <= newest.number; at++ {
			var h head
			var data []byte
			if err = context.Cause(ctx); err == nil {
				h, data, err = j.record(at, newest)
			}
			switch {
			case errors.Is(err, ErrTrimmed) && from == 0 && at < newest.number: // the first one is behind it
				at, err = j.before(at + 1)
			case err == nil && h.content == at && !yield(Record{h.version(), data}, nil):
				return
			case at > 1:
				from = at // from here on none may be missing
			}
		}
		if err != nil {
			yield(Record{}, fmt.Errorf("filefence: read: %w", err))
		}
	}
}

// record reads one version whole.
func (j *Journal) record(number uint64, newest head) (head, []byte, error) {
	h, r, f, err := j.read(number)
	if gone(err) {
		err = fmt.Errorf("%w: number %d", ErrTrimmed, number)
	}
	if err != nil {
		return head{}, nil, err
	}
	defer f.Close()
	data := new(bytes.Buffer)
	if _, err := data.ReadFrom(io.LimitReader(r, h.size)); err != nil {
		return head{}, nil, err
	}
	if int64(data.Len()) != h.size || crc32.Checksum(data.Bytes(), castagnoli) != h.sum {
		return head{}, nil, fmt.Errorf("%w: number %d is not what was written", ErrDamaged, number)
	}
	return h, data.Bytes(), j.real(h, newest)
}

// real returns ErrTrimmed if a version is none of the chain that ends with the newest, but what a late writer has put among the
// removed: the one behind names the id of the one that had the number before.
func (j *Journal) real(h, newest head) error {
	if h.number == 1 || h.id == newest.id {
		return nil
	}
	next, err := j.head(h.number + 1)
	if gone(err) || err == nil && next.before != h.id {
		return fmt.Errorf("%w: number %d", ErrTrimmed, h.number)
	}
	return err
}

// before returns the number before the lowest one, not below from, that has a version.
func (j *Journal) before(from uint64) (uint64, error) {
	names, err := j.files.list()
	lowest := ^uint64(0)
	for _, name := range names {
		if n := numberOf(name); n >= from {
			lowest = min(lowest, n)
		}
	}
	return lowest - 1, err
}
