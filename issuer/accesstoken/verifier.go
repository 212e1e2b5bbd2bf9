package accesstoken

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
)

// A Verifier verifies access tokens of one issuer for any audience. It is safe for concurrent use.
type Verifier struct {
	issuer string

	mu   sync.Mutex
	kids []string // of set; owned by mu, as is set
	set  *jwks.Set
}

// NewVerifier returns a Verifier for tokens of the issuer.
func NewVerifier(issuer string) *Verifier { return &Verifier{issuer: issuer} }

// ErrInvalid is the error for a token that is not one of this server.
var ErrInvalid = refusal.Because("invalid_token", "not a valid access token of this server")

// Verify returns what the token says, if one of the keys has signed it, it is valid at the wall time now
// and its claims keep the rules of this package. ErrInvalid means that it is not valid; any other error is
// a fault. The audience is read before the signature is checked and is used only afterwards.
func (v *Verifier) Verify(token string, keys []keystore.PublicKey, now time.Time) (*Token, error) {
	audience := claimedAudience(token)
	if audience == "" {
		return nil, ErrInvalid
	}
	set, err := v.setOf(keys)
	if err != nil {
		return nil, err
	}
	claims, err := jwks.Check(token, set, jwks.Expectation{
		Issuer: v.issuer, Audience: audience, Algorithms: jwks.Algorithms(),
		Type: jwks.TypeAccessToken, OldType: jwks.TypeJWT,
	}, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	out, err := read(claims, audience)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return out, nil
}

// setOf returns the set of the keys. It is built again when they have changed.
func (v *Verifier) setOf(keys []keystore.PublicKey) (*jwks.Set, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	same := len(keys) == len(v.kids) && v.set != nil
	for n := 0; same && n < len(keys); n++ {
		same = keys[n].KID == v.kids[n]
	}
	if same {
		return v.set, nil
	}
	var all []jwks.Key
	var kids []string
	for _, k := range keys {
		all, kids = append(all, jwks.Key{KID: k.KID, Alg: k.Alg, Public: k.Public}), append(kids, k.KID)
	}
	set, err := v.set.Replace(all...)
	if err == nil {
		v.set, v.kids = set, kids
	}
	return set, err
}

const maxBytes = 16 << 10

// claimedAudience returns aud if it is one string, else "".
func claimedAudience(token string) string {
	if len(token) > maxBytes {
		return ""
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var claims map[string]json.RawMessage // a struct would also match "AUD"
	var audience string
	if json.Unmarshal(raw, &claims) != nil || json.Unmarshal(claims["aud"], &audience) != nil {
		return ""
	}
	return audience
}
