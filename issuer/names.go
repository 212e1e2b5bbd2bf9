package issuer

import (
	"maps"
	"slices"
)

const maxListed = 1000 // records of one list

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
