package filefence

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/baton-ha/baton/fence"
)

// ErrUnknown is returned, wrapped, by writes when so many versions have come since that it cannot be told any more whether
// this one was the newest for a while, or came too late. A *[fence.StaleError] is wrapped, too, if the token is stale.
var ErrUnknown = errors.New("filefence: it is not known whether the version was added before newer ones")

// A chain is the versions in a directory. What is real is a version that was linked while the one before was there.
//
// Invariant: real versions are removed in the order of their numbers, after a newer one has a follower, and number 1, which
// has no content, never is. So while number N is there, a real N+1 has not been removed, and whatever has that name is real.
// What a late link has put among the removed is not, and no version that is real names its id.
type chain struct {
	files files
	turn  chan struct{} // has room for one: who adds a version. Others of this process would only be in his way

	mu    sync.Mutex // guards known
	known head       // the highest that was known to be real
}

func newChain(dir string) (*chain, error) {
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return &chain{files: directory(dir), turn: make(chan struct{}, 1)}, nil
}

func nameOf(number uint64) string { return fmt.Sprintf("%020d", number) }

// numberOf returns the number of a version's name, 0 for other files.
func numberOf(name string) uint64 {
	n, err := strconv.ParseUint(name, 10, 64)
	if err != nil || nameOf(n) != name {
		return 0
	}
	return n
}

// read opens a version, with the reader at its content.
func (c *chain) read(number uint64) (head, *bufio.Reader, io.Closer, error) {
	f, err := c.files.open(nameOf(number))
	if err != nil {
		return head{}, nil, nil, err
	}
	r := bufio.NewReaderSize(f, maxHead)
	h, err := readHead(r, number)
	if err != nil {
		f.Close()
		return head{}, nil, nil, err
	}
	return h, r, f, nil
}

func (c *chain) head(number uint64) (head, error) {
	h, _, f, err := c.read(number)
	if err == nil {
		f.Close()
	}
	return h, err
}

// has reports whether a version is still there.
func (c *chain) has(h head) (bool, error) {
	now, err := c.head(h.number)
	if gone(err) {
		return false, nil
	}
	return now.id == h.id, err
}

func (c *chain) latest() head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

func (c *chain) remember(h head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.number > c.known.number {
		c.known = h
	}
}

// newest returns the newest version, the zero head if there is none. It goes from one that is real to the next one, which
// is real, too, because the one before is still there after it was read.
func (c *chain) newest(ctx context.Context) (head, error) {
	for at, tries := c.latest(), 0; ; {
		if at.number == 0 {
			var err error
			if at, err = c.find(); err != nil || at.number == 0 {
				return at, err
			}
		}
		next, err := c.head(at.number + 1)
		if err != nil && !gone(err) {
			return head{}, err
		}
		there, e := c.has(at)
		switch {
		case e != nil:
			return head{}, e
		case !there: // it was removed, or was not real
			at = head{}
			if tries++; !pause(ctx, tries) {
				return head{}, context.Cause(ctx)
			}
			if tries == maxTries {
				return head{}, fmt.Errorf("%w: the newest one has none before it", ErrDamaged)
			}
		case err != nil: // no next one was there
			c.remember(at)
			return at, nil
		case next.before != at.id:
			return head{}, fmt.Errorf("%w: number %d does not follow the one before", ErrDamaged, next.number)
		default:
			at = next
		}
	}
}

// find looks for a version by the names. The highest one is real if the one before is still there, and is not otherwise
// when a list has left out what came while it was made. It returns one that has no place then, and is not found again.
func (c *chain) find() (head, error) {
	names, err := c.files.list()
	var highest uint64
	for _, name := range names {
		highest = max(highest, numberOf(name))
	}
	if err != nil || highest == 0 {
		return head{}, err
	}
	h, err := c.head(highest)
	if err == nil && highest > 1 {
		var before head
		if before, err = c.head(highest - 1); err == nil && before.id != h.before {
			return head{number: highest}, nil
		}
	}
	if gone(err) {
		return head{number: highest}, nil
	}
	return h, err
}

