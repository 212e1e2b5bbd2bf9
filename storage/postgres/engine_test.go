package postgres

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"keymill/storage"
	"keymill/storage/optimistic"
	"keymill/storage/optimistic/enginetest"
	"keymill/storage/postgres/postgrestest"
)

// TestValuesAndKeysOfEverySizeAndByteComeBack: the largest ones, and bytes that a text could not hold.
func TestValuesAndKeysOfEverySizeAndByteComeBack(t *testing.T) {
	e := open(t, postgrestest.Shared(t).Database(t))
	every := make([]byte, storage.MaxStoredBytes)
	for i := range every {
		every[i] = byte(i)
	}
	key := strings.Repeat("~", storage.MaxKeyBytes-5) + ` '"\{`
	for range 2 { // put, and then updated
		version := int64(0)
		records, err := e.Fetch(context.Background(), []string{key})
		if err == nil {
			version = records[0].Version
		}
		enginetest.Commit(t, e, reads(key, version), puts(key, string(every)))
		records, err = e.Fetch(context.Background(), []string{"absent", key})
		if err != nil {
			t.Fatal(err)
		}
		if records[0].Version != 0 || records[0].Key != "absent" || records[1].Key != key || !bytes.Equal(records[1].Value, every) {
			t.Errorf("read %d bytes under %q", len(records[1].Value), records[1].Key)
		}
	}
}

// TestTheEngineKeepsItsPromises, and gives every connection back.
func TestTheEngineKeepsItsPromises(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) optimistic.Engine {
		e := open(t, postgrestest.Shared(t).Database(t))
		t.Cleanup(func() {
			if n := e.reads.Stat().AcquiredConns() + e.commits.Stat().AcquiredConns(); n != 0 {
				t.Errorf("%d connections were not given back", n)
			}
		})
		return e
	})
}
