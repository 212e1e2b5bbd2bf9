// Package refreshtoken writes and reads refresh tokens. It knows nothing about sessions: package issuer decides
// what a token is worth.
//
//	refresh/secret/<number>   a key of MACs, sealed; the newest makes them, all of them check
//
// The servers that share a store read all secrets, and a new one is used only some time after it was stored:
//
//	Publish ──▶ every server reads it within 10 s ── 5 min ──▶ it makes MACs ──▶ the next one does, and it checks
package refreshtoken

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"strings"
	"sync"

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

// IsInvalid reports whether an error of Decode is about the token. Any other error is a fault.
func IsInvalid(err error) bool { return errors.Is(err, ErrMalformed) || errors.Is(err, ErrForged) }

// Encode returns the refresh token t as text. It reads the secrets again if t.Secret is not known, because another
// server has made the session's current token with it.
func (s *Secrets) Encode(ctx context.Context, t Token) (refusal.Secret, error) {
	set := s.set.Load()
	if set.keys[t.Secret] == nil {
		if err := s.Reload(ctx); err != nil {
			return "", err
		}
		if set = s.set.Load(); set.keys[t.Secret] == nil {
			return "", storage.Damaged(SecretKey(t.Secret), "it is missing, although a session needs it")
		}
	}
	return set.encode(t), nil
}

func (s *set) encode(t Token) refusal.Secret {
	b := make([]byte, headerBytes, headerBytes+sha256.Size)
	b[0], b[1] = version, t.Secret
	copy(b[2:], t.Family[:])
	binary.BigEndian.PutUint32(b[2+record.IDBytes:], t.Generation)
	b = s.keys[t.Secret].mac(b, s.label, b)[:tokenBytes]
	return refusal.Secret(Prefix + base64.RawURLEncoding.EncodeToString(b))
}

// Decode returns the content of a refresh token of this store. A token with the number of a secret that is not known
// makes it read the secrets again, at most once in 5 s however many such tokens come.
func (s *Secrets) Decode(ctx context.Context, text refusal.Secret) (Token, error) {
	set := s.set.Load()
	t, err := set.decode(text)
	if !errors.Is(err, errUnknown) {
		return t, err
	}
	if err := s.reloadFor(ctx, set); err != nil {
		return t, err
	}
	if t, err = s.set.Load().decode(text); errors.Is(err, errUnknown) {
		err = ErrForged
	}
	return t, err
}

// errUnknown is ErrForged unless another server has published the secret.
var errUnknown = errors.New("the number of the secret is not known")

func (s *set) decode(text refusal.Secret) (Token, error) {
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
	if b[0] != version || t.Secret == 0 {
		return t, ErrForged
	}
	known := s.keys[t.Secret]
	if known == nil {
		return t, errUnknown
	}
	header := b[:headerBytes]
	if subtle.ConstantTimeCompare(known.mac(nil, s.label, header)[:macBytes], b[headerBytes:]) != 1 {
		return t, ErrForged
	}
	copy(t.Family[:], header[2:])
	t.Generation = binary.BigEndian.Uint32(header[2+record.IDBytes:])
	return t, nil
}
