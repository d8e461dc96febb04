package ha

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/baton-ha/baton/log"
)

// BackupInfo says what a backup holds.
type BackupInfo = log.BackupInfo

// BackupError says that what was read is not a whole backup as it was written, and where that was found.
type BackupError = log.BackupError

// ErrNothing is returned, wrapped, by Backup, Survey and Recover where a member does not belong to a cluster yet.
var ErrNothing = log.ErrNothing

// Backup writes a backup of the cluster to w, from this member, in whatever state that is: the state of the StateMachine as it is
// here now or somewhat later, at one record, with the history of epochs and the list of the members; without a StateMachine the
// records that are held here, from BackupInfo.First on. On the Active it has everything that was acknowledged before the call; on
// another member, what has arrived there. [Restore] makes a new cluster of it, and [ReadBackup] verifies it.
//
// It is written in pieces of at most 256 KiB (but for records that are larger), by the caller's goroutine, and ends with checksums: one
// that is cut off is noticed. A checkpoint is made for it, and then read from its file: appends, checkpoints and the
// StateMachine go on, however long w takes. Without a StateMachine the log that is being read is kept meanwhile, four times
// CheckpointBytes beyond RetainBytes at most, and not while the disk is nearly full; then the error matches [ErrCompacted]. Other errors are [ErrNothing], [ErrClosed],
// [ErrReentrant] within the StateMachine, the cause of ctx, that of a checkpoint that fails, a [storage.CorruptError], and those of w.
// After an error what w has got is no backup.
func (n *Node) Backup(ctx context.Context, w io.Writer) (BackupInfo, error) {
	if ctx.Err() != nil {
		return BackupInfo{}, context.Cause(ctx)
	}
	info, err := n.log.Backup(ctx, n.cfg.Cluster, w)
	switch {
	case errors.Is(err, ErrReentrant):
		return info, n.misused("Backup", n.inside())
	case err != nil && n.view(n.clock()).State == Failed:
		return info, errors.Join(ErrClosed, err)
	}
	return info, err
}

// ReadBackup reads a backup to its end and tells what it holds. It verifies every byte, and writes nothing. Of what is wrong
// with a backup the error is a *[BackupError]; others are the cause of ctx and those of r. What follows the backup is not read.
func ReadBackup(ctx context.Context, r io.Reader) (BackupInfo, error) {
	seed, err := log.ReadSeed(ctx, r)
	if err == nil {
		err = seed.Verify()
	}
	if err != nil {
		return BackupInfo{}, fmt.Errorf("baton: read a backup: %w", err)
	}
	return seed.Info, nil
}
