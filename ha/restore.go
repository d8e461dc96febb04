package ha

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/log"
	"github.com/baton-ha/baton/storage"
)

// This file makes new clusters of what is left of old ones (and import.go of what was none): of a backup, or of one member's directory when a majority is lost. Both end
// in a directory with the only member of a new cluster, which can then be opened, and grown by others.

// A NewCluster says what Restore and Recover make: the directory of the only member of a new cluster.
type NewCluster struct {
	// Dir is the member's directory. It must be absent or empty.
	Dir string
	// Cluster is the name of the cluster. It may be that of the old one: members of the old one are refused all the same, since
	// the new one has an id of its own.
	Cluster string
	// Name is the member's name.
	Name string
	// EpochAbove is a number that the epochs of the new cluster must be above, beside what is known (see [Restore]); 0: nothing else.
	EpochAbove uint64
	// Logger gets what is done. Nil: slog.Default().
	Logger *slog.Logger
}

func (c NewCluster) validate() error {
	var errs []error
	for _, f := range []struct{ name, v string }{{"Cluster", c.Cluster}, {"Name", c.Name}} {
		if !fence.ValidName(f.v) {
			errs = append(errs, fmt.Errorf("baton: NewCluster.%s: %q is not a name", f.name, f.v))
		}
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("baton: NewCluster.Dir: is empty"))
	}
	return errors.Join(errs...)
}

// Restore makes the only member of a new cluster of a backup that it reads from r. Open it with a Config that names it alone, and
// add others. It has the state, the records, their indexes, and the history of epochs; nothing of the old members belongs to it.
//
// G9 holds across it: the first epoch of the new cluster is above all that the old one has given, also after the backup
// was made, and above those of other clusters that were restored from the same backup before. Nobody can know those, so its number
// is made of the time, (seconds since 1970) x 2^20, if that is above the epoch of the backup: more than a million
// epochs a second would have to begin for another cluster to reach it. That takes a clock that is right to the second in which
// the last one was restored; set EpochAbove where that is in doubt.
//
// After an error, and after a crash at any moment, Dir counts as empty, unless the member is complete. Errors: a *[BackupError],
// [storage.ErrNotEmpty], [storage.ErrForeign], [storage.ErrLocked], the cause of ctx, those of r and of the system.
func Restore(ctx context.Context, r io.Reader, to NewCluster) (BackupInfo, error) {
	if err := to.validate(); err != nil {
		return BackupInfo{}, err
	}
	seed, err := log.ReadSeed(ctx, r)
	if err == nil {
		err = to.found(seed)
	}
	if err != nil {
		return BackupInfo{}, fmt.Errorf("baton: restore %s: %w", to.Dir, err)
	}
	return seed.Info, nil
}

// Remnant says what is left in the directory of a member.
type Remnant struct {
	BackupInfo // with no Time
	// Committed is the last record of which it was known there that it is committed. Records behind it, up to Index, are kept by
	// [Recover], too, since any of them may have been acknowledged; some may not, and where the rest of the cluster went on
	// without this member, those that were acknowledged under these indexes may be others.
	Committed uint64
	// Term is the last raft term known there. Of several members that are left, take the one with the highest Term and
	// then the highest Index.
	Term uint64
}

// Missing says in words what is not in it.
func (r Remnant) Missing() string {
	text := fmt.Sprintf("acknowledged records from index %d on, if there were any, are missing", r.Index+1)
	if r.Committed < r.Index {
		text += fmt.Sprintf("; of records %d to %d nobody here knows whether they were acknowledged, or others in their place",
			r.Committed+1, r.Index)
	}
	return text
}

// Survey tells what is left in a member's directory, and writes nothing. No process may have the directory open. Errors are those
// of [Recover].
func Survey(ctx context.Context, dir string) (Remnant, error) {
	_, left, done, err := survey(ctx, dir)
	if err != nil {
		return Remnant{}, fmt.Errorf("baton: survey %s: %w", dir, err)
	}
	return left, done()
}

