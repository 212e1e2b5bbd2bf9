// Package refreshtoken writes and reads refresh tokens. It knows nothing about sessions: package issuer decides
// what a token is worth.
//
//	refresh/secret/<number>   a key of MACs, sealed; the newest makes them, all of them check
package refreshtoken

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"keymill/issuer/address"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
)

// A refresh token is "kmr_" and base64url of
//
//	version (1) ‖ secret number (1) ‖ family (16) ‖ generation (4) ‖ MAC (23)
//
// which is 60 characters without unused bits, so that every token has only one spelling. The MAC
// covers the id of the database and all bytes before the MAC. So a forged token is refused without
// reading the store, and tokens need not be stored.
const (
	Prefix      = "kmr_"
	version     = 1
	headerBytes = 1 + 1 + record.IDBytes + 4
	macBytes    = 23
	tokenBytes  = headerBytes + macBytes
	Chars       = len(Prefix) + tokenBytes/3*4
	purpose     = "keymill refresh v1"
)

// Why a refresh token is not ours.
var (
	ErrMalformed = refusal.Because("malformed", "it does not have the form of a refresh token")
	ErrForged    = refusal.Because("forged", "the MAC of the refresh token is wrong")
)

// A Token is the content of a refresh token.
type Token struct {
	Secret     byte // number of the secret of its MAC
	Family     record.ID
	Generation uint32
}

// Secrets are the keys of the MACs of one store. The newest makes MACs, all of them check. They do not change
// while the server runs.
type Secrets struct {
	database  string
	label     []byte // that the MAC of a token begins with
	newest    byte
	keys      map[byte]macFunc
	addresses func() hash.Hash // of the addresses where users have logged in; from the newest secret
}

// A macFunc appends the MAC of the parts to b. It is a function, because fmt would print any other
// type.
type macFunc func(b []byte, parts ...[]byte) []byte

// newMAC returns the MAC of one secret. Making an HMAC costs several hashes; using one again costs none.
func newMAC(secret []byte) macFunc {
	made := &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}
	return func(b []byte, parts ...[]byte) []byte {
		h := made.Get().(hash.Hash)
		defer made.Put(h)
		h.Reset()
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(b)
	}
}

func newSecrets(database string) *Secrets {
	return &Secrets{database: database, label: []byte(purpose + database), keys: map[byte]macFunc{}}
}

// Encode returns the refresh token t as text. t.Secret must exist: it is newest, or comes from
// Decode.
func (s *Secrets) Encode(t Token) refusal.Secret {
	b := make([]byte, headerBytes, headerBytes+sha256.Size)
	b[0], b[1] = version, t.Secret
	copy(b[2:], t.Family[:])
	binary.BigEndian.PutUint32(b[2+record.IDBytes:], t.Generation)
	b = s.keys[t.Secret](b, s.label, b)[:tokenBytes]
	return refusal.Secret(Prefix + base64.RawURLEncoding.EncodeToString(b))
}

// Decode returns the content of a refresh token of this store.
func (s *Secrets) Decode(text refusal.Secret) (Token, error) {
	var t Token
	encoded, ours := strings.CutPrefix(string(text), Prefix)
	if !ours || len(text) != Chars {
		return t, ErrMalformed
	}
	var b [tokenBytes]byte
	if n, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(encoded)); err != nil || n != tokenBytes {
		return t, ErrMalformed
	}
	t.Secret = b[1]
	mac := s.keys[t.Secret]
	if b[0] != version || mac == nil {
		return t, ErrForged
	}
	header := b[:headerBytes]
	if subtle.ConstantTimeCompare(mac(nil, s.label, header)[:macBytes], b[headerBytes:]) != 1 {
		return t, ErrForged
	}
	copy(t.Family[:], header[2:])
	t.Generation = binary.BigEndian.Uint32(header[2+record.IDBytes:])
	return t, nil
}

// SecretPrefix begins the key of each secret in the store.
const (
	SecretPrefix = "refresh/secret/"
	secretEnd    = "refresh/secret0" // '0' follows '/'
)

// ParseSecretKey returns the number of the secret that is stored under the key.
func ParseSecretKey(key string) (number byte, ok bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(key, SecretPrefix), 10, 8)
	return byte(n), err == nil && n > 0 && SecretKey(byte(n)) == key
}

// SecretKey returns the key under which a secret is stored.
func SecretKey(number byte) string { return fmt.Sprintf("%s%03d", SecretPrefix, number) }

// Load unseals the secrets of the store with that id. It makes the first one in a new store, and reports that.
func Load(tx storage.Tx, database string, vault *keystore.Vault) (s *Secrets, first bool, err error) {
	s = newSecrets(database)
	for e, err := range tx.Scan(SecretPrefix, secretEnd) {
		if err != nil {
			return nil, false, err
		}
		if err := s.add(e, vault.Open); err != nil {
			return nil, false, err
		}
	}
	if s.newest > 0 {
		return s, false, nil
	}
	return s, true, s.makeFirst(tx, vault)
}

func (s *Secrets) add(e storage.Entry, open func(string, []byte) ([]byte, error)) error {
	number, ok := ParseSecretKey(e.Key)
	if !ok {
		return storage.Damaged(e.Key, "it is not the number of a secret")
	}
	key, err := open(e.Key, e.Value)
	if err != nil {
		return err
	}
	return s.use(number, key)
}

// use adds a secret. If it is the newest, the key of addresses comes from it, with a label of its own:
// these hashes and the MACs of tokens tell nothing about each other.
func (s *Secrets) use(number byte, key []byte) error {
	s.keys[number] = newMAC(key)
	if number < s.newest {
		return nil
	}
	addresses, err := hkdf.Key(sha256.New, key, []byte(s.database), "keymill login address v1", sha256.Size)
	s.newest, s.addresses = number, func() hash.Hash { return hmac.New(sha256.New, addresses) }
	return err
}

// makeFirst makes number 1, of 256 random bits.
func (s *Secrets) makeFirst(tx storage.Tx, vault *keystore.Vault) error {
	key := make([]byte, 32)
	rand.Read(key)
	sealed, err := vault.Seal(SecretKey(1), key)
	if err != nil {
		return err
	}
	return errors.Join(s.use(1, key), tx.Put(SecretKey(1), sealed))
}

// Newest returns the number of the secret that makes MACs.
func (s *Secrets) Newest() byte { return s.newest }

var addressLabel = []byte("keymill address v1")

// Fingerprint returns a short keyed hash of an address. It shows whether two addresses differ, but
// not what they are. An IPv6 subscriber has a /64, so only that part counts.
func (s *Secrets) Fingerprint(from netip.Addr) [4]byte {
	return [4]byte(s.keys[s.newest](nil, addressLabel, address.Subscriber(from).AsSlice()))
}

// HashOfAddresses returns the keyed hash of the addresses where users have logged in.
func (s *Secrets) HashOfAddresses() hash.Hash { return s.addresses() }