// add adds a version with content, or, if content is nil, one without, unless the newest has the token already.
func (c *chain) add(ctx context.Context, t fence.Token, content io.Reader) (head, error) {
	if err := fence.Check(t, fence.Token{}); err != nil {
		return head{}, err
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return head{}, context.Cause(ctx)
	}
	at, err := c.newest(ctx)
	if err == nil {
		err = fence.Check(t, at.token)
	}
	if err == nil && at.number == 0 {
		at, err = c.place(ctx, t, at, nil)
	}
	if err != nil || content == nil && at.token == t {
		return at, err
	}
	return c.place(ctx, t, at, content)
}

// place writes a version and links it behind the newest one, which is at first what at says.
func (c *chain) place(ctx context.Context, t fence.Token, at head, content io.Reader) (head, error) {
	d, err := c.newPending(t, content)
	if err != nil {
		return head{}, err
	}
	defer d.discard()
	for {
		if err := d.follow(at); err != nil {
			return head{}, err
		}
		mine, err := c.link(ctx, d)
		if err == nil && mine && at.number > 0 {
			if mine, err = c.has(at); err == nil && !mine {
				err = ErrUnknown
			}
		}
		if mine && err == nil {
			c.remember(d.head)
			return d.head, c.files.sync()
		}
		if errors.Is(err, ErrUnknown) || gone(err) || err == nil {
			// Somebody was faster, or a newer one has removed the draft.
			var e error
			if at, e = c.newest(ctx); e == nil {
				e = fence.Check(t, at.token)
			}
			switch {
			case err == nil && e == nil:
				continue
			case errors.Is(err, ErrUnknown) && e != nil:
				return head{}, fmt.Errorf("%w: %w", ErrUnknown, e)
			case e != nil:
				return head{}, e
			}
		}
		return head{}, err
	}
}

// link gives a draft its number, and reports whether it has it. A server can have done that for a request whose
// answer was lost, and answer the next one that the name is taken.
func (c *chain) link(ctx context.Context, d *pending) (mine bool, err error) {
	linked := c.files.link(d.name, nameOf(d.number))
	if linked == nil || gone(linked) {
		return linked == nil, linked
	}
	for tries := 1; ; tries++ {
		switch h, err := c.head(d.number); {
		case err == nil && h.id == d.id:
			return true, nil
		case !errors.Is(linked, os.ErrExist):
			return false, linked
		case err == nil:
			return false, nil
		case !gone(err):
			return false, err
		}
		// It was removed, or this client does not see it yet.
		if now, err := c.newest(ctx); err != nil {
			return false, err
		} else if now.number > d.number {
			return false, ErrUnknown
		}
		if !pause(ctx, tries) {
			return false, context.Cause(ctx)
		}
	}
}

// prune removes the versions below a number, and the drafts of older tokens. What cannot be removed now is when it is called
// the next time; it must not be passed over.
func (c *chain) prune(below uint64, t fence.Token) error {
	names, err := c.files.list()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if n := numberOf(name); 1 < n && n < below {
			if err := c.files.remove(name); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, draftPrefix) && name < draftName(t.Epoch, "") {
			if err := c.files.remove(name); err != nil && !gone(err) {
				return err
			}
		}
	}
	return nil
}

// Raise implements [fence.Store]: it makes t the newest token, if it is newer. Each call asks the file system. Errors
// wrap [ErrDamaged], or are the file system's, or the cause of ctx.
func (c *chain) Raise(ctx context.Context, t fence.Token) (fence.Token, error) {
	h, err := c.add(ctx, t, nil)
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	switch {
	case err == nil:
		return h.token, nil
	case errors.As(err, &stale):
		return stale.Known, nil
	case errors.As(err, &foreign):
		return c.Token(ctx)
	}
	return fence.Token{}, fmt.Errorf("filefence: raise to %s: %w", t, err)
}

// Token returns the newest token, the zero Token if there is none yet. It can be older than what is true, by the age of the file
// system's cache.
func (c *chain) Token(ctx context.Context) (fence.Token, error) {
	h, err := c.newest(ctx)
	if err != nil {
		return fence.Token{}, fmt.Errorf("filefence: %w", err)
	}
	return h.token, nil
}

// What is not found again and again may be a client's cache, which lives a minute.
const (
	maxTries = 100
	maxPause = time.Second
)

// pause waits, longer with each try, and reports false if ctx has ended.
func pause(ctx context.Context, tries int) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(min(maxPause, time.Millisecond<<min(tries-1, 20))):
		return true
	}
}
