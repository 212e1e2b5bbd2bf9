package verifiers

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"strings"

	"keymill/issuer/refusal"
)

const (
	secretBytes = 32
	tagBytes    = 10
	tagChars    = tagBytes * 8 / 5
	tagPurpose  = "keymill verifier v1"

	maxNameBytes  = 63
	maxCredential = maxNameBytes + 1 + tagChars
)

// tagEncoding is base32 (RFC 4648, section 6) in lower case. Ten bytes fill 16 characters without a rest,
// so each tag has only one spelling.
var tagEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// A tag is the second half of a credential, as text.
type tag [tagChars]byte

// equal compares in constant time.
func (t tag) equal(text string) bool {
	if len(text) != tagChars {
		return false
	}
	var other tag
	copy(other[:], text)
	return subtle.ConstantTimeCompare(t[:], other[:]) == 1
}

// A tagger makes tags. It is a function, because fmt would print any other type.
type tagger func(name string) tag

func newTagger(secret []byte, database string) *tagger {
	t := tagger(func(name string) (out tag) {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(tagPurpose))
		m.Write([]byte(database)) // always 32 characters, so no length is needed
		m.Write([]byte(name))
		tagEncoding.Encode(out[:], m.Sum(nil)[:tagBytes])
		return out
	})
	return &t
}

func newSecret() []byte {
	secret := make([]byte, secretBytes)
	rand.Read(secret)
	return secret
}

// splitCredential splits a credential without looking at its tag.
func splitCredential(s string) (name, tag string, ok bool) {
	if len(s) > maxCredential {
		return "", "", false
	}
	return strings.Cut(s, ".")
}

// checkName refuses what is not the name of a verifier.
func checkName(name string) error {
	if !validName(name) {
		return refusal.New("invalid_request",
			"the name of a verifier is 1 to 63 of a-z, 0-9, '-' and '_', and begins with a letter or a digit; '%s' is not one", refusal.Quoted(cut(name, 100)))
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > maxNameBytes || name[0] == '-' || name[0] == '_' {
		return false
	}
	for n := range len(name) {
		c := name[n]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func cut(s string, most int) string { return s[:min(len(s), most)] }
