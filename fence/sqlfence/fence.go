package sqlfence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/baton-ha/baton/fence"
)

// ErrCommitted is returned, wrapped, by [Fence.Tx] and [Apply] when a statement has ended the transaction
// before its time, or a failure that was ignored has: DDL and deadlocks in MySQL and MariaDB, a full disk in
// SQLite. What came after it was not fenced. PostgreSQL has no such statement but COMMIT itself, which is not noticed.
var ErrCommitted = errors.New("sqlfence: a statement has ended the transaction")

// Tx tries its own statements so often: serialization failures, deadlocks, a busy database and a
// connection that was lost pass, and nothing of the caller's has been done yet.
const tries = 6

// Config describes a [Fence].
type Config struct {
	// DB is the database. It stays the caller's. Required.
	DB *sql.DB
	// Dialect is what DB speaks. Required.
	Dialect Dialect
	// Resource names what is fenced: a row of the table. A [fence.ValidName]. Required. Its first token
	// decides which cluster it belongs to.
	Resource string
	// Table is the table of the tokens; Table with "_position" is that of [Apply]. A name of letters, digits and
	// '_', at most 50 bytes, perhaps with a schema and a dot before it. Empty means "baton_fence".
	Table string
	// Isolation is the level of the transactions. Zero is the database's default. Each will do.
	Isolation sql.IsolationLevel
}

// Validate reports everything that is wrong at once.
func (c Config) Validate() error {
	var errs []error
	if c.DB == nil {
		errs = append(errs, errors.New("sqlfence: Config.DB is nil"))
	}
	if c.Dialect < PostgreSQL || c.Dialect > SQLite {
		errs = append(errs, fmt.Errorf("sqlfence: Config.Dialect is %d, which is none", c.Dialect))
	}
	if !fence.ValidName(c.Resource) {
		errs = append(errs, fmt.Errorf("sqlfence: Config.Resource %q is not a valid name", c.Resource))
	}
	if !validTable(c.Table) {
		errs = append(errs, fmt.Errorf("sqlfence: Config.Table %q is not a valid name", c.Table))
	}
	return errors.Join(errs...)
}

