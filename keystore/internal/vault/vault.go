// Package vault seals small secrets under the data key of a store, or under its master key.
package vault

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
	"sync/atomic"

	"keymill/storage"
)

// A sealed record is
//
//	version (1) ‖ salt (32) ‖ commitment (32) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// HKDF-SHA256(key, salt) gives an AES-256 key for this record only, so the number of records
// is not limited. It also gives the commitment. Without that, an attacker could make a record
// that opens under two keys.
const (
	sealVersion   = 1
	saltBytes     = 32
	commitBytes   = 32
	sealHeader    = 1 + saltBytes + commitBytes
	sealPurpose   = "keymill seal v1"
	maxPlainBytes = 32 << 10
)

// ErrSealed means that a record does not open. It does not say what failed, because a wrong key and a changed record cannot be
// told apart.
var ErrSealed = errors.New("the sealed record does not open: the key is wrong, or the record was changed, moved or copied from another store")

const keyBytes = 32

// A Vault seals small secrets under the data key of one store. A record opens only in the
// database and under the storage key that it was sealed for.
type Vault struct {
	keys     atomic.Pointer[[]dataKey] // the one that seals, and perhaps the one before it
	database string
}

type dataKey = [keyBytes]byte

// New returns the Vault of a key in one database.
func New(key [keyBytes]byte, database string) *Vault {
	v := &Vault{database: database}
	v.keys.Store(&[]dataKey{key})
	return v
}

// Rekey seals with another key from now on. Records of the key before it still open: a caller can have read one just before
// another server changed the data key of the store.
func (v *Vault) Rekey(key [keyBytes]byte) {
	if now := *v.keys.Load(); now[0] != key {
		v.keys.Store(&[]dataKey{key, now[0]})
	}
}

func (v *Vault) current() dataKey { return (*v.keys.Load())[0] }

// Derive returns a key for one purpose in the database (HKDF-SHA256, RFC 5869).
func (v *Vault) Derive(purpose string) ([]byte, error) {
	key := v.current()
	return hkdf.Key(sha256.New, key[:], []byte(v.database), purpose, keyBytes)
}

// String keeps the key out of logs and errors.
func (*Vault) String() string { return "[vault]" }

// GoString does the same for %#v.
func (*Vault) GoString() string { return "[vault]" }

// Seal returns the record to store under storageKey. plain has at most 32 KiB.
func (v *Vault) Seal(storageKey string, plain []byte) ([]byte, error) {
	if len(plain) > maxPlainBytes {
		return nil, fmt.Errorf("seal %s: the secret has %d bytes, at most %d are allowed", storageKey, len(plain), maxPlainBytes)
	}
	out := make([]byte, sealHeader, sealHeader+len(plain)+64)
	out[0] = sealVersion
	salt := out[1 : 1+saltBytes]
	rand.Read(salt)
	aead, commitment, err := derive(v.current(), salt)
	if err != nil {
		return nil, err
	}
	copy(out[1+saltBytes:], commitment)
	return aead.Seal(out, nil, plain, v.additionalData(storageKey)), nil
}

// Open returns the secret that Seal has sealed for storageKey. For any other record it
// returns only an error.
func (v *Vault) Open(storageKey string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealHeader || sealed[0] != sealVersion {
		return nil, fmt.Errorf("open %s: %w", storageKey, ErrSealed)
	}
	for _, key := range *v.keys.Load() {
		aead, commitment, err := derive(key, sealed[1:1+saltBytes])
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(commitment, sealed[1+saltBytes:sealHeader]) != 1 {
			continue
		}
		plain, err := aead.Open(nil, nil, sealed[sealHeader:], v.additionalData(storageKey))
		if err != nil {
			break
		}
		return plain, nil
	}
	return nil, fmt.Errorf("open %s: %w", storageKey, ErrSealed)
}

// derive returns the cipher of one record and its commitment. The key is used once, so a
// constant nonce would be safe. It is random because FIPS 140 requires that the library
// chooses the nonce.
func derive(key dataKey, salt []byte) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, key[:], salt, sealPurpose, keyBytes+commitBytes)
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

// additionalData binds a record to its database, storage key and schema. Each part has its
// length before it, so two different places never give the same bytes.
func (v *Vault) additionalData(storageKey string) []byte {
	var out []byte
	for _, part := range []string{v.database, storageKey, fmt.Sprint(storage.Schema)} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part)))
		out = append(out, part...)
	}
	return out
}
