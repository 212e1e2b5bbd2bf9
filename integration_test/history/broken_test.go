package history

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/postgres"
	"keymill/storage/postgres/postgrestest"
)

// A credulous engine believes what its node has read before.
type credulous struct {
	optimistic.Engine
	views, updates bool // which batches it does not compare
}

func (e credulous) Commit(ctx context.Context, committer int, b *optimistic.Batch) (int64, *optimistic.Stale, error) {
	if e.views && len(b.Writes) == 0 || e.updates && len(b.Writes) > 0 {
		if b = (&optimistic.Batch{Writes: b.Writes}); len(b.Writes) == 0 {
			return 0, nil, nil
		}
	}
	return e.Engine.Commit(ctx, committer, b)
}

// lockCalls are the calls in the schema that take locks for keys and spans.
var lockCalls = regexp.MustCompile(`pg_catalog\.pg_advisory_xact_lock(_shared)?\(1263356236, (0|l|-l)\)`)

// TestABrokenStoreHasNoSuchOrder: each row breaks one thing that the order depends on, and the checker must find it.
func TestABrokenStoreHasNoSuchOrder(t *testing.T) {
	// Between comparing and writing the function waits, so that nodes overlap.
	const written = "  UPDATE keymill.node AS n SET seq"
	slow := strings.Replace(postgres.Schema(), written, "  PERFORM pg_catalog.pg_sleep(0.002);\n"+written, 1)
	unlocked := lockCalls.ReplaceAllString(slow, "pg_catalog.pg_sleep(0)")
	if len(lockCalls.FindAllString(slow, -1)) != 5 || slow == postgres.Schema() {
		t.Fatal("the schema has changed: the test does not break it as it says")
	}
	for _, tt := range []struct {
		name   string
		schema string
		engine credulous
		broken bool
	}{
		{"nothing", slow, credulous{}, false},
		{"no locks", unlocked, credulous{}, true},
		{"Views of stale records", slow, credulous{views: true}, true},
		{"Updates of stale records", slow, credulous{updates: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// On a slow machine few requests overlap in a second.
			for tries := 1; ; tries++ {
				h := record(t, openBroken(t, tt.schema, tt.engine), func(*recorder) { time.Sleep(time.Second) })
				found := impossible(t, h.history)
				if (len(found) > 0) == tt.broken {
					return
				}
				if !tt.broken || tries == 5 {
					t.Fatalf("%s: %d of %d worlds have no order, broken: %v", h, len(found), worlds, tt.broken)
				}
			}
		})
	}
}

// openBroken opens the nodes of a database with a schema.
func openBroken(t *testing.T, schema string, broken credulous) (stores []storage.Store) {
	t.Helper()
	server := postgrestest.Shared(t)
	name := server.NewDatabase(t)
	server.SQL(t, name, "SET ROLE "+postgrestest.Role, schema)
	for range nodes {
		engine, err := postgres.OpenEngine(context.Background(), postgres.Config{URL: server.URL(postgrestest.Role, name)})
		if err != nil {
			t.Fatal(err)
		}
		broken.Engine = engine
		s := optimistic.New(broken, optimistic.Options{})
		t.Cleanup(func() { s.Close() })
		stores = append(stores, s)
	}
	return stores
}