func validTable(s string) bool {
	schema, table, ok := strings.Cut(s, ".")
	if ok && (schema == "" || table == "") {
		return false
	}
	return len(s) <= 50 && strings.Trim(schema+table, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// A Fence guards one resource in a database. Safe for concurrent use, in any number of processes.
type Fence struct {
	db       *sql.DB
	sql      statements
	resource string
	options  *sql.TxOptions
}

// New returns a fence. It does not speak to the database. The error is that of [Config.Validate].
func New(c Config) (*Fence, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Table == "" {
		c.Table = "baton_fence"
	}
	return &Fence{
		db:       c.DB,
		sql:      c.Dialect.statements(c.Table),
		resource: c.Resource,
		options:  &sql.TxOptions{Isolation: c.Isolation},
	}, nil
}

// Schema returns the statements that create the two tables, for those who keep their schema elsewhere.
// Transactions need the rights to SELECT, INSERT and UPDATE there.
func (f *Fence) Schema() []string { return append([]string(nil), f.sql.create...) }

// Create creates the tables if they are not there.
func (f *Fence) Create(ctx context.Context) error {
	for _, s := range f.sql.create {
		// Two that create at the same time can hit each other, also with IF NOT EXISTS.
		if err := retry(ctx, func() error { _, err := f.db.ExecContext(ctx, s); return err }); err != nil {
			return fmt.Errorf("sqlfence: create tables: %w", err)
		}
	}
	return nil
}

// Tx runs work in a transaction that commits only while the token is the newest, as the package
// documentation explains. An error of work rolls it back and is returned as it is. work must not commit or
// roll back itself, and must not use tx after it has returned.
//
// Other errors: *[fence.StaleError], *[fence.ForeignError], one that wraps [fence.ErrInvalid], [ErrCommitted],
// the database's, the cause of ctx. After an error of the commit it is not known whether it took effect.
func (f *Fence) Tx(ctx context.Context, t fence.Token, work func(tx *sql.Tx) error) error {
	if err := check(t); err != nil {
		return err
	}
	var tx *sql.Tx
	err := retry(ctx, func() (err error) {
		tx, err = f.hold(ctx, t)
		return err
	})
	if err != nil {
		return refused(ctx, "begin", t, err)
	}
	return f.finish(tx, func() error { return work(tx) })
}

// finish runs work in a transaction that has been begun, and ends it in each case, also when work panics.
func (f *Fence) finish(tx *sql.Tx, work func() error) error {
	defer tx.Rollback() // of a transaction that has ended it does nothing
	if err := work(); err != nil {
		return err
	}
	if f.sql.marked != "" {
		if _, err := tx.Exec(f.sql.marked); err != nil {
			return fmt.Errorf("%w: %w", ErrCommitted, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("sqlfence: commit: %w", err)
	}
	return nil
}

// hold begins a transaction that has the row locked with the token in it.
func (f *Fence) hold(ctx context.Context, t fence.Token) (*sql.Tx, error) {
	for {
		tx, err := f.db.BeginTx(ctx, f.options)
		if err != nil {
			return nil, err
		}
		known, err := read(tx.QueryRowContext(ctx, f.sql.hold, f.resource))
		if err == nil && known == t {
			if err = f.mark(ctx, tx); err == nil {
				return tx, nil
			}
		}
		tx.Rollback() // lets go of the row, and of the connection, before Raise wants them
		if err != nil {
			return nil, err
		}
		if err := fence.Check(t, known); err != nil {
			return nil, err
		}
		// The token is new here. Raising it under the shared lock would be a deadlock of two that do so.
		if known, err = f.raise(ctx, t); err != nil {
			return nil, err
		}
		if err := fence.Check(t, known); err != nil {
			return nil, err
		}
	}
}

func (f *Fence) mark(ctx context.Context, tx *sql.Tx) error {
	if f.sql.mark == "" {
		return nil
	}
	_, err := tx.ExecContext(ctx, f.sql.mark)
	return err
}

// Raise implements [fence.Store], so that a [fence.Guard] can keep its token in a database. Each call
// asks the database.
func (f *Fence) Raise(ctx context.Context, t fence.Token) (known fence.Token, err error) {
	if err := check(t); err != nil {
		return fence.Token{}, err
	}
	err = retry(ctx, func() (err error) {
		known, err = f.raise(ctx, t)
		return err
	})
	if err != nil {
		return fence.Token{}, refused(ctx, "raise", t, err)
	}
	return known, nil
}

// raise uses statements that are transactions by themselves.
func (f *Fence) raise(ctx context.Context, t fence.Token) (known fence.Token, err error) {
	known, err = read(f.db.QueryRowContext(ctx, f.sql.look, f.resource))
	if err != nil || known == t || fence.Check(t, known) != nil {
		return known, err
	}
	if known == (fence.Token{}) {
		_, err = f.db.ExecContext(ctx, f.sql.insert, f.resource, t.Cluster, int64(t.Epoch), t.Holder)
	} else {
		_, err = f.db.ExecContext(ctx, f.sql.raise, int64(t.Epoch), t.Holder, f.resource, t.Cluster, int64(t.Epoch))
	}
	if err != nil {
		return fence.Token{}, err
	}
	if known, err = read(f.db.QueryRowContext(ctx, f.sql.look, f.resource)); err != nil || !t.Supersedes(known) {
		return known, err
	}
	return fence.Token{}, fmt.Errorf("the row was raised meanwhile, to %s", known)
}

// read returns the token of a row, the zero Token if there is no row.
func read(row *sql.Row) (fence.Token, error) {
	var t fence.Token
	var epoch int64
	switch err := row.Scan(&t.Cluster, &epoch, &t.Holder); {
	case errors.Is(err, sql.ErrNoRows):
		return fence.Token{}, nil
	case err != nil:
		return fence.Token{}, err
	}
	t.Epoch = uint64(epoch)
	if epoch <= 0 || !t.Valid() {
		return fence.Token{}, fmt.Errorf("%w in the table: %s with epoch %d", fence.ErrInvalid, t, epoch)
	}
	return t, nil
}

func check(t fence.Token) error {
	if err := fence.Check(t, fence.Token{}); err != nil {
		return err
	}
	if t.Epoch > math.MaxInt64 {
		return fmt.Errorf("%w: epoch %d does not fit into a BIGINT", fence.ErrInvalid, t.Epoch)
	}
	return nil
}

// refused wraps what is not about the token.
func refused(ctx context.Context, what string, t fence.Token, err error) error {
	if final(err) {
		return err
	}
	if ctx.Err() != nil && context.Cause(ctx) != err {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return fmt.Errorf("sqlfence: %s with token %s: %w", what, t, err)
}

// final reports whether an error stays when one tries again.
func final(err error) bool {
	var stale *fence.StaleError
	var foreign *fence.ForeignError
	return errors.As(err, &stale) || errors.As(err, &foreign) || errors.Is(err, fence.ErrInvalid)
}

// retry calls step until it succeeds, a few times. Which errors pass cannot be told without the drivers.
func retry(ctx context.Context, step func() error) error {
	wait := firstWait
	for try := 1; ; try++ {
		err := step()
		if err == nil || final(err) || try == tries || !pause(ctx, &wait) {
			return err
		}
	}
}

const firstWait = 5 * time.Millisecond

// pause waits, and doubles the time for the next one. It reports false if ctx has ended.
func pause(ctx context.Context, wait *time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(*wait):
		*wait = min(2**wait, 100*firstWait)
		return true
	}
}
