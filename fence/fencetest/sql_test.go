package fencetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/sqlfence"
)

func token(epoch uint64) fence.Token { return fence.Token{Cluster: "jobs", Epoch: epoch, Holder: "a"} }

// server returns the address of a server, and skips the test if none is there.
func server(t testing.TB, variable string) string {
	t.Helper()
	addr := os.Getenv(variable)
	if addr == "" && os.Getenv("FENCE_NEEDED") != "" {
		t.Fatalf("%s is not set", variable)
	}
	if addr == "" {
		t.Skipf("%s is not set: start the servers by fence/fencetest/servers.sh run go -C fence/fencetest test ./...", variable)
	}
	return addr
}

// A database is one that the fences are tested with.
type database struct {
	name    string
	dialect sqlfence.Dialect
	driver  string
	source  func(t testing.TB) string // skips the test if the server is missing
	serial  string                    // type of a key that counts
	levels  []sql.IsolationLevel
}

var databases = []database{
	{"postgres", sqlfence.PostgreSQL, "pgx", func(t testing.TB) string { return server(t, "FENCE_POSTGRES") }, "BIGSERIAL PRIMARY KEY",
		[]sql.IsolationLevel{sql.LevelDefault, sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable}},
	{"mariadb", sqlfence.MySQL, "mysql", func(t testing.TB) string { return server(t, "FENCE_MARIADB") }, "BIGINT AUTO_INCREMENT PRIMARY KEY",
		[]sql.IsolationLevel{sql.LevelDefault, sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable}},
	{"sqlite", sqlfence.SQLite, "sqlite", func(t testing.TB) string {
		return sqliteFile(t) + "?_pragma=journal_mode(wal)&_pragma=synchronous(normal)&_pragma=busy_timeout(10000)"
	},
		"INTEGER PRIMARY KEY AUTOINCREMENT", []sql.IsolationLevel{sql.LevelDefault, sql.LevelSerializable}},
	{"sqlite-rollback", sqlfence.SQLite, "sqlite", func(t testing.TB) string {
		return sqliteFile(t) + "?_pragma=synchronous(off)&_pragma=busy_timeout(10000)"
	},
		"INTEGER PRIMARY KEY AUTOINCREMENT", []sql.IsolationLevel{sql.LevelDefault}},
}

func sqliteFile(t testing.TB) string { return "file:" + filepath.Join(t.TempDir(), "db") }

// with adds a parameter to a data source name.
func with(source, parameter string) string {
	if strings.Contains(source, "?") {
		return source + "&" + parameter
	}
	return source + "?" + parameter
}

