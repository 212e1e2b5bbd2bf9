package issuer

import (
	"encoding/json"
	"maps"
	"slices"

	"keymill/issuer/loginterms"
	"keymill/storage"
)

// Limits of one record. A change of a client writes the records of its old and new audiences and
// origins, and an Update can write 64 keys.
const (
	maxAudiences = loginterms.MaxAudiences
	maxOrigins   = 10
	maxListed    = 1000 // records of one list
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func putJSON(tx storage.Tx, key string, record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return tx.Put(key, b)
}
