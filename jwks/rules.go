package jwks

import (
	"math"

	"keymill/jwks/internal/strictjson"
)

// How many levels deep a JSON text may nest. The claims of Keymill need 3. A document of keys
// may contain members that are never read, and its length bounds it already.
const (
	maxDepth         = 16
	maxDocumentDepth = 10_000 // the limit of encoding/json
)

// Parse decides about each key on its own, so documentRules allow anything below the top level
// of a document: a fault in one key must not cost the others. A token is accepted or refused
// as a whole, so strictRules apply to all of it. A header is read before the signature is
// verified, so headerRules also bound its cost.
var (
	documentRules = strictjson.Rules{Depth: maxDocumentDepth, Members: math.MaxInt}
	strictRules   = strictjson.Rules{Depth: maxDepth, Members: math.MaxInt, Strict: true}
	headerRules   = strictjson.Rules{Depth: maxDepth, Members: 64, Strict: true}
)

// parseObject reads b as one object without repeated names at its top level. Below that it
// checks only the grammar, so that Parse can decide about each key on its own.
func parseObject(b []byte) (strictjson.Object, error) {
	return strictjson.Read(string(b), documentRules)
}
