package issuer

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/keystore"
)

// An ownKeySet is the set of our own public keys. It is built again when the keys have changed.
type ownKeySet struct {
	mu   sync.Mutex
	kids []string // of set; owned by mu, as is set
	set  *jwks.Set
}

func (o *ownKeySet) get(keys []keystore.PublicKey) (*jwks.Set, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	same := len(keys) == len(o.kids) && o.set != nil
	for n := 0; same && n < len(keys); n++ {
		same = keys[n].KID == o.kids[n]
	}
	if same {
		return o.set, nil
	}
	var all []jwks.Key
	var kids []string
	for _, k := range keys {
		all, kids = append(all, jwks.Key{KID: k.KID, Alg: k.Alg, Public: k.Public}), append(kids, k.KID)
	}
	set, err := o.set.Replace(all...)
	if err == nil {
		o.set, o.kids = set, kids
	}
	return set, err
}

var errNotAccess = refusal.Because("invalid_token", "not a valid access token of this server")

// verifyOwn verifies an access token of this server for any audience. errNotAccess means that it is
// not valid; any other error is a fault. The audience is read before the signature is checked and
// is used only afterwards.
func (i *Issuer) verifyOwn(token refusal.Secret) (*jwks.Claims, error) {
	audience := claimedAudience(string(token))
	if audience == "" {
		return nil, errNotAccess
	}
	set, err := i.ownKeys.get(i.keys.Published())
	if err != nil {
		return nil, err
	}
	claims, err := jwks.Check(string(token), set, jwks.Expectation{
		Issuer: i.url, Audience: audience, Algorithms: []string{jwks.RS256, jwks.EdDSA},
	}, i.keys.WallTime())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotAccess, err)
	}
	return claims, nil
}

const maxAccessTokenBytes = 16 << 10

func claimedAudience(token string) string {
	if len(token) > maxAccessTokenBytes {
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
