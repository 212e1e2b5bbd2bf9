package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"

	"keymill/issuer/refusal"
)

// newSecret returns 256 random bits. The prefix lets scanners of source code and logs recognise a
// secret.
func newSecret() refusal.Secret {
	b := make([]byte, 32)
	rand.Read(b)
	return refusal.Secret("kms_" + base64.RawURLEncoding.EncodeToString(b))
}

// A secretRecord is what the store has of a secret. Secrets are random, so one SHA-256 is enough: a
// slow hash protects secrets that can be guessed.
type secretRecord struct {
	Hash  []byte    `json:"sha256"`
	Until time.Time `json:"until,omitzero"` // zero for the newest, which does not expire
}

func recordSecret(s refusal.Secret) secretRecord {
	sum := sha256.Sum256([]byte(s))
	return secretRecord{Hash: sum[:]}
}

const maxSecrets = 2

// matchSecret reports whether shown is a valid secret of list. It does the same work for every list,
// also an empty one, so that the time does not tell an unknown client from a wrong secret.
func matchSecret(list []secretRecord, shown refusal.Secret, now time.Time) bool {
	sum := sha256.Sum256([]byte(shown))
	var none [sha256.Size]byte
	found := 0
	for n := range maxSecrets {
		hash, valid := none[:], 0
		if n < len(list) && (list[n].Until.IsZero() || now.Before(list[n].Until)) {
			hash, valid = list[n].Hash, 1
		}
		found |= valid & subtle.ConstantTimeCompare(hash, sum[:])
	}
	return found == 1
}
