package migrate

import (
	"context"
	"fmt"
	"os"
	"testing"

	"keymill/storage/postgres/postgrestest"
)

const migrateFrom, migrateTo = "TEST_MIGRATE_FROM", "TEST_MIGRATE_TO"

// TestMain also runs a migration in a process of its own, for tests that kill it.
func TestMain(m *testing.M) {
	if from := os.Getenv(migrateFrom); from != "" {
		_, err := Run(context.Background(), Options{From: from, To: os.Getenv(migrateTo), Notes: os.Stderr, Password: noPassword})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	postgrestest.Main(m)
}
