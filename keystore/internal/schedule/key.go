package schedule

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
	"time"

	"keymill/keystore/internal/keytype"
)

// A Stage is a phase of a key's life.
type Stage string

// The stages, in the order of a key's life.
const (
	Reserve  Stage = "reserve"  // durable, not in the published set
	Spare    Stage = "spare"    // published, does not sign yet
	Active   Stage = "active"   // signs
	Retiring Stage = "retiring" // no longer signs, still published for tokens that it has signed
	Gone     Stage = "gone"     // no longer published
)

// Never is the value of an instant that is not determined yet. It is a far year and not the
// zero time, so that comparisons need no special case.
var Never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// A Key is one member of a ring: its public half and the instants of its life. All instants
// are decision times, except that Erase and Drop are compared with the erasure time.
type Key struct {
	KID    string `json:"kid"`
	Alg    string `json:"alg"`
	Public []byte `json:"public"` // SubjectPublicKeyInfo, DER
	// Imported keys keep the kid that their tokens carry. The kid of any other key is its
	// thumbprint (RFC 7638).
	Imported bool `json:"imported,omitempty"`

	Publish time.Time `json:"publish"` // from here on it is in the set
	Ready   time.Time `json:"ready"`   // when caches know the key; Sign is not earlier
	Sign    time.Time `json:"sign"`    // from here on it signs
	Stop    time.Time `json:"stop"`    // from here on it does not sign
	Drop    time.Time `json:"drop"`    // from here on it is not in the set; determined at Stop
	Erase   time.Time `json:"erase"`   // when the private half is erased; determined at Stop

	// MaxLifetime is the longest lifetime of a token that the key can have signed.
	MaxLifetime time.Duration `json:"cap"`
}

// NewKey returns a reserve: none of its instants is determined.
func NewKey(kid, alg string, public []byte, lifetime time.Duration) Key {
	return Key{
		KID: kid, Alg: alg, Public: public, MaxLifetime: lifetime,
		Publish: Never, Ready: Never, Sign: Never, Stop: Never, Drop: Never, Erase: Never,
	}
}

// Check returns an error for a key that this program does not write.
func (k Key) Check(alg string) error {
	if k.Alg != alg || !ValidKID(k.KID) || k.MaxLifetime < 0 {
		return fmt.Errorf("a key of %s has another algorithm, an impossible kid or a negative lifetime", alg)
	}
	for _, t := range []time.Time{k.Publish, k.Ready, k.Sign, k.Stop, k.Drop, k.Erase} {
		if t.Year() < 1980 || t.After(Never) {
			return fmt.Errorf("an instant of the key %s is impossible", k.KID)
		}
	}
	if k.Sign.Before(k.Publish) || k.Drop.Before(k.Stop) {
		return fmt.Errorf("the instants of the key %s contradict each other", k.KID)
	}
	return nil
}

// MaxKIDBytes bounds the kids of imported keys. The keys that we make have thumbprints.
const MaxKIDBytes = 200

// ValidKID reports whether a key can have that kid: visible ASCII without spaces.
func ValidKID(kid string) bool {
	return kid != "" && len(kid) <= MaxKIDBytes && !strings.ContainsFunc(kid, func(c rune) bool { return c <= ' ' || c > '~' })
}

// Belongs checks that the kid and the public half belong together, and so does the private half,
// which may be nil.
func (k Key) Belongs(public crypto.PublicKey, private crypto.Signer) error {
	if !k.Imported {
		if thumb, err := keytype.Thumbprint(public); err != nil || thumb != k.KID {
			return fmt.Errorf("the public half of the key %s has another thumbprint", k.KID)
		}
	}
	if private == nil {
		return nil
	}
	own, err := keytype.MarshalPublic(private.Public())
	if err != nil || !bytes.Equal(own, k.Public) {
		return fmt.Errorf("the halves of the key %s do not belong together", k.KID)
	}
	return nil
}

// Stage returns the stage at the decision time now. It reads no clock and no storage, so
// every node, test and auditor computes the same stage. Bounds are half-open: a key signs
// at Sign and not at Stop.
func (k Key) Stage(now time.Time) Stage {
	switch {
	case now.Before(k.Publish):
		return Reserve
	case now.Before(k.Sign) && now.Before(k.Stop):
		return Spare
	case now.Before(k.Stop):
		return Active
	case now.Before(k.Drop):
		return Retiring
	}
	return Gone
}

// Equal compares all that changes in the life of a key.
func (k Key) Equal(other Key) bool {
	return k.KID == other.KID && k.MaxLifetime == other.MaxLifetime &&
		k.Publish.Equal(other.Publish) && k.Ready.Equal(other.Ready) && k.Sign.Equal(other.Sign) &&
		k.Stop.Equal(other.Stop) && k.Drop.Equal(other.Drop) && k.Erase.Equal(other.Erase)
}

// A NotReadyError refuses a rotation, because some verifiers may not know the next key yet.
type NotReadyError struct {
	Alg string
	At  time.Time // decision time at which the key will be ready; zero while it is being made

	Decided bool // the key signs then: another rotation has decided so
}

// Error says when to try again.
func (e *NotReadyError) Error() string {
	if e.At.IsZero() {
		return fmt.Sprintf("the next %s key is still being made; try again in a moment", e.Alg)
	}
	at := e.At.Add(time.Second - 1).UTC().Format(time.RFC3339) // rounded up, to be true at that second
	if e.Decided {
		return fmt.Sprintf("the next %s key signs at %s, when every server knows it; rotate again after that", e.Alg, at)
	}
	return fmt.Sprintf("the next %s key can sign at %s; until then some services may not know it", e.Alg, at)
}
