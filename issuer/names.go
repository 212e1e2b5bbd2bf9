package issuer

import (
	"maps"
	"slices"

	"keymill/issuer/loginterms"
)

// Limits of one record. A change of a client writes the records of its old and new audiences and
// origins, and an Update can write 64 keys.
const (
	maxAudiences = loginterms.MaxAudiences
	maxOrigins   = 10
	maxListed    = 1000 // records of one list
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
