package jwks

import (
	"fmt"
	"strings"
)

// Skipped says which keys of a document Parse left out.
type Skipped struct {
	Count int          // how many keys were left out
	Keys  []SkippedKey // the first 20 of them
}

// A SkippedKey is one key that Parse left out.
type SkippedKey struct {
	Index  int    // position in the array "keys", from 0
	KID    string // cut at 100 bytes; "" if none could be read
	Reason string // for people; text of the document in it is quoted
}

// String returns one line for a log: the index, the kid and the reason.
func (k SkippedKey) String() string {
	return fmt.Sprintf("key %d (kid %q): %s", k.Index, k.KID, k.Reason)
}

// HasKID reports whether k may be the key of that name. A kid of over 100 bytes is compared as
// far as it was kept.
func (k SkippedKey) HasKID(kid string) bool { return kid != "" && k.KID == clip(kid) }

// add copies kid and reason: a part of the document would keep all of it in memory.
func (s *Skipped) add(index int, kid, reason string) {
	s.Count++
	if len(s.Keys) < maxSkipped {
		s.Keys = append(s.Keys, SkippedKey{index, strings.Clone(clip(kid)), strings.Clone(reason)})
	}
}
