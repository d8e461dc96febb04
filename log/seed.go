package log

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/baton-ha/baton/internal/core"
)

// A Seed is what a new cluster can be made of: what another one has had, in a backup or in the directory of a survivor. It is used
// once, by one goroutine, and is good only when all of it was read without an error.
type Seed struct {
	Info BackupInfo
	// Committed is the last record of which it was known, where the seed comes from, that it is committed. Those behind it, up to
	// Info.Index, are taken for committed from now on.
	Committed uint64

	ctx  context.Context // of the call that the seed is read in
	cp   core.Checkpoint
	term uint64 // of the raft entry at the checkpoint
	last uint64 // raft index of the last entry
	hard uint64 // the term that was reached
	body func(io.Writer) error
	log  iter.Seq2[*raftpb.Entry, error] // behind the base of cp
}

// ReadSeed reads the header of a backup. Of what is wrong with it the error is a *[BackupError]; others are those of r.
func ReadSeed(ctx context.Context, r io.Reader) (*Seed, error) {
	b := &backupReader{r: r}
	h, cp, err := b.head()
	if err != nil {
		return nil, err
	}
	info := h.info(cp)
	return &Seed{
		Info: info, Committed: info.Index, ctx: ctx, cp: cp, term: h.Term, last: cp.Position.Raft, hard: h.Term,
		body: func(w io.Writer) error { return b.state(ctx, w) }, log: b.entries(ctx, h),
	}, nil
}

// SeedOfState makes a seed of the bytes of a state machine's state that stands at a record, without a log or a history.
func SeedOfState(ctx context.Context, state io.Reader, index uint64) *Seed {
	const at, term = 1, 1 // raft's, which begins where it does in every new cluster
	base := core.Base{Raft: at, Term: term, Index: index}
	return &Seed{
		Info: BackupInfo{Index: index, First: index + 1}, Committed: index, ctx: ctx,
		cp:   core.Checkpoint{Position: core.Position{Raft: at, Index: index}, Base: base, State: core.StateOf},
		term: term, last: at, hard: term,
		body: func(w io.Writer) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{w}, untilOver{ctx, state}, make([]byte, backupPiece))
			return err
		},
		log: func(func(*raftpb.Entry, error) bool) {},
	}
}

// Survivor is a member's directory that is opened for reading only.
type Survivor interface {
	Recovered() (hard *raftpb.HardState, snap *raftpb.Snapshot, last uint64, terms iter.Seq2[uint64, uint64])
	Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error)
	First() uint64
	OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error)
}

// onlyRead is the storage of a [Store] that only reads.
type onlyRead struct {
	Survivor
	Storage
}

func (r onlyRead) Recovered() (*raftpb.HardState, *raftpb.Snapshot, uint64, iter.Seq2[uint64, uint64]) {
	return r.Survivor.Recovered()
}
func (r onlyRead) First() uint64 { return r.Survivor.First() }
func (r onlyRead) Entries(lo, hi, maxBytes uint64) ([]*raftpb.Entry, error) {
	return r.Survivor.Entries(lo, hi, maxBytes)
}
func (r onlyRead) OpenSnapshot() (*raftpb.Snapshot, io.ReadCloser, int64, error) {
	return r.Survivor.OpenSnapshot()
}

