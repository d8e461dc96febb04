package fencetest

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/baton-ha/baton/fence"
	"github.com/baton-ha/baton/fence/sqlfence"
)

func Example_sqlfence() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:example?mode=memory&cache=shared")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	f, err := sqlfence.New(sqlfence.Config{DB: db, Dialect: sqlfence.SQLite, Resource: "orders"})
	if err == nil {
		err = f.Create(ctx)
	}
	if err == nil {
		_, err = db.Exec("CREATE TABLE orders (holder TEXT)")
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	write := func(t fence.Token) {
		err := f.Tx(ctx, t, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO orders VALUES (?)", t.Holder)
			return err
		})
		fmt.Println(t.Holder, err)
	}
	write(fence.Token{Cluster: "shop", Epoch: 7, Holder: "a"})
	write(fence.Token{Cluster: "shop", Epoch: 8, Holder: "b"})
	write(fence.Token{Cluster: "shop", Epoch: 7, Holder: "a"}) // a was asleep
	// Output:
	// a <nil>
	// b <nil>
	// a fence: token shop/7/a is stale: shop/8/b has been here
}
