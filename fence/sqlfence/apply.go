package sqlfence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
)

// maxBatch is how many records go into one transaction of [Apply] at most.
const maxBatch = 256

// Position returns how far [Apply] has come: the index of the last record in the database, 0 before the
// first.
func (f *Fence) Position(ctx context.Context) (uint64, error) {
	var p int64
	err := f.db.QueryRowContext(ctx, f.sql.where, f.resource).Scan(&p)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("sqlfence: read position: %w", err)
	}
	return uint64(p), nil
}

// Apply brings the records of a log into the database until ctx ends: each exactly once and in order. It is
// the reading end of an outbox whose writing end is Append. The position is in the database, and moves in
// the same transaction as the data, so nothing is lost or done twice by a crash at any moment, a lost answer to a commit,
// or two that do it at the same time (they take turns by a lock on the position's row).
//
// records yields the records from an index on, as the method Subscribe of ha.Node does; index is the index
// of one: they must be 1, 2, 3 …. apply writes one record in tx, and must not end it. Records that come
// while a transaction runs, up to 256, share the next one. No token is needed, because the log is the same
// on all members: run it on any of them, or on all.
//
//	err := sqlfence.Apply(ctx, f, node.Subscribe, func(e ha.Entry) uint64 { return e.Index }, apply)
//
// A transaction that fails is tried again a few times, so apply may see a record again that was rolled back.
// The error is apply's, the database's or [ErrCommitted] after that, records', or the cause of ctx. Call Apply again
// to go on: it begins where the database is.
func Apply[E any](ctx context.Context, f *Fence,
	records func(ctx context.Context, from uint64) iter.Seq2[E, error],
	index func(E) uint64,
	apply func(tx *sql.Tx, e E) error,
) error {
	if err := retry(ctx, func() error { _, err := f.db.ExecContext(ctx, f.sql.begin, f.resource); return err }); err != nil {
		return fmt.Errorf("sqlfence: apply: %w", err)
	}
	from, err := f.Position(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var ended error
	coming := make(chan E, maxBatch) // what comes while a transaction runs is the next one
	go func() {
		defer close(coming)
		for e, err := range records(ctx, from+1) {
			if err != nil {
				ended = err
				return
			}
			select {
			case coming <- e:
			case <-ctx.Done():
			}
		}
	}()
	defer func() {
		cancel()
		for range coming { // until the goroutine has ended
		}
	}()
	for batch := make([]E, 0, maxBatch); ; batch = batch[:0] {
		e, ok := <-coming
		if !ok && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !ok {
			return ended
		}
		batch = append(batch, e)
		for more := true; more && len(batch) < maxBatch; {
			select {
			case e, more = <-coming:
				if more {
					batch = append(batch, e)
				}
			default:
				more = false
			}
		}
		if err := persist(ctx, f, batch, index, apply); err != nil {
			return err
		}
	}
}

// persist writes a batch, and tries again while others move the position.
func persist[E any](ctx context.Context, f *Fence, batch []E, index func(E) uint64, apply func(*sql.Tx, E) error) error {
	last, wait := uint64(0), firstWait
	for try := 1; ; try++ {
		err := write(ctx, f, batch, index, apply)
		if err == nil || errors.Is(err, ErrCommitted) {
			return err
		}
		if at, e := f.Position(ctx); e == nil && at > last {
			last, try = at, 1
		}
		if try >= tries || !pause(ctx, &wait) {
			return err
		}
	}
}

// write is one transaction: the records of a batch that the database does not have yet.
func write[E any](ctx context.Context, f *Fence, batch []E, index func(E) uint64, apply func(*sql.Tx, E) error) error {
	tx, err := f.db.BeginTx(ctx, f.options)
	if err != nil {
		return fmt.Errorf("sqlfence: apply: %w", err)
	}
	return f.finish(tx, func() error {
		var at int64
		if err := tx.QueryRowContext(ctx, f.sql.position, f.resource).Scan(&at); err != nil {
			return fmt.Errorf("sqlfence: lock position: %w", err)
		}
		if err := f.mark(ctx, tx); err != nil {
			return fmt.Errorf("sqlfence: apply: %w", err)
		}
		was := at
		for _, e := range batch {
			i := index(e)
			if i <= uint64(at) {
				continue
			}
			if i != uint64(at)+1 {
				return fmt.Errorf("sqlfence: record %d comes after %d", i, at)
			}
			if err := apply(tx, e); err != nil {
				return err
			}
			at++
		}
		if at == was {
			return nil
		}
		if _, err := tx.ExecContext(ctx, f.sql.move, at, f.resource); err != nil {
			return fmt.Errorf("sqlfence: move position to %d: %w", at, err)
		}
		return nil
	})
}
