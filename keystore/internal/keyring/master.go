package keyring

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"keymill/keystore/randomness"
)

const keyBytes = 32

// A MasterKey seals the data key of a store. Printing it does not show the secret.
//
// During a change of the master key of a store that several servers use, each server has both keys: the second
// one opens the store as well, and seals it again if it opened it.
type MasterKey struct{ secret, second [keyBytes]byte } // second is zero if there is none

// each returns every key on its own.
func (k MasterKey) each() []MasterKey {
	if k.second == [keyBytes]byte{} {
		return []MasterKey{k}
	}
	return []MasterKey{{secret: k.secret}, {secret: k.second}}
}

// NewMasterKey makes a random key. It also returns the line of text (base64) to keep in a
// file.
func NewMasterKey() (MasterKey, []byte) {
	var k MasterKey
	rand.Read(k.secret[:])
	return k, append(base64.StdEncoding.AppendEncode(nil, k.secret[:]), '\n')
}

// A WeakKeyError refuses a master key that was not drawn at random.
type WeakKeyError struct{ Reason string }

// Error says why, without quoting the key.
func (e *WeakKeyError) Error() string {
	return "the master key was not drawn at random: " + e.Reason
}

// ParseMasterKey reads 32 bytes: raw, or as hex or base64 with white space around. Two lines of hex or base64 are two
// keys, during a change of the master key. Its error never quotes the input. If it is a *WeakKeyError, the key is returned too. It must be used for
// nothing but to give a store that is sealed under it another key.
func ParseMasterKey(b []byte) (MasterKey, error) {
	one, two, both := strings.Cut(strings.TrimSpace(string(b)), "\n")
	if len(b) == keyBytes || !both {
		return parseOne(b)
	}
	k, err := parseOne([]byte(one))
	second, secondErr := parseOne([]byte(two))
	k.second = second.secret
	return k, cmp.Or(err, secondErr)
}

func parseOne(b []byte) (MasterKey, error) {
	var k MasterKey
	text := string(bytes.TrimSpace(b))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString,
		base64.StdEncoding.DecodeString,
		base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString,
		base64.RawURLEncoding.DecodeString,
	} {
		if raw, err := decode(text); err == nil && len(raw) == keyBytes {
			copy(k.secret[:], raw)
			return k, k.check(false)
		}
	}
	if len(b) != keyBytes {
		return k, errors.New("a master key is 32 random bytes: raw, or as hex or base64")
	}
	copy(k.secret[:], b)
	return k, k.check(true)
}

func (k MasterKey) check(raw bool) error {
	if fault := randomness.Fault(k.secret, raw); fault != "" {
		return &WeakKeyError{fault}
	}
	return nil
}

// String keeps the key out of logs and errors.
func (MasterKey) String() string { return "[master key]" }

// GoString does the same for %#v.
func (MasterKey) GoString() string { return "[master key]" }

// MarshalJSON does the same for JSON.
func (MasterKey) MarshalJSON() ([]byte, error) { return []byte(`"[master key]"`), nil }
