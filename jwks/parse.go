package jwks

import (
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"keymill/jwks/internal/strictjson"
)

// maxDocumentBytes bounds a key set and a discovery document. It is checked before parsing.
const maxDocumentBytes = 256 << 10

// maxSkipped bounds the list of skipped keys. A document can contain 87,000 elements that
// are not keys, and a reason for each would take twenty times the memory of the document.
const maxSkipped = 20

// secretMembers must not occur in a published key (RFC 7518, sections 6.2.2, 6.3.2 and 6.4).
// A key that was published with one of them is no longer secret, so it is not trusted.
var secretMembers = [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// Parse reads a key set of at most 256 KiB. It decides about each key on its own: a key that
// it does not understand (another kty, curve, algorithm or use), that is weak, or that has a
// private member is left out, and the other keys are used. If two keys have the same kid,
// both are left out, since a token with that kid may be from either, and if two RSA keys have a
// prime in common, both are left out too. Set.Skipped lists what was left out. Only a document
// that is not a key set at all is an error.
//
// A key without alg gets the one algorithm of its type: RS256, EdDSA or ES256.
//
// Each RSA key costs the time that CheckRSA says. Parse checks as many as take the time of 256 keys
// of 2048 bits, one to two seconds, and leaves out the RSA keys after them.
func Parse(b []byte) (*Set, error) { return parseSet(b, nil) }

// parseSet is Parse with what is known about RSA moduli already.
func parseSet(b []byte, known map[modulusHash]error) (*Set, error) {
	if len(b) > maxDocumentBytes {
		return nil, fmt.Errorf("parse key set: over %d bytes", maxDocumentBytes)
	}
	document, err := parseObject(b)
	if err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	list, _ := document.Get("keys")
	if list == "" || list[0] != '[' {
		return nil, errors.New(`parse key set: no array "keys"`)
	}
	checked := newModuli(known, maxModuliWork)
	keys, skipped := readKeys(list, checked)
	set, err := newSet(keys, checked.results)
	if err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	set.skipped = skipped
	return set, nil
}

// readKeys reads the elements of the array "keys". Its JSON syntax has been checked.
func readKeys(list string, checked *moduli) ([]Key, Skipped) {
	var keys []Key
	var indexes []int // of keys in list
	var skipped Skipped
	count := map[string]int{} // kid → how many elements have it, skipped ones included
	i := -1
	strictjson.ScanArray(list, func(raw string) error {
		i++
		key, err := readKey(raw)
		if key.KID != "" {
			count[key.KID]++
		}
		if err == nil {
			err = checked.check(key)
		}
		if err != nil {
			skipped.add(i, key.KID, err.Error())
			return nil
		}
		keys, indexes = append(keys, key), append(indexes, i)
		return nil
	})
	shared := sharedPrimes(keys)
	refused := func(k Key) bool { return count[k.KID] > 1 || k.sharesPrime(shared) }
	for n, k := range keys {
		switch {
		case count[k.KID] > 1:
			skipped.add(indexes[n], k.KID, "another key has the same kid")
		case refused(k):
			skipped.add(indexes[n], k.KID, errSharedPrime.Error())
		}
	}
	return slices.DeleteFunc(keys, refused), skipped
}

// readKey reads one element of "keys". Together with an error it returns the kid, if it could
// be read.
func readKey(raw string) (Key, error) {
	member, err := strictjson.Read(raw, strictRules)
	if err != nil {
		return Key{}, err
	}
	kid, err := member.Text("kid")
	if err != nil {
		return Key{}, err
	}
	key := Key{KID: kid}
	if err := checkPurpose(member); err != nil {
		return key, err
	}
	kty, err := member.Text("kty")
	if err != nil {
		return key, err
	}
	switch kty {
	case "RSA":
		key.Alg = RS256
		key.Public, err = readRSA(member)
	case "OKP":
		key.Alg = EdDSA
		key.Public, err = readEd25519(member)
	case "EC":
		key.Alg = ES256
		key.Public, err = readP256(member)
	default:
		return key, fmt.Errorf("kty %q is not supported", clip(kty))
	}
	if err != nil {
		return key, err
	}
	alg, err := member.Text("alg")
	if err != nil {
		return key, err
	}
	if _, given := member.Get("alg"); given {
		key.Alg = canonicalAlg(alg)
	}
	return key, key.check()
}

// checkPurpose refuses a key that was not published to verify signatures (RFC 7517, sections
// 4.2 and 4.3), and a key that must not be published at all.
func checkPurpose(member strictjson.Object) error {
	for _, name := range secretMembers {
		if _, given := member.Get(name); given {
			return fmt.Errorf("it holds the secret member %q", name)
		}
	}
	use, err := member.Text("use")
	if err != nil {
		return err
	}
	if _, given := member.Get("use"); given && use != "sig" {
		return fmt.Errorf("use is %q, not sig", clip(use))
	}
	if operations, given := member.Get("key_ops"); given {
		names, err := strictjson.Texts(operations)
		if err != nil || operations[0] != '[' || !slices.Contains(names, "verify") {
			return errors.New("key_ops does not list verify")
		}
	}
	return nil
}

// readRSA reads n and e (RFC 7518, section 6.3.1). It checks their lengths before it builds
// the numbers.
func readRSA(member strictjson.Object) (*rsa.PublicKey, error) {
	n, err := readBytes(member, "n", maxRSABits/8)
	if err != nil {
		return nil, err
	}
	e, err := readBytes(member, "e", 4)
	if err != nil {
		return nil, err
	}
	if n[0] == 0 || e[0] == 0 {
		return nil, errors.New("n or e begins with a zero octet")
	}
	exponent := new(big.Int).SetBytes(e).Int64()
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)}, nil
}

// readEd25519 reads crv and x (RFC 8037, section 2).
func readEd25519(member strictjson.Object) (ed25519.PublicKey, error) {
	curve, err := member.Text("crv")
	if err != nil {
		return nil, err
	}
	if curve != "Ed25519" {
		return nil, fmt.Errorf("crv %q is not supported", clip(curve))
	}
	if _, given := member.Get("y"); given {
		return nil, errors.New("an Ed25519 key has no y")
	}
	return readBytes(member, "x", ed25519.PublicKeySize)
}

// readBytes reads a base64url member of 1 to most octets.
func readBytes(member strictjson.Object, name string, most int) ([]byte, error) {
	s, err := member.Text(name)
	if err != nil {
		return nil, err
	}
	if s == "" || len(s) > (most*4+2)/3 {
		return nil, fmt.Errorf("%s must have 1 to %d octets", name, most)
	}
	b, err := decodeSegment(s, nil)
	if err != nil {
		return nil, fmt.Errorf("%s is %w", name, err)
	}
	return b, nil
}
