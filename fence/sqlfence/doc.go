// Package sqlfence fences a database: transactions that carry a token, in PostgreSQL, MySQL, MariaDB and
// SQLite, through database/sql with whatever driver.
//
//	f, err := sqlfence.New(sqlfence.Config{DB: db, Dialect: sqlfence.PostgreSQL, Resource: "orders"})
//	err = f.Create(ctx)
//	err = f.Tx(ctx, token, func(tx *sql.Tx) error {
//		_, err := tx.ExecContext(ctx, "UPDATE orders SET …")
//		return err
//	})
//
// [Apply] is the other direction: it brings the records of a log into the database, each exactly once.
//
// # How it works
//
// The table baton_fence has one row for each resource, which holds the highest token. A transaction begins by
// locking that row in shared mode and reading it, and keeps the lock to its end; it goes on only if the
// row holds its own token. A token that is new to the row is written there first, in a transaction of its
// own, which needs the row exclusively. So transactions of one token run side by side, and:
//
//   - A token is raised only when no transaction of an older one is open, and is durable before any
//     work of it begins.
//   - A transaction that locks the row afterwards reads the newer token and gives up with a
//     *fence.StaleError. It has done nothing by then.
//   - A transaction of an older token that was let through before has ended by then: committed, and the newer one's
//     first transaction sees what it wrote; or rolled back. It cannot commit later.
//
// # At every isolation level
//
// It holds because of locks, not because of what a snapshot shows, so the level does not matter:
//
//   - PostgreSQL: SELECT … FOR SHARE waits for the writer of a row and, at READ COMMITTED, then reads the
//     new version. At REPEATABLE READ and SERIALIZABLE a row that was changed since the snapshot is the
//     error 40001; the lock is the first statement, so the transaction is begun anew with a new snapshot.
//     READ UNCOMMITTED is READ COMMITTED there.
//   - MySQL, MariaDB (InnoDB): a locking read returns the newest committed version at every level, also READ
//     UNCOMMITTED, and waits for who writes it. The snapshot of REPEATABLE READ is taken later, by the
//     first read that does not lock. With innodb_snapshot_isolation a row that was changed meanwhile is an error.
//   - SQLite: there is one writer at a time. The transaction begins with an UPDATE that changes nothing, which
//     takes the write lock (as BEGIN IMMEDIATE would) and the snapshot in one step, so that no deferred
//     transaction reads an old row first and writes later. Transactions of one token run one after the other.
//
// Serialization failures and deadlocks of your own statements are yours to retry, as without a fence: call
// Tx again.
//
// # Conditions
//
//   - All that is to be fenced is written in the transaction that Tx gives, in the same database.
//   - The database keeps what it has committed: a failover to a replica that lacks the newest commits
//     brings back the older token with the older data. (synchronous_commit, innodb_flush_log_at_trx_commit, and
//     SQLite's synchronous decide that.)
//   - One server has the locks. Where several take writes (Galera, group replication with several primaries) send all
//     transactions of a resource to one of them.
//   - MySQL and MariaDB: only InnoDB tables; no statement that commits by itself (DDL, LOCK TABLES, START
//     TRANSACTION). What follows such a statement runs without the fence. Tx notices at its end and
//     returns [ErrCommitted], but then it has happened. A deadlock, and in SQLite a full disk, has ended the
//     transaction, too: work must return the errors of its statements and not go on.
//   - Epochs up to 2^63-1.
//
// # A writer that sleeps in its transaction
//
// The lock of an older token's open transaction holds the newer one up: it waits, which is safe, until that
// transaction ends. If the older Active was stopped in the middle of one, its session must be ended by
// the database: set idle_in_transaction_session_timeout (PostgreSQL), idle_transaction_timeout (MariaDB),
// or wait_timeout (MySQL) in the data source name or at the server, to about the lease. SQLite has nobody who
// would do it: there the stopped process must be killed or continued. On PostgreSQL a newer token also
// waits while transactions of the older one overlap without a gap.
package sqlfence