// Recover makes the only member of a new cluster of the directory of one that is left, when a majority of its cluster is lost for good. It
// is the last resort: what the others had acknowledged without this member is lost, and no program can know what that was; what it
// returns says from which index on. First look for a member that is better off ([Survey]), and make sure that no other member of the old
// cluster runs, or ever will: both clusters would have an Active, and only guards that compare tokens can tell them apart,
// by the epochs, which are above all of before as those of [Restore] are.
//
// The old directory is read and not changed; keep it. Whatever can be read there is taken, whether it was known to be committed or not. After
// an error, and after a crash at any moment, to.Dir counts as empty, unless the member is complete. Errors: those of
// Restore, [storage.CorruptError] where the directory is damaged, [storage.ErrLocked] where a process has it open, [ErrNothing] where
// it never belonged to a cluster, and one that matches [fs.ErrNotExist] where there is no member.
func Recover(ctx context.Context, dir string, to NewCluster) (Remnant, error) {
	if err := to.validate(); err != nil {
		return Remnant{}, err
	}
	seed, left, done, err := survey(ctx, dir)
	if err == nil {
		err = errors.Join(to.found(seed), done())
	}
	if err != nil {
		return Remnant{}, fmt.Errorf("baton: recover %s: %w", dir, err)
	}
	to.logger().Warn("a new cluster was made of one member's directory; whatever the others had beside is lost", "member", to.Name,
		"cluster", to.Cluster, "from", dir, "dir", to.Dir, "index", left.Index, "committed", left.Committed, "missing", left.Missing())
	return left, nil
}

// survey opens what is left in a directory, until done.
func survey(ctx context.Context, dir string) (seed *log.Seed, left Remnant, done func() error, err error) {
	from, err := storage.OpenRemains(ctx, dir, nil)
	if err != nil {
		return nil, left, nil, err
	}
	id := from.Identity()
	if _, born := from.Birth(); !born {
		err = ErrNothing
	}
	if err == nil {
		seed, err = log.SeedOf(ctx, from, id.Cluster, id.Member)
	}
	if err != nil {
		return nil, left, nil, errors.Join(err, from.Close())
	}
	return seed, Remnant{BackupInfo: seed.Info, Committed: seed.Committed, Term: seed.Term()}, from.Close, nil
}

func (c NewCluster) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
}

// found writes the directory.
func (c NewCluster) found(seed *log.Seed) error {
	id := memberID(c.Name)
	cluster := [16]byte(randomBytes(16))
	epoch := firstEpoch(max(seed.Info.Epoch, c.EpochAbove), time.Now())
	base, term := seed.Base()
	boot, body, entries := seed.Found(log.Member{ID: id, Name: c.Name}, cluster, epoch)
	err := storage.Form(c.Dir, storage.Options{
		Identity: storage.Identity{Cluster: c.Cluster, Member: c.Name, ID: id, Incarnation: random64()}, Boot: boot, Logger: c.logger(),
	}, storage.Content{ClusterID: cluster, Body: body, Base: base, Term: term, Log: entries})
	if err != nil {
		return err
	}
	c.logger().Info("made the first member of a new cluster", "member", c.Name, "cluster", c.Cluster, "dir", c.Dir, "index", seed.Info.Index,
		"of", seed.Info.Cluster, "epoch", epoch)
	return nil
}

// epochsPerSecond is by how much the first epoch of a new cluster grows with the time: as epochs that can begin in a second and
// more. Until the year 2106 epochs stay below 2^52, which any program can count to.
const epochsPerSecond = 1 << 20

// firstEpoch is the first epoch of a cluster that is made at a time and goes on from an epoch.
func firstEpoch(after uint64, now time.Time) uint64 {
	return max(after+1, uint64(max(now.Unix(), 0))*epochsPerSecond)
}
