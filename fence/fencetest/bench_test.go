package fencetest

import (
	"database/sql"
	"testing"
)

// What the token costs a transaction that inserts a row.
func BenchmarkSQL(b *testing.B) {
	for _, d := range databases {
		b.Run("database="+d.name+"/token=no", func(b *testing.B) {
			db := open(b, d.driver, d.source(b))
			_, j := fenced(b, d, db, sql.LevelDefault)
			for b.Loop() {
				tx, err := db.BeginTx(b.Context(), nil)
				if err == nil {
					err = j.write(b.Context(), tx, 1)
				}
				if err == nil {
					err = tx.Commit()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("database="+d.name+"/token=yes", func(b *testing.B) {
			db := open(b, d.driver, d.source(b))
			f, j := fenced(b, d, db, sql.LevelDefault)
			for b.Loop() {
				if err := f.Tx(b.Context(), token(1), func(tx *sql.Tx) error { return j.write(b.Context(), tx, 1) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