// SeedOf reads the log of a survivor once, behind its newest checkpoint, and returns all that it has as a seed. The error is
// [ErrNothing], wrapped, of a member that never belonged to a cluster, and otherwise about damage.
func SeedOf(ctx context.Context, from Survivor, cluster, member string) (*Seed, error) {
	hard, snap, last, _ := from.Recovered()
	if snap == nil {
		return nil, ErrNothing
	}
	store, err := NewStore(onlyRead{Survivor: from}, 0)
	if err != nil {
		return nil, err
	}
	cp, err := core.ParseCheckpoint(snap)
	if err != nil {
		return nil, err
	}
	if cp.Position.Raft == 0 {
		return nil, ErrNothing
	}
	cp.Base, cp.Terms = store.base, store.termsUpTo(store.base, cp.Position.Raft)
	s := &Seed{ctx: ctx, cp: cp, term: snap.GetMetadata().GetTerm(), last: last, hard: max(hard.GetTerm(), snap.GetMetadata().GetTerm())}
	at := cp.Position
	s.Committed = at.Index
	for e, err := range entriesOf(ctx, from, at.Raft+1, last) {
		if err == nil {
			err = at.Walk([]*raftpb.Entry{e})
		}
		if err != nil {
			return nil, err
		}
		if e.GetIndex() <= hard.GetCommit() {
			s.Committed = at.Index
		}
		s.hard = max(s.hard, e.GetTerm())
	}
	_, body, size, err := from.OpenSnapshot()
	if err != nil {
		return nil, err
	}
	if err := body.Close(); err != nil {
		return nil, err
	}
	s.Info = BackupInfo{
		Cluster: cluster, ClusterID: at.ClusterID, Member: member, Epoch: at.Epoch().Epoch, Index: at.Index, First: cp.Base.Index + 1, State: size,
		Machine: cp.Machine, Members: at.Roster.Members,
	}
	s.body = func(w io.Writer) error {
		_, body, _, err := from.OpenSnapshot()
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{untilOver{ctx, body}}, make([]byte, backupPiece))
		return errors.Join(err, body.Close())
	}
	s.log = entriesOf(ctx, from, cp.Base.Raft+1, last)
	return s, nil
}

// untilOver is a reader that ends with a ctx.
type untilOver struct {
	ctx context.Context
	r   io.Reader
}

func (u untilOver) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// entriesOf yields the entries of a survivor from one raft index to another.
func entriesOf(ctx context.Context, from Survivor, lo, last uint64) iter.Seq2[*raftpb.Entry, error] {
	return func(yield func(*raftpb.Entry, error) bool) {
		for lo <= last {
			ents, err := from.Entries(lo, last+1, backupPiece)
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range ents {
				if !yield(e, nil) {
					return
				}
			}
			lo += uint64(len(ents))
		}
	}
}

// Verify reads all that has not been read of it, for its errors.
func (s *Seed) Verify() error {
	if err := s.body(io.Discard); err != nil {
		return err
	}
	_, err := s.end(func(*raftpb.Entry) bool { return true })
	return err
}

// Base returns the raft entry before the first of Log, and its term.
func (s *Seed) Base() (index, term uint64) { return s.cp.Base.Raft, s.cp.Base.Term }

// Found returns the checkpoint and the log with which the only member of a new cluster begins. Its first epoch is the one given, which
// must be above Info.Epoch.
func (s *Seed) Found(first Member, cluster [16]byte, epoch uint64) (boot *raftpb.Snapshot, body func(io.Writer) error, log iter.Seq2[*raftpb.Entry, error]) {
	boot = core.NewSnapshot(s.term, s.cp.Found(first, cluster))
	return boot, s.body, func(yield func(*raftpb.Entry, error) bool) {
		more, err := s.end(func(e *raftpb.Entry) bool { return yield(core.Plain(e), nil) })
		switch {
		case err != nil:
			yield(nil, err)
		case more:
			yield(core.Leap(s.last+1, s.hard, first.Name, epoch), nil)
		}
	}
}

// end gives the entries to f, each verified, until it returns false. It reports whether f has got all.
func (s *Seed) end(f func(*raftpb.Entry) bool) (all bool, err error) {
	at := s.cp.Base.Raft
	for e, err := range s.log {
		if err != nil {
			return false, err
		}
		if at++; e.GetIndex() != at {
			return false, fmt.Errorf("%w: raft entry %d where %d should be", ErrFormat, e.GetIndex(), at)
		}
		if damage := core.Verify(e, "in what a cluster is made from"); damage != nil {
			return false, damage
		}
		if !f(e) {
			return false, nil
		}
	}
	if at != s.last {
		return false, fmt.Errorf("%w: the log ends at raft entry %d, and %d should be the last", ErrFormat, at, s.last)
	}
	return true, nil
}

// Term returns the last raft term that was known where the seed comes from.
func (s *Seed) Term() uint64 { return s.hard }
