package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"

	"github.com/baton-ha/baton/internal/vfs"
	"go.etcd.io/raft/v3/raftpb"
)

// Content is what a member made by [Form] begins with, beside the snapshot in Options.Boot.
type Content struct {
	ClusterID [16]byte
	// Body writes what follows the snapshot's header; nil for none.
	Body func(io.Writer) error
	// Base is the index of the entry before the first of Log, at or before the snapshot, and Term its term.
	Base, Term uint64
	// Log are the entries behind Base, all of them committed, up to the snapshot at least. It is read after Body, once; its
	// error ends the making. Nil for none, if Base is where the snapshot is.
	Log iter.Seq2[*raftpb.Entry, error]
}

// ErrNotEmpty is returned by Form when the directory holds a member.
var ErrNotEmpty = errors.New("storage: directory holds a member")

// Form makes a member in dir, which must be absent or empty (see [Empty]), with the content of another one. When it returns nil
// the member is durable, and was read back once as by [Open]. After an error, and after a crash at any moment, dir counts as
// empty, or the member is complete. Errors: ErrNotEmpty, ErrForeign, ErrLocked, those of c, and those of the system.
func Form(dir string, o Options, c Content) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	d := disk{vfs.OS}
	if o.FS != nil {
		d.FS = o.FS
	}
	if err := d.mustBeEmpty(dir); err != nil {
		return err
	}
	if err := errors.Join(o.Identity.validate(), checkSnapshot(o.Boot)); err != nil {
		return err
	}
	if err := d.makeDir(dir); err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	lock, err := d.lockDir(dir)
	if err != nil {
		return err
	}
	if err := d.mustBeEmpty(dir); err != nil { // again: it may have been created before we had the lock
		return errors.Join(err, lock.Close())
	}
	o.content = &c
	w, err := d.openLocked(dir, o, lock)
	if err != nil {
		return errors.Join(err, d.unmake(dir), lock.Close())
	}
	return w.Close()
}

func (d disk) mustBeEmpty(dir string) error {
	state, err := d.classify(dir)
	if err == nil && state != dirEmpty {
		err = fmt.Errorf("%w: %s", ErrNotEmpty, dir)
	}
	return err
}

// unmake takes away what a creation has left that has failed: the identity first, so that the rest counts as unfinished, and
// "creating" last, without which it would count as a member whose identity is lost.
func (d disk) unmake(dir string) error {
	creating, identity := filepath.Join(dir, creatingName), filepath.Join(dir, identityName)
	if _, err := d.Stat(identity); err == nil {
		if err := errors.Join(d.writeFile(creating, nil), d.Remove(identity), d.syncDir(dir)); err != nil {
			return err
		}
	}
	if err := d.clearUnfinished(dir); err != nil {
		return err
	}
	for _, name := range []string{creating, creating + ".tmp"} {
		if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// body is what follows the header of the first snapshot.
func (c *Content) body() func(io.Writer) error {
	if c == nil {
		return nil
	}
	return c.Body
}

// formBytes is how much of a log is made durable at a time.
const formBytes = 1 << 20

// fill writes what a member begins with into its first segment.
func (c *Content) fill(out *appender, o Options) error {
	boot := idOf(o.Boot)
	base := snapID{c.Base, c.Term}
	if err := out.snapshot(base, o.Boot.GetMetadata().GetConfState()); err != nil {
		return err
	}
	hs := hardState{term: max(c.Term, 1), commit: c.Base}
	out.state(hs)
	if _, err := out.sync(); err != nil {
		return err
	}
	v := &view{}
	if err := errors.Join(v.snapshot(base.index, base.term, 0), v.state(hs)); err != nil {
		return err
	}
	if c.Log != nil {
		for e, err := range c.Log {
			if err == nil {
				err = v.entry(e.GetIndex(), e.GetTerm())
			}
			if err != nil {
				return err
			}
			out.begin(o.Identity.Incarnation, 0)
			if out.entry(e); len(out.b)-out.synced >= formBytes {
				if _, err := out.sync(); err != nil {
					return err
				}
			}
		}
	}
	if !v.matches(boot.index, boot.term) {
		return fmt.Errorf("storage: the log leads from %d to %d, and not to the snapshot %d of term %d", c.Base, v.last, boot.index, boot.term)
	}
	out.begin(o.Identity.Incarnation, 0)
	if boot != base {
		if err := out.snapshot(boot, o.Boot.GetMetadata().GetConfState()); err != nil {
			return err
		}
	}
	out.state(hardState{term: max(v.lastTerm(), hs.term), commit: v.last})
	return nil
}
