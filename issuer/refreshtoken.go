package issuer

import (
	"context"
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
	"strconv"
	"strings"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
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
	refreshPrefix  = "kmr_"
	refreshVersion = 1
	refreshHeader  = 1 + 1 + record.IDBytes + 4
	macBytes       = 23
	refreshBytes   = refreshHeader + macBytes
	refreshChars   = len(refreshPrefix) + refreshBytes/3*4
	refreshPurpose = "keymill refresh v1"
)

// Why a refresh token is not ours.
var (
	errNotRefresh = refusal.Because("malformed", "it does not have the form of a refresh token")
	errForged     = refusal.Because("forged", "the MAC of the refresh token is wrong")
)

// A familyID names a session.
type familyID = record.ID

// A refreshToken is the content of a refresh token.
type refreshToken struct {
	secret     byte // number of the secret of its MAC
	family     familyID
	generation uint32
}

// refreshSecrets are the keys of the MACs. The newest makes MACs, all of them check. They do not change
// while the server runs.
type refreshSecrets struct {
	database  string
	newest    byte
	keys      map[byte]macFunc
	addresses macFunc // of the addresses where users have logged in; from the newest secret
}

// A macFunc returns the MAC of one secret. It is a function, because fmt would print any other
// type.
type macFunc func() hash.Hash

func newMAC(secret []byte) macFunc {
	return func() hash.Hash { return hmac.New(sha256.New, secret) }
}

// encode returns the refresh token t as text. t.secret must exist: it is newest, or comes from
// decode.
func (s *refreshSecrets) encode(t refreshToken) refusal.Secret {
	b := make([]byte, refreshHeader, refreshHeader+sha256.Size)
	b[0], b[1] = refreshVersion, t.secret
	copy(b[2:], t.family[:])
	binary.BigEndian.PutUint32(b[2+record.IDBytes:], t.generation)
	b = s.mac(t.secret, b)[:refreshBytes]
	return refusal.Secret(refreshPrefix + base64.RawURLEncoding.EncodeToString(b))
}

// mac appends the MAC of b to b.
func (s *refreshSecrets) mac(secret byte, b []byte) []byte {
	h := s.keys[secret]()
	h.Write([]byte(refreshPurpose))
	h.Write([]byte(s.database))
	h.Write(b)
	return h.Sum(b)
}

// decode returns the content of a refresh token of this store.
func (s *refreshSecrets) decode(text refusal.Secret) (refreshToken, error) {
	var t refreshToken
	encoded, ours := strings.CutPrefix(string(text), refreshPrefix)
	if !ours || len(text) != refreshChars {
		return t, errNotRefresh
	}
	var b [refreshBytes]byte
	if n, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(encoded)); err != nil || n != refreshBytes {
		return t, errNotRefresh
	}
	t.secret = b[1]
	if b[0] != refreshVersion || s.keys[t.secret] == nil {
		return t, errForged
	}
	header := b[:refreshHeader:refreshHeader]
	if subtle.ConstantTimeCompare(s.mac(t.secret, header)[refreshHeader:refreshBytes], b[refreshHeader:]) != 1 {
		return t, errForged
	}
	copy(t.family[:], header[2:])
	t.generation = binary.BigEndian.Uint32(header[2+record.IDBytes:])
	return t, nil
}

const (
	secretPrefix = "refresh/secret/"
	secretEnd    = "refresh/secret0" // '0' follows '/'
)

func parseSecretKey(key string) (number byte, ok bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(key, secretPrefix), 10, 8)
	return byte(n), err == nil && n > 0 && secretKey(byte(n)) == key
}

func secretKey(number byte) string { return fmt.Sprintf("%s%03d", secretPrefix, number) }

// loadRefreshSecrets unseals the secrets of the store, and makes the first one in a new store.
func (i *Issuer) loadRefreshSecrets(ctx context.Context) error {
	var s refreshSecrets
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		s = refreshSecrets{database: i.keys.DatabaseID(), keys: map[byte]macFunc{}}
		for e, err := range tx.Scan(secretPrefix, secretEnd) {
			if err != nil {
				return err
			}
			if err := s.add(e, i.keys.Vault().Open); err != nil {
				return err
			}
		}
		if s.newest > 0 {
			return nil
		}
		return errors.Join(i.makeRefreshSecret(tx, &s), makeStoreEpoch(tx))
	})
	i.refreshSecrets = s
	return err
}

func (s *refreshSecrets) add(e storage.Entry, open func(string, []byte) ([]byte, error)) error {
	number, ok := parseSecretKey(e.Key)
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
func (s *refreshSecrets) use(number byte, key []byte) error {
	s.keys[number] = newMAC(key)
	if number < s.newest {
		return nil
	}
	addresses, err := hkdf.Key(sha256.New, key, []byte(s.database), "keymill login address v1", sha256.Size)
	s.newest, s.addresses = number, newMAC(addresses)
	return err
}

// makeRefreshSecret makes number 1, of 256 random bits.
func (i *Issuer) makeRefreshSecret(tx storage.Tx, s *refreshSecrets) error {
	key := make([]byte, 32)
	rand.Read(key)
	sealed, err := i.keys.Vault().Seal(secretKey(1), key)
	if err != nil {
		return err
	}
	return errors.Join(s.use(1, key), tx.Put(secretKey(1), sealed))
}
