package jwks

import (
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxDocumentBytes bounds a key set and a discovery document, before parsing.
const maxDocumentBytes = 256 << 10

// secretMembers may stand in no published key (RFC 7518, sections 6.2.2, 6.3.2 and
// 6.4). Whoever publishes one has given the key away, so it is trusted no more.
var secretMembers = [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// Parse reads a key set of at most 256 KiB. It judges key by key: what it does not
// understand (another kty, curve, algorithm or use), what is weak, and what holds a
// private member is left out, and Skipped says why. A kid that two members claim
// is left out as well, both of them, since nobody can say whose tokens it names.
// Only a document that is no key set at all is an error.
//
// A key without alg gets the one that its type has here: RS256 or EdDSA.
func Parse(b []byte) (*Set, error) {
	if len(b) > maxDocumentBytes {
		return nil, fmt.Errorf("parse key set: over %d bytes", maxDocumentBytes)
	}
	document, err := parseObject(b)
	if err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	var members []json.RawMessage
	if list := document["keys"]; len(list) == 0 || list[0] != '[' || json.Unmarshal(list, &members) != nil {
		return nil, errors.New(`parse key set: no array "keys"`)
	}
	keys, skipped := readMembers(members)
	set, err := NewSet(keys...)
	if err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	set.skipped = skipped
	return set, nil
}

func readMembers(members []json.RawMessage) (keys []Key, skipped []string) {
	claims := map[string]int{} // kid → how many members claim it, good or bad
	for i, raw := range members {
		key, err := readKey(raw)
		if key.KID != "" {
			claims[key.KID]++
		}
		if err != nil {
			skipped = append(skipped, fmt.Sprintf("key %d (kid %q): %v", i, clip(key.KID), err))
			continue
		}
		keys = append(keys, key)
	}
	unclear := func(k Key) bool { return claims[k.KID] > 1 }
	for _, k := range keys {
		if unclear(k) {
			skipped = append(skipped, fmt.Sprintf("kid %q: several keys claim it", clip(k.KID)))
		}
	}
	return slices.DeleteFunc(keys, unclear), skipped
}

// readKey reads one member of "keys". With an error it still returns the kid, if
// there is one to read.
func readKey(raw json.RawMessage) (Key, error) {
	member, err := parseObject(raw)
	if err != nil {
		return Key{}, err
	}
	kid, err := member.text("kid")
	if err != nil {
		return Key{}, err
	}
	key := Key{KID: kid}
	if err := forVerifying(member); err != nil {
		return key, err
	}
	kty, err := member.text("kty")
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
	default:
		return key, fmt.Errorf("kty %q is not supported", clip(kty))
	}
	if err != nil {
		return key, err
	}
	alg, err := member.text("alg")
	if err != nil {
		return key, err
	}
	if _, given := member["alg"]; given {
		key.Alg = canonicalAlg(alg)
	}
	return key, key.check()
}

// forVerifying refuses a key that was not published to verify signatures (RFC 7517,
// sections 4.2 and 4.3), or that should not have been published at all.
func forVerifying(member object) error {
	for _, name := range secretMembers {
		if _, present := member[name]; present {
			return fmt.Errorf("it holds the secret member %q", name)
		}
	}
	use, err := member.text("use")
	if err != nil {
		return err
	}
	if _, given := member["use"]; given && use != "sig" {
		return fmt.Errorf("use is %q, not sig", clip(use))
	}
	if operations, given := member["key_ops"]; given {
		names, err := asTexts(operations)
		if err != nil || operations[0] != '[' || !slices.Contains(names, "verify") {
			return errors.New("key_ops does not list verify")
		}
	}
	return nil
}

// readRSA reads n and e (RFC 7518, section 6.3.1). The length is checked before the
// number is built.
func readRSA(member object) (*rsa.PublicKey, error) {
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
func readEd25519(member object) (ed25519.PublicKey, error) {
	curve, err := member.text("crv")
	if err != nil {
		return nil, err
	}
	if curve != "Ed25519" {
		return nil, fmt.Errorf("crv %q is not supported", clip(curve))
	}
	if _, present := member["y"]; present {
		return nil, errors.New("an Ed25519 key has no y")
	}
	return readBytes(member, "x", ed25519.PublicKeySize)
}

// readBytes reads a base64url member of 1 to most octets.
func readBytes(member object, name string, most int) ([]byte, error) {
	s, err := member.text(name)
	if err != nil {
		return nil, err
	}
	if s == "" || len(s) > (most*4+2)/3 {
		return nil, fmt.Errorf("%s must have 1 to %d octets", name, most)
	}
	b, err := decodeSegment(s)
	if err != nil {
		return nil, fmt.Errorf("%s is %w", name, err)
	}
	return b, nil
}
