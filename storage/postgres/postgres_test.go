package postgres

import (
	"context"
	"testing"

	"keymill/storage/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// open opens an engine on a database of the shared cluster until the test ends.
func open(t *testing.T, url string) *Engine {
	t.Helper()
	return openWith(t, Config{URL: url, Create: true})
}

func openWith(t *testing.T, c Config) *Engine {
	t.Helper()
	e, err := OpenEngine(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
