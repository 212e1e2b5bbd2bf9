package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"keymill/storage"
)

// A sealed record is
//
//	version (1) ‖ salt (32) ‖ commitment (32) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// where HKDF-SHA256(key, salt) gives an AES-256 key of its own and the commitment, so
// that no bound on the number of records exists and nobody can make one record that
// opens under two keys.
const (
	sealVersion   = 1
	saltBytes     = 32
	commitBytes   = 32
	sealHeader    = 1 + saltBytes + commitBytes
	sealPurpose   = "keymill seal v1"
	maxPlainBytes = 32 << 10
)

// errSealed hides what failed: a wrong key and a changed record look alike.
var errSealed = errors.New("sealed record does not open: wrong key, or changed, moved or foreign")

// A Vault seals small secrets under the data key of one store. A record opens only in
// the database and under the storage key that it was sealed for.
type Vault struct {
	key      [keyBytes]byte
	database string
}

// String keeps the key out of logs and errors.
func (*Vault) String() string { return "[vault]" }

// GoString does the same for %#v.
func (*Vault) GoString() string { return "[vault]" }

// Seal returns the record to store under storageKey; plain is at most 32 KiB.
func (v *Vault) Seal(storageKey string, plain []byte) ([]byte, error) {
	if len(plain) > maxPlainBytes {
		return nil, fmt.Errorf("seal %s: over %d bytes", storageKey, maxPlainBytes)
	}
	out := make([]byte, sealHeader, sealHeader+len(plain)+64)
	out[0] = sealVersion
	salt := out[1 : 1+saltBytes]
	rand.Read(salt)
	aead, commitment, err := v.derive(salt)
	if err != nil {
		return nil, err
	}
	copy(out[1+saltBytes:], commitment)
	return aead.Seal(out, nil, plain, v.additional(storageKey)), nil
}

// Open returns what Seal was given for storageKey. Any other record fails closed.
func (v *Vault) Open(storageKey string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return nil, fmt.Errorf("open %s: %w", storageKey, errSealed)
	}
	aead, commitment, err := v.derive(sealed[1 : 1+saltBytes])
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(commitment, sealed[1+saltBytes:sealHeader]) != 1 {
		return nil, fmt.Errorf("open %s: %w", storageKey, errSealed)
	}
	plain, err := aead.Open(nil, nil, sealed[sealHeader:], v.additional(storageKey))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", storageKey, errSealed)
	}
	return plain, nil
}

// derive gives the record's own cipher and its commitment. The nonce is random and the
// key is used once, so either alone would do; FIPS 140 wants the library to choose it.
func (v *Vault) derive(salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, v.key[:], salt, sealPurpose, keyBytes+commitBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("derive record key: %w", err)
	}
	block, err := aes.NewCipher(okm[:keyBytes])
	if err != nil {
		return nil, nil, fmt.Errorf("derive record key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return aead, okm[keyBytes:], err
}

// additional binds a record to its place. Each part carries its length, so that no two
// places read alike.
func (v *Vault) additional(storageKey string) []byte {
	var out []byte
	for _, part := range []string{v.database, storageKey, fmt.Sprint(storage.Schema)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}
