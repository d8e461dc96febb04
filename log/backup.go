package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/baton-ha/baton/internal/core"
)

// This file writes backups. A backup is a checkpoint that is made for it and then read from its file: so a program is never asked for two
// captures at a time, and whoever writes the backup away may take any time without holding anything back but that file.

// BackupInfo says what a backup holds.
type BackupInfo struct {
	Cluster   string    // name of the cluster
	ClusterID [16]byte  // zero if it had no epoch yet
	Member    string    // that has written it
	Time      time.Time // when, by that member's clock on the wall
	Epoch     uint64    // in force at Index
	// Index is the last record that is in it: in the state of the state machine where there is one, else as it is.
	Index uint64
	// First is the first record that is in it as it is, and that Subscribe yields after it is restored; Index+1 if none is.
	First   uint64
	State   int64    // bytes of the state machine's state
	Machine string   // Go type of the state machine, "" if there is none
	Members []Member // of the cluster at Index, by id; they are for people, and no members of what is made of the backup
}

// ErrNothing is returned, wrapped, by Backup of a member that does not belong to a cluster yet.
var ErrNothing = errors.New("baton: nothing is known here yet that could be backed up")

// Backup writes a backup of what is applied here when it is called, or later, to w: the state machine's state at one record, or
// without a state machine the records that are held up to there, with the history of epochs and the list of the members.
// [ReadSeed] reads it; the format is in DESIGN.md.
//
// It makes a checkpoint for it unless the newest one is as new, so it fails as one does; the state machine, appends and
// checkpoints go on while w takes its time. Without a state machine the log that is being read is kept meanwhile, up to a bound: then
// the error matches [ErrCompacted]. Other errors: [ErrNothing], [ErrClosed], [ErrReentrant], the cause of ctx, a damaged
// snapshot's, and those of w. After an error what w has got is no backup.
func (l *Log) Backup(ctx context.Context, cluster string, w io.Writer) (BackupInfo, error) {
	if l.Inside() != "" { // WriteTo and Verify, too: they are part of the checkpoint that it may need
		return BackupInfo{}, ErrReentrant
	}
	if l.cfg.Arbiter {
		return BackupInfo{}, fmt.Errorf("%w: this member is an arbiter, and makes no checkpoints", ErrNothing)
	}
	if err := l.freshen(ctx); err != nil {
		return BackupInfo{}, err
	}
	if l.cfg.StateMachine == nil {
		defer l.check.hold(l.store.oldest().Raft)()
	}
	snap, body, size, err := l.cfg.Storage.OpenSnapshot()
	if err != nil {
		return BackupInfo{}, fmt.Errorf("baton: backup: %w", err)
	}
	defer body.Close()
	if l.cfg.StateMachine != nil { // the records are in the state
		if snap, err = core.ForOthers(snap); err != nil {
			return BackupInfo{}, err
		}
	}
	cp, err := core.ParseCheckpoint(snap)
	if err != nil {
		return BackupInfo{}, err
	}
	if cp.Position.Raft == 0 {
		return BackupInfo{}, ErrNothing
	}
	if held := l.store.oldest(); held.Raft > cp.Base.Raft && cp.Base.Raft < cp.Position.Raft {
		cp.Version, cp.Base, cp.Terms = 0, held, l.store.termsUpTo(held, cp.Position.Raft)
		snap = core.NewSnapshot(snap.GetMetadata().GetTerm(), cp)
	}
	head := backupHead{
		Version: backupVersion, Cluster: cluster, Member: l.cfg.Core.Name, Time: time.Now().UnixNano(),
		Raft: cp.Position.Raft, Term: snap.GetMetadata().GetTerm(),
		Checkpoint: snap.GetData(), State: size, Entries: cp.Position.Raft - cp.Base.Raft,
	}
	out := backupWriter{ctx: ctx, w: w}
	out.head(head)
	out.state(body)
	for at := cp.Base.Raft + 1; at <= cp.Position.Raft && out.err == nil; {
		ents, err := l.store.Entries(at, cp.Position.Raft+1, backupPiece)
		if err != nil {
			if errors.Is(err, core.ErrNotHeld) {
				err = fmt.Errorf("%w: raft entry %d was given up while the backup was written, which took too long", ErrCompacted, at)
			}
			out.fail(err)
			break
		}
		at += uint64(len(ents))
		for i, e := range ents {
			own, err := l.store.sound(e, "when they are backed up")
			if err != nil {
				out.fail(err)
				break
			}
			if own != e { // the slice is the store's
				ents = slices.Clone(ents)
				ents[i] = own
			}
		}
		out.entries(ents)
	}
	out.end()
	if out.err != nil {
		return BackupInfo{}, fmt.Errorf("baton: backup: %w", out.err)
	}
	return head.info(cp), nil
}

// freshen sees to it that a checkpoint is in force that has everything that is applied here now.
func (l *Log) freshen(ctx context.Context) error {
	target := l.check.place().pos.Raft
	for again := false; ; again = true {
		select {
		case <-l.ending:
			return ErrClosed
		default:
		}
		ended, failed := l.check.ask(target, again)
		switch {
		case failed != nil:
			return fmt.Errorf("baton: backup: %w", failed)
		case ended == nil:
			return nil
		}
		l.applies.put(nil) // between two applies
		select {
		case <-ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-l.ending:
		}
	}
}
