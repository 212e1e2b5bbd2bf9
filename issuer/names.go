package issuer

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"keymill/storage"
)

// Limits of one record. A change of a client writes the records of its old and new audiences and
// origins, and an Update can write 64 keys.
const (
	maxNameBytes = 200 // of an audience
	maxIDBytes   = 100 // of a client
	maxAudiences = 16
	maxOrigins   = 10
	maxListed    = 1000 // records of one list
)

// validName reports whether s is 1 to 200 visible ASCII characters.
func validName(s string) bool { return s != "" && len(s) <= maxNameBytes && isVisible(s) }

// validID reports whether s is 1 to 100 characters VSCHAR (RFC 6749, appendix A.1) without a space
// at either end, because shells and forms trim it.
func validID(s string) bool {
	return s != "" && len(s) <= maxIDBytes && s == strings.Trim(s, " ") &&
		isVisible(strings.ReplaceAll(s, " ", "_"))
}

func isVisible(s string) bool {
	for n := range len(s) {
		if s[n] < 0x21 || s[n] > 0x7e {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func putJSON(tx storage.Tx, key string, record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return err
	}
	return tx.Put(key, b)
}
