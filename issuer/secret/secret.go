// Package secret makes and compares the secrets of clients.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
)

// New returns 256 random bits. The prefix lets scanners of source code and logs recognise a
// secret.
func New() refusal.Secret {
	b := make([]byte, 32)
	rand.Read(b)
	return refusal.Secret("kms_" + base64.RawURLEncoding.EncodeToString(b))
}

// A Record is what the store has of a secret. Secrets are random, so one SHA-256 is enough: a
// slow hash protects secrets that can be guessed.
type Record struct {
	Hash  []byte    `json:"sha256"`
	Until time.Time `json:"until,omitzero"` // zero for the newest, which does not expire
}

// RecordOf returns the record of a secret that does not expire.
func RecordOf(s refusal.Secret) Record {
	sum := sha256.Sum256([]byte(s))
	return Record{Hash: sum[:]}
}

// Max is how many secrets a client has at most: the newest and the one before.
const Max = 2

// Match reports whether shown is a valid secret of list. It does the same work for every list,
// also an empty one, so that the time does not tell an unknown client from a wrong secret.
func Match(list []Record, shown refusal.Secret, now time.Time) bool {
	var room [64]byte // more than a secret of ours has, so that the usual one costs no allocation
	sum := sha256.Sum256(append(room[:0], shown...))
	var none [sha256.Size]byte
	found := 0
	for n := range Max {
		hash, valid := none[:], 0
		if n < len(list) && (list[n].Until.IsZero() || now.Before(list[n].Until)) {
			hash, valid = list[n].Hash, 1
		}
		found |= valid & subtle.ConstantTimeCompare(hash, sum[:])
	}
	return found == 1
}

// Version returns a text that differs for other secrets, and tells nothing about them.
func Version(list []Record) string {
	if len(list) == 0 {
		return ""
	}
	sum := sha256.Sum256(list[0].Hash)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// Possible reports whether this program can have written the list: the newest secret, which does not
// expire, and perhaps the one before, which does.
func Possible(list []Record) bool {
	for n, r := range list {
		if len(r.Hash) != sha256.Size || n == 0 && !r.Until.IsZero() || n > 0 && !record.PossibleSecond(r.Until) {
			return false
		}
	}
	return len(list) <= Max
}
