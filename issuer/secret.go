package issuer

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"

	"keymill/issuer/refusal"
)

// newSecret returns 256 random bits. The prefix lets scanners of source code and
// logs recognise what they have found.
func newSecret() refusal.Secret {
	b := make([]byte, 32)
	rand.Read(b)
	return refusal.Secret("kms_" + base64.RawURLEncoding.EncodeToString(b))
}

// A secretRecord is what is kept of a secret. Secrets are ours and random, so that
// one SHA-256 is enough: there is nothing to guess that a slow hash would protect.
type secretRecord struct {
	Hash  []byte    `json:"sha256"`
	Until time.Time `json:"until,omitzero"` // the newest lives without end
}

func recordSecret(s refusal.Secret) secretRecord {
	sum := sha256.Sum256([]byte(s))
	return secretRecord{Hash: sum[:]}
}

const liveSecrets = 2

// matchSecret tells whether shown is one of the live secrets of list. It does the same
// work whatever the list holds, also none, so that time does not tell an unknown
// client from a wrong secret.
func matchSecret(list []secretRecord, shown refusal.Secret, now time.Time) bool {
	sum := sha256.Sum256([]byte(shown))
	var nobody [sha256.Size]byte
	found := 0
	for n := range liveSecrets {
		hash, live := nobody[:], 0
		if n < len(list) && (list[n].Until.IsZero() || now.Before(list[n].Until)) {
			hash, live = list[n].Hash, 1
		}
		found |= live & subtle.ConstantTimeCompare(hash, sum[:])
	}
	return found == 1
}
