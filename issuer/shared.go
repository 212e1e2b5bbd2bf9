package issuer

import (
	"math"

	"keymill/issuer/retry"
)

// sharedGenerations in a row, each answered to two addresses, suggest that a token has two holders.
const sharedGenerations = 5

// addRetries adds a count to the record that is about to rotate. It reports whether the token looks
// shared from now on.
func (rec *familyRecord) addRetries(n retry.Count) (shared bool) {
	rec.retries = uint16(min(math.MaxUint16, int(rec.retries)+int(n.Answers)))
	if !n.OtherAddress {
		if rec.shared < sharedGenerations { // a token that once looked shared stays so
			rec.shared = 0
		}
		return false
	}
	if rec.shared < math.MaxUint8 {
		rec.shared++
	}
	return rec.shared == sharedGenerations
}
