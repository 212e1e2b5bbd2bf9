package keystore

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

const keyBytes = 32

// A MasterKey wraps the data key of a store. It cannot be printed.
type MasterKey struct{ secret [keyBytes]byte }

// NewMasterKey makes a random key and the line of text that a file keeps of it (base64).
func NewMasterKey() (MasterKey, []byte) {
	var k MasterKey
	rand.Read(k.secret[:])
	return k, append(base64.StdEncoding.AppendEncode(nil, k.secret[:]), '\n')
}

// ParseMasterKey reads 32 bytes, raw or as hex or base64 with white space around.
// The error never quotes what was read.
func ParseMasterKey(b []byte) (MasterKey, error) {
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
			return k, k.check()
		}
	}
	if len(b) != keyBytes {
		return k, errors.New("a master key is 32 random bytes, raw or as hex or base64")
	}
	copy(k.secret[:], b)
	return k, k.check()
}

// check refuses the key that a forgotten variable or an empty file full of zeros makes.
func (k MasterKey) check() error {
	if k.secret == [keyBytes]byte{} {
		return errors.New("the master key is all zeros")
	}
	return nil
}

// String keeps the key out of logs and errors.
func (MasterKey) String() string { return "[master key]" }

// GoString does the same for %#v.
func (MasterKey) GoString() string { return "[master key]" }

// MarshalJSON does the same for JSON.
func (MasterKey) MarshalJSON() ([]byte, error) { return []byte(`"[master key]"`), nil }
