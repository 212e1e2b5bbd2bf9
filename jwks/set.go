package jwks

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
)

// A Set is an immutable JSON Web Key Set (RFC 7517, section 5), sorted by kid.
type Set struct {
	keys    []Key
	json    []byte
	etag    string
	skipped Skipped

	moduli map[modulusHash]error // what was found about the RSA moduli of the document
}

// A jwk is the JSON of a key. Its fields are in the order in which they are written.
type jwk struct {
	KeyType  string `json:"kty"`
	KID      string `json:"kid"`
	Use      string `json:"use"`
	Alg      string `json:"alg"`
	Curve    string `json:"crv,omitempty"`
	X        string `json:"x,omitempty"`
	Y        string `json:"y,omitempty"`
	Modulus  string `json:"n,omitempty"`
	Exponent string `json:"e,omitempty"`
}

// NewSet copies keys into a Set. It refuses a kid that is empty or used twice, an algorithm
// that does not fit its key, an RSA key that CheckRSA refuses, an Ed25519 key of small order or
// without canonical encoding, an EC key that is not a point of P-256, and anything that is not a public key. An RSA key costs the time
// that CheckRSA says; use Replace if the keys of a set change.
func NewSet(keys ...Key) (*Set, error) { return (*Set)(nil).Replace(keys...) }

// Replace returns a new set of these keys, as NewSet does. It does not check RSA moduli again that
// s has. s may be nil and does not change.
func (s *Set) Replace(keys ...Key) (*Set, error) {
	var before map[modulusHash]error
	if s != nil {
		before = s.moduli
	}
	checked := newModuli(before, noLimit)
	for _, k := range keys {
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("key %q: %w", clip(k.KID), err)
		}
		if err := checked.check(k); err != nil {
			return nil, fmt.Errorf("key %q: %w", clip(k.KID), err)
		}
	}
	shared := sharedPrimes(keys)
	for _, k := range keys {
		if k.sharesPrime(shared) {
			return nil, fmt.Errorf("key %q: %w", clip(k.KID), errSharedPrime)
		}
	}
	return newSet(keys, checked.results)
}

// newSet makes a set of keys that were checked.
func newSet(keys []Key, moduli map[modulusHash]error) (*Set, error) {
	sorted := make([]Key, 0, len(keys))
	for _, k := range keys {
		sorted = append(sorted, k.clone())
	}
	slices.SortFunc(sorted, func(a, b Key) int { return cmp.Compare(a.KID, b.KID) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].KID == sorted[i-1].KID {
			return nil, fmt.Errorf("key %q: two keys have that kid", clip(sorted[i].KID))
		}
	}
	set, err := seal(sorted)
	if err != nil {
		return nil, err
	}
	set.moduli = moduli
	return set, nil
}

// seal writes the JSON of the set once, so that serving it costs nothing.
func seal(sorted []Key) (*Set, error) {
	document := struct {
		Keys []jwk `json:"keys"`
	}{make([]jwk, 0, len(sorted))}
	for _, k := range sorted {
		document.Keys = append(document.Keys, k.jwk())
	}
	written, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("write key set: %w", err)
	}
	sum := sha256.Sum256(written)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return &Set{keys: sorted, json: written, etag: etag}, nil
}

// jwk returns the JSON of a key that checkPublic accepts.
func (k Key) jwk() jwk {
	out := jwk{KID: k.KID, Use: "sig", Alg: k.Alg}
	switch public := k.Public.(type) {
	case *rsa.PublicKey:
		out.KeyType = "RSA"
		out.Modulus, out.Exponent = rsaMembers(public)
	case ed25519.PublicKey:
		out.KeyType, out.Curve = "OKP", "Ed25519"
		out.X = base64.RawURLEncoding.EncodeToString(public)
	case *ecdsa.PublicKey:
		out.KeyType, out.Curve = "EC", "P-256"
		out.X, out.Y = p256Members(public)
	}
	return out
}

// rsaMembers returns n and e in the fewest octets, as RFC 7518, section 6.3.1, requires.
func rsaMembers(public *rsa.PublicKey) (n, e string) {
	exponent := big.NewInt(int64(public.E)).Bytes()
	return base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		base64.RawURLEncoding.EncodeToString(exponent)
}

// Keys returns the keys, sorted by kid. The caller must not change what they point to.
func (s *Set) Keys() []Key { return slices.Clone(s.keys) }

// Key returns the key with that kid.
func (s *Set) Key(kid string) (Key, bool) {
	i, found := slices.BinarySearchFunc(s.keys, kid, func(k Key, kid string) int {
		return cmp.Compare(k.KID, kid)
	})
	if !found {
		return Key{}, false
	}
	return s.keys[i], true
}

// JSON returns the document that publishes the set.
func (s *Set) JSON() []byte { return bytes.Clone(s.json) }

// ETag returns the strong entity tag of that document (RFC 9110, section 8.8.3): 128 bits of
// its SHA-256, in quotes.
func (s *Set) ETag() string { return s.etag }

// Skipped returns what Parse left out. It is empty for a set that NewSet made.
func (s *Set) Skipped() Skipped {
	return Skipped{Count: s.skipped.Count, Keys: slices.Clone(s.skipped.Keys)}
}
