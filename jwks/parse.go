package jwks

import (
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxDocumentBytes bounds a key set and a discovery document, before parsing.
const maxDocumentBytes = 256 << 10

// maxSkipped bounds what Skipped says. A document has room for 87,000 members that are
// nothing, and a line for each would take twenty times its memory.
const maxSkipped = 20

// secretMembers may stand in no published key (RFC 7518, sections 6.2.2, 6.3.2 and
// 6.4). Whoever publishes one has given the key away, so it is trusted no more.
var secretMembers = [...]string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"}

// Parse reads a key set of at most 256 KiB. It judges key by key: what it does not
// understand (another kty, curve, algorithm or use), what is weak, and what holds a
// private member is left out, and Skipped says why. A kid that two members claim
// is left out as well, both of them, since nobody can say whose tokens it names.
// Skipped has 20 lines at most, and then one that counts the rest. Only a document that
// is no key set at all is an error.
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
	list, _ := document.get("keys")
	if list == "" || list[0] != '[' {
		return nil, errors.New(`parse key set: no array "keys"`)
	}
	keys, skipped := readMembers(list)
	set, err := NewSet(keys...)
	if err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	set.skipped = skipped
	return set, nil
}

// readMembers reads the array of keys, whose grammar was checked.
func readMembers(list string) ([]Key, []string) {
	var keys []Key
	var out leftOut
	claims := map[string]int{} // kid → how many members claim it, good or bad
	i := -1
	scanArray(list, func(raw string) error {
		i++
		key, err := readKey(raw)
		if key.KID != "" {
			claims[key.KID]++
		}
		if err != nil {
			out.add("key %d (kid %q): %v", i, clip(key.KID), err)
			return nil
		}
		keys = append(keys, key)
		return nil
	})
	unclear := func(k Key) bool { return claims[k.KID] > 1 }
	for _, k := range keys {
		if unclear(k) {
			out.add("kid %q: several keys claim it", clip(k.KID))
		}
	}
	return slices.DeleteFunc(keys, unclear), out.list()
}

// leftOut collects the lines of Skipped.
type leftOut struct {
	lines []string
	more  int
}

func (o *leftOut) add(format string, args ...any) {
	if len(o.lines) == maxSkipped {
		o.more++
		return
	}
	o.lines = append(o.lines, fmt.Sprintf(format, args...))
}

func (o *leftOut) list() []string {
	if o.more == 0 {
		return o.lines
	}
	return append(o.lines, fmt.Sprintf("… and %d more", o.more))
}

// readKey reads one member of "keys". With an error it still returns the kid, if
// there is one to read.
func readKey(raw string) (Key, error) {
	member, err := readObject(raw, strictRules)
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
	if _, given := member.get("alg"); given {
		key.Alg = canonicalAlg(alg)
	}
	return key, key.check()
}

// forVerifying refuses a key that was not published to verify signatures (RFC 7517,
// sections 4.2 and 4.3), or that should not have been published at all.
func forVerifying(member object) error {
	for _, name := range secretMembers {
		if _, given := member.get(name); given {
			return fmt.Errorf("it holds the secret member %q", name)
		}
	}
	use, err := member.text("use")
	if err != nil {
		return err
	}
	if _, given := member.get("use"); given && use != "sig" {
		return fmt.Errorf("use is %q, not sig", clip(use))
	}
	if operations, given := member.get("key_ops"); given {
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
	if _, given := member.get("y"); given {
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
	b, err := decodeSegment(s, nil)
	if err != nil {
		return nil, fmt.Errorf("%s is %w", name, err)
	}
	return b, nil
}
