package migrate

import (
	"testing"

	"keymill/storage/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }
