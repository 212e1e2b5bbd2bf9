package keystore

import (
	"bytes"
	"crypto"
	"fmt"
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

// never is the value of an instant that is not determined yet. It is a far year and not the
// zero time, so that comparisons need no special case.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

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

// newKey returns a reserve: none of its instants is determined.
func newKey(kid, alg string, public []byte, lifetime time.Duration) Key {
	return Key{
		KID: kid, Alg: alg, Public: public, MaxLifetime: lifetime,
		Publish: never, Ready: never, Sign: never, Stop: never, Drop: never, Erase: never,
	}
}

// check returns an error for a key that this program does not write.
func (k Key) check(alg string) error {
	if k.Alg != alg || checkKID(k.KID) != nil || k.MaxLifetime < 0 {
		return fmt.Errorf("a key of %s has another algorithm, an impossible kid or a negative lifetime", alg)
	}
	for _, t := range []time.Time{k.Publish, k.Ready, k.Sign, k.Stop, k.Drop, k.Erase} {
		if t.Year() < 1980 || t.After(never) {
			return fmt.Errorf("an instant of the key %s is impossible", k.KID)
		}
	}
	if k.Sign.Before(k.Publish) || k.Drop.Before(k.Stop) {
		return fmt.Errorf("the instants of the key %s contradict each other", k.KID)
	}
	return nil
}

// belongs checks that the kid and the public half belong together, and so does the private half,
// which may be nil.
func (k Key) belongs(public crypto.PublicKey, private crypto.Signer) error {
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

// A PublicKey is the only part of a key that this package exports.
type PublicKey struct {
	KID    string
	Alg    string           // one of SupportedAlgorithms
	Public crypto.PublicKey // *rsa.PublicKey, ed25519.PublicKey or *ecdsa.PublicKey

	// Certificate is self-signed and without an end, in DER. It is nil if the private half was never here, or was
	// erased before this version of the program.
	Certificate []byte

	Imported bool // another system may have the private half
}

// A KeyInfo describes a key to operators. Instants that are not determined are zero.
type KeyInfo struct {
	KID   string
	Alg   string
	Stage Stage

	Publish, Sign, Stop, Drop time.Time // decision times, UTC
}

// info describes k. While Stop is only planned, Drop is computed from it. Once the key has
// stopped, Drop is stored with the key, so a changed setting cannot move it.
func (k Key) info(now time.Time, skew time.Duration) KeyInfo {
	drop := k.Drop
	if drop.Equal(never) && !k.Stop.Equal(never) {
		drop = k.Stop.Add(k.MaxLifetime + skew)
	}
	return KeyInfo{
		KID: k.KID, Alg: k.Alg, Stage: k.Stage(now),
		Publish: zeroIfNever(k.Publish), Sign: zeroIfNever(k.Sign), Stop: zeroIfNever(k.Stop), Drop: zeroIfNever(drop),
	}
}

func zeroIfNever(t time.Time) time.Time {
	if t.Equal(never) {
		return time.Time{}
	}
	return t.UTC()
}

func (k Key) equal(other Key) bool {
	return k.KID == other.KID && k.MaxLifetime == other.MaxLifetime &&
		k.Publish.Equal(other.Publish) && k.Ready.Equal(other.Ready) && k.Sign.Equal(other.Sign) &&
		k.Stop.Equal(other.Stop) && k.Drop.Equal(other.Drop) && k.Erase.Equal(other.Erase)
}
