package sqlfence_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/sqlfence"
)

// What an Active writes into a database, so that nothing of it is committed once there is another one.
func ExampleFence_Tx() {
	pay := func(ctx context.Context, db *sql.DB, token fence.Token) error {
		f, err := sqlfence.New(sqlfence.Config{DB: db, Dialect: sqlfence.PostgreSQL, Resource: "orders"})
		if err != nil {
			return err
		}
		err = f.Tx(ctx, token, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE orders SET paid = true WHERE id = $1", 17)
			return err
		})
		if stale := (*fence.StaleError)(nil); errors.As(err, &stale) {
			return fmt.Errorf("another one is active now: %w", err)
		}
		return err
	}
	_ = pay // needs a database: see fence/fencetest
}
