package sqlfence

import "strings"

// A Dialect says which database it is.
type Dialect int

const (
	PostgreSQL Dialect = iota + 1
	MySQL              // MySQL and MariaDB, with InnoDB
	SQLite             // 3.35 or newer
)

// statements are those of one fence. Each takes its parameters in the order that is given.
type statements struct {
	create   []string
	hold     string // resource → cluster, epoch, holder; locks the row shared (SQLite: writes)
	look     string // resource → cluster, epoch, holder as committed
	raise    string // epoch, holder, resource, cluster, epoch
	insert   string // resource, cluster, epoch, holder; nothing if there is a row
	mark     string // leaves something in the transaction that ends with it; "" if not needed
	marked   string // fails if the transaction has ended since mark
	position string // resource → position; locks the row exclusively
	where    string // resource → position as committed
	begin    string // resource; nothing if there is a row
	move     string // position, resource
}

func (d Dialect) statements(table string) statements {
	// one puts in the table's name, and the parameters as the dialect has them.
	one := func(s string) string {
		s = strings.ReplaceAll(s, "TABLE_", table)
		if d != PostgreSQL {
			return s
		}
		parts := strings.Split(s, "?")
		for i := 1; i < len(parts); i++ {
			parts[i] = "$" + string(rune('0'+i)) + parts[i]
		}
		return strings.Join(parts, "")
	}
	const row = "SELECT cluster, epoch, holder FROM TABLE_ WHERE resource = ?"
	const position = "SELECT position FROM TABLE__position WHERE resource = ?"
	s := statements{
		hold:     row + " FOR SHARE",
		look:     row,
		raise:    "UPDATE TABLE_ SET epoch = ?, holder = ? WHERE resource = ? AND cluster = ? AND epoch < ?",
		insert:   "INSERT INTO TABLE_ (resource, cluster, epoch, holder) VALUES (?, ?, ?, ?) ON CONFLICT (resource) DO NOTHING",
		position: position + " FOR UPDATE",
		where:    position,
		begin:    "INSERT INTO TABLE__position (resource, position) VALUES (?, 0) ON CONFLICT (resource) DO NOTHING",
		move:     "UPDATE TABLE__position SET position = ? WHERE resource = ?",
	}
	if d != PostgreSQL {
		// Here a statement or an error can end the transaction unseen, and the savepoint with it. In
		// PostgreSQL only a COMMIT as text does, and a savepoint is dear.
		s.mark, s.marked = "SAVEPOINT baton_fence", "RELEASE SAVEPOINT baton_fence"
	}
	name, engine := "TEXT", ""
	switch d {
	case MySQL:
		// Names are compared byte by byte: the default collation takes A for a.
		name, engine = "VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin", " ENGINE = InnoDB"
		s.hold = row + " LOCK IN SHARE MODE" // FOR SHARE is not MariaDB's
		s.look = s.hold                      // a plain read could be of what is not committed
		s.insert = "INSERT INTO TABLE_ (resource, cluster, epoch, holder) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE resource = resource"
		s.begin = "INSERT INTO TABLE__position (resource, position) VALUES (?, 0) ON DUPLICATE KEY UPDATE resource = resource"
	case SQLite:
		s.hold = "UPDATE TABLE_ SET epoch = epoch WHERE resource = ? RETURNING cluster, epoch, holder"
		s.position = "UPDATE TABLE__position SET position = position WHERE resource = ? RETURNING position"
	}
	s.create = []string{
		"CREATE TABLE IF NOT EXISTS TABLE_ (resource " + name + " NOT NULL PRIMARY KEY, cluster " + name +
			" NOT NULL, epoch BIGINT NOT NULL, holder " + name + " NOT NULL)" + engine,
		"CREATE TABLE IF NOT EXISTS TABLE__position (resource " + name + " NOT NULL PRIMARY KEY, position BIGINT NOT NULL)" + engine,
	}
	for i := range s.create {
		s.create[i] = one(s.create[i])
	}
	for _, p := range []*string{&s.hold, &s.look, &s.raise, &s.insert, &s.position, &s.where, &s.begin, &s.move} {
		*p = one(*p)
	}
	return s
}
