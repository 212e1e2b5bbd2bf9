package migrate

import (
	"context"
	"errors"
	"iter"

	"keymill/cmd/keymill/internal/terminal"
	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/postgres"
)

// A database is a store in PostgreSQL. Servers can use it.
type database struct{ engine *postgres.Engine }

// openDatabase opens a database. With create it makes the tables if there are none.
func openDatabase(ctx context.Context, url string, password func() (string, error), create bool) (*place, error) {
	engine, err := postgres.OpenEngine(ctx, postgres.Config{URL: url, Password: password, Create: create})
	if errors.Is(err, postgres.ErrNoTables) {
		return nil, terminal.WithHint(err, "the URL names another database than the servers use")
	}
	if err != nil {
		return nil, err
	}
	// Only few records are read twice: that of the migration.
	d := database{engine}
	return &place{optimistic.New(engine, optimistic.Options{CacheBytes: 1 << 20}), d.records, d.load, nil}, nil
}

// recordsPerQuery bounds the memory of one answer to 64 MiB, and mostly to 100 kB.
const recordsPerQuery = 1000

// records is that of a place. Each page is a request of its own, because a migration can outlive a connection.
func (d database) records(ctx context.Context) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for start := ""; ; {
			page, err := d.engine.Scan(ctx, start, "", recordsPerQuery)
			if err != nil {
				yield(storage.Entry{}, err)
				return
			}
			for _, r := range page {
				if !yield(storage.Entry{Key: r.Key, Value: r.Value}, nil) {
					return
				}
			}
			if len(page) < recordsPerQuery {
				return
			}
			start = storage.After(page[len(page)-1].Key)
		}
	}
}

// load is that of a place.
func (d database) load(ctx context.Context, guard func(storage.Reader) error, next func() (storage.Write, error), written func(int)) error {
	return d.engine.Load(ctx, guard, next, func(writes int, _ string) { written(writes) })
}