func open(t testing.TB, driver, source string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

var resources atomic.Uint64

// fenced returns a fence of a resource of its own, and a journal beside it.
func fenced(t testing.TB, d database, db *sql.DB, level sql.IsolationLevel) (*sqlfence.Fence, journal) {
	t.Helper()
	name := fmt.Sprintf("r%d_%d", time.Now().UnixNano(), resources.Add(1))
	f := reopen(t, d, db, level, name)
	if err := f.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	j := journal{d, name}
	run(t, db, "CREATE TABLE "+j.table+" (id "+d.serial+", epoch BIGINT NOT NULL)")
	return f, j
}

func reopen(t testing.TB, d database, db *sql.DB, level sql.IsolationLevel, resource string) *sqlfence.Fence {
	t.Helper()
	f, err := sqlfence.New(sqlfence.Config{DB: db, Dialect: d.dialect, Resource: resource, Isolation: level})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func run(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// A journal is a table that shows in which order writes took effect.
type journal struct {
	database
	table string
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (j journal) write(ctx context.Context, tx execer, epoch uint64) error {
	_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s (epoch) VALUES (%d)", j.table, epoch))
	return err
}

func (j journal) epochs(t testing.TB, db *sql.DB) (epochs []uint64) {
	t.Helper()
	rows, err := db.Query("SELECT epoch FROM " + j.table + " ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var e uint64
		if err := rows.Scan(&e); err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return epochs
}

// forEach runs a test with each database at each of its levels.
func forEach(t *testing.T, test func(t *testing.T, d database, level sql.IsolationLevel)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			for _, level := range d.levels {
				t.Run(strings.ReplaceAll(level.String(), " ", ""), func(t *testing.T) { test(t, d, level) })
			}
		})
	}
}

func TestSQL_Refuses(t *testing.T) {
	forEach(t, func(t *testing.T, d database, level sql.IsolationLevel) {
		db := open(t, d.driver, d.source(t))
		f, j := fenced(t, d, db, level)
		do := func(f *sqlfence.Fence, tok fence.Token) error {
			return f.Tx(t.Context(), tok, func(tx *sql.Tx) error { return j.write(t.Context(), tx, tok.Epoch) })
		}
		for _, epoch := range []uint64{1, 1, 7} {
			if err := do(f, token(epoch)); err != nil {
				t.Fatalf("epoch %d: %v", epoch, err)
			}
		}
		again := reopen(t, d, db, level, j.table) // the owner was restarted
		var stale *fence.StaleError
		var foreign *fence.ForeignError
		if err := do(again, token(6)); !errors.As(err, &stale) || stale.Known != token(7) {
			t.Errorf("a lower token: %v", err)
		}
		if err := do(again, fence.Token{Cluster: "jobs", Epoch: 7, Holder: "b"}); !errors.As(err, &stale) {
			t.Errorf("a second holder of an epoch: %v", err)
		}
		for _, cluster := range []string{"work", "Jobs"} {
			if err := do(again, fence.Token{Cluster: cluster, Epoch: 9, Holder: "a"}); !errors.As(err, &foreign) {
				t.Errorf("a token of cluster %s: %v", cluster, err)
			}
		}
		if err := do(again, token(1<<63)); !errors.Is(err, fence.ErrInvalid) {
			t.Errorf("an epoch too large: %v", err)
		}
		if err := do(again, token(1<<63-1)); err != nil {
			t.Errorf("the largest epoch: %v", err)
		}
		if got := fmt.Sprint(j.epochs(t, db)); got != "[1 1 7 9223372036854775807]" {
			t.Errorf("took effect: %s", got)
		}
		if err := f.Tx(t.Context(), token(1<<63-1), func(tx *sql.Tx) error {
			if err := j.write(t.Context(), tx, 5); err != nil {
				return err
			}
			return os.ErrExist
		}); err != os.ErrExist || len(j.epochs(t, db)) != 4 {
			t.Errorf("work that fails: %v", err)
		}
		if known, err := f.Raise(t.Context(), token(3)); err != nil || known != token(1<<63-1) {
			t.Errorf("Raise: %v, %v", known, err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Tx(over, token(1<<63-1), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that is over: %v", err)
		}
	})
}

// Two writers with pools of their own race at each level: the order of tokens never goes back.
func TestSQL_Race(t *testing.T) {
	forEach(t, func(t *testing.T, d database, level sql.IsolationLevel) {
		source := d.source(t)
		db := open(t, d.driver, source)
		f, j := fenced(t, d, db, level)
		var newest, done atomic.Uint64
		var wg sync.WaitGroup
		for w := range 2 {
			mine := reopen(t, d, open(t, d.driver, source), level, j.table)
			wg.Go(func() {
				epoch := newest.Add(1)
				for range 5000 / len(d.levels) {
					if rand.IntN(10) == 0 {
						epoch = newest.Add(1)
					}
					err := mine.Tx(t.Context(), token(epoch), func(tx *sql.Tx) error { return j.write(t.Context(), tx, epoch) })
					var stale *fence.StaleError
					switch {
					case err == nil:
						done.Add(1)
					case !errors.As(err, &stale):
						t.Errorf("writer %d: %v", w, err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := f.Tx(t.Context(), token(newest.Add(1)), func(*sql.Tx) error { return nil }); err != nil {
			t.Error(err)
		}
		epochs := j.epochs(t, db)
		if uint64(len(epochs)) != done.Load() || done.Load() == 0 {
			t.Errorf("%d writes in the journal, %d were done", len(epochs), done.Load())
		}
		inOrder(t, epochs)
	})
}

// inOrder fails the test if an epoch comes after a later one.
func inOrder(t testing.TB, epochs []uint64) {
	t.Helper()
	if n := late(epochs); n > 0 {
		t.Errorf("%d of %d writes were late", n, len(epochs))
	}
}

// late counts the writes that took effect after one of a newer epoch.
func late(epochs []uint64) (n int) {
	newest := uint64(0)
	for _, e := range epochs {
		if e < newest {
			n++
		}
		newest = max(newest, e)
	}
	return n
}

// An older transaction that is open holds the newer one up until it has committed, and the newer one sees
// what it wrote.
func TestSQL_OpenTransaction(t *testing.T) {
	forEach(t, func(t *testing.T, d database, level sql.IsolationLevel) {
		source := d.source(t)
		db := open(t, d.driver, source)
		f, j := fenced(t, d, db, level)
		newer := reopen(t, d, open(t, d.driver, source), level, j.table)
		written, release, old, next := make(chan struct{}), make(chan struct{}), make(chan error, 1), make(chan error, 1)
		go func() {
			old <- f.Tx(t.Context(), token(1), func(tx *sql.Tx) error {
				defer close(written)
				return j.write(t.Context(), tx, 1)
			})
		}()
		if err := <-old; err != nil { // the first raise, so that the second transaction begins at once
			t.Fatal(err)
		}
		written = make(chan struct{})
		go func() {
			old <- f.Tx(t.Context(), token(1), func(tx *sql.Tx) error {
				err := j.write(t.Context(), tx, 1)
				close(written)
				<-release
				return err
			})
		}()
		<-written
		go func() {
			next <- newer.Tx(t.Context(), token(2), func(tx *sql.Tx) error {
				var n int
				if err := tx.QueryRow("SELECT COUNT(*) FROM " + j.table).Scan(&n); err != nil || n != 2 {
					t.Errorf("the newer transaction sees %d writes of the older, %v", n, err)
				}
				return j.write(t.Context(), tx, 2)
			})
		}()
		select {
		case err := <-next:
			t.Errorf("the newer transaction did not wait: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		close(release)
		if err := errors.Join(<-old, <-next); err != nil {
			t.Error(err)
		}
		inOrder(t, j.epochs(t, db))
	})
}

// Transactions of one token run side by side, where the database can do that.
func TestSQL_SideBySide(t *testing.T) {
	for _, d := range databases[:2] {
		t.Run(d.name, func(t *testing.T) {
			db := open(t, d.driver, d.source(t))
			f, j := fenced(t, d, db, sql.LevelDefault)
			if err := f.Tx(t.Context(), token(1), func(tx *sql.Tx) error {
				return f.Tx(t.Context(), token(1), func(tx *sql.Tx) error { return j.write(t.Context(), tx, 1) })
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A writer that sleeps in its transaction is put out by the database, as the documentation says.
func TestSQL_SleepingTransaction(t *testing.T) {
	for i, timeout := range []string{"idle_in_transaction_session_timeout=500", "idle_transaction_timeout=1"} {
		d := databases[i]
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			source := d.source(t)
			db := open(t, d.driver, source)
			f, j := fenced(t, d, open(t, d.driver, with(source, timeout)), sql.LevelDefault)
			newer := reopen(t, d, db, sql.LevelDefault, j.table)
			err := f.Tx(t.Context(), token(1), func(tx *sql.Tx) error {
				if err := j.write(t.Context(), tx, 1); err != nil {
					return err
				}
				if err := newer.Tx(t.Context(), token(2), func(tx *sql.Tx) error { return j.write(t.Context(), tx, 2) }); err != nil {
					t.Error(err)
				}
				return nil
			})
			if err == nil {
				t.Error("the older transaction committed after the newer one")
			}
			if got := fmt.Sprint(j.epochs(t, db)); got != "[2]" {
				t.Errorf("took effect: %s", got)
			}
		})
	}
}

// A statement that ends the transaction is noticed.
func TestSQL_EndedTransaction(t *testing.T) {
	for i, end := range []string{"", "CREATE TABLE %s_ddl (id BIGINT)", "INSERT OR ROLLBACK INTO %[1]s SELECT id, epoch FROM %[1]s"} {
		if end == "" {
			continue
		}
		d := databases[i]
		t.Run(d.name, func(t *testing.T) {
			db := open(t, d.driver, d.source(t))
			f, j := fenced(t, d, db, sql.LevelDefault)
			work := func(tx *sql.Tx) error {
				if err := j.write(t.Context(), tx, 1); err != nil {
					return err
				}
				_, _ = tx.Exec(fmt.Sprintf(end, j.table))
				return nil
			}
			if err := f.Tx(t.Context(), token(1), work); !errors.Is(err, sqlfence.ErrCommitted) {
				t.Errorf("Tx: %v", err)
			}
		})
	}
}

// record is what a log yields.
type record struct{ index uint64 }

// logOf yields n records and then waits, as a subscriber does.
func logOf(n uint64) func(ctx context.Context, from uint64) iter.Seq2[record, error] {
	return func(ctx context.Context, from uint64) iter.Seq2[record, error] {
		return func(yield func(record, error) bool) {
			for i := from; i <= n; i++ {
				if !yield(record{i}, nil) {
					return
				}
			}
			<-ctx.Done()
			yield(record{}, context.Cause(ctx))
		}
	}
}

// Two apply the same log, fail at random and begin again: each record is there once.
func TestSQL_Apply(t *testing.T) {
	const records = 1000
	forEach(t, func(t *testing.T, d database, level sql.IsolationLevel) {
		source := d.source(t)
		db := open(t, d.driver, source)
		f, j := fenced(t, d, db, level)
		all, done := context.WithTimeout(t.Context(), time.Minute)
		defer done()
		var wg sync.WaitGroup
		wg.Go(func() { // ends them when the last record is committed, however long that takes
			defer done()
			for all.Err() == nil {
				if at, err := f.Position(all); err == nil && at == records {
					time.Sleep(50 * time.Millisecond) // both see the last one
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
		for range 2 {
			mine := reopen(t, d, open(t, d.driver, source), level, j.table)
			wg.Go(func() {
				for all.Err() == nil {
					ctx, cancel := context.WithCancel(all)
					err := sqlfence.Apply(ctx, mine, logOf(records), func(r record) uint64 { return r.index }, func(tx *sql.Tx, r record) error {
						switch rand.IntN(200) {
						case 0:
							return errors.New("at random")
						case 1:
							cancel()
						}
						return j.write(ctx, tx, r.index)
					})
					cancel()
					if err == nil {
						t.Error("Apply ended without an error")
					}
				}
			})
		}
		wg.Wait()
		if at, err := f.Position(t.Context()); err != nil || at != records {
			t.Errorf("position %d, %v", at, err)
		}
		for i, index := range j.epochs(t, db) {
			if index != uint64(i)+1 {
				t.Fatalf("record %d is number %d in the table", index, i+1)
			}
		}
		if n := len(j.epochs(t, db)); n != records {
			t.Errorf("%d of %d records", n, records)
		}
	})
}
