package keystore

import (
	"crypto"
	"time"
)

// Stage is where a key stands in its life.
type Stage string

// The stages, in the order of a life.
const (
	Reserve  Stage = "reserve"  // durable, in no set
	Spare    Stage = "spare"    // published, does not sign yet
	Active   Stage = "active"   // signs
	Retiring Stage = "retiring" // published for the tokens it has signed
	Gone     Stage = "gone"
)

// never stands for an instant that is not determined. A far year instead of a zero
// time lets every comparison below read as the drawing does.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// A Key is one member of a ring: its public half and the instants of its life.
type Key struct {
	KID    string `json:"kid"`
	Alg    string `json:"alg"`
	Public []byte `json:"public"` // SubjectPublicKeyInfo, DER

	Publish time.Time `json:"publish"`
	Ready   time.Time `json:"ready"` // Sign may not come earlier: caches know the key by then
	Sign    time.Time `json:"sign"`
	Stop    time.Time `json:"stop"`
	Drop    time.Time `json:"drop"`  // determined once the key has stopped
	Erase   time.Time `json:"erase"` // of the private half; determined like Drop

	// Cap is the longest lifetime of a token that the key can have signed.
	Cap time.Duration `json:"cap"`
}

// newKey is a reserve: every instant is still to come.
func newKey(kid, alg string, public []byte, lifetime time.Duration) Key {
	return Key{
		KID: kid, Alg: alg, Public: public, Cap: lifetime,
		Publish: never, Ready: never, Sign: never, Stop: never, Drop: never, Erase: never,
	}
}

// Stage reads no clock and no storage, so every node, test and auditor computes the
// same answer. Bounds are half-open: a key signs at Sign and not at Stop.
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

// A PublicKey is all of a key that leaves this room.
type PublicKey struct {
	KID    string
	Alg    string           // "RS256" or "EdDSA"
	Public crypto.PublicKey // *rsa.PublicKey or ed25519.PublicKey
}

// A KeyInfo is a key as operators see it. Instants that are not determined are zero.
type KeyInfo struct {
	KID   string
	Alg   string
	Stage Stage

	Publish, Sign, Stop, Drop time.Time
}

// info describes k. While Stop is only planned, Drop follows from it; afterwards it is
// written down, so that a changed setting cannot move it.
func (k Key) info(now time.Time, skew time.Duration) KeyInfo {
	drop := k.Drop
	if drop.Equal(never) && !k.Stop.Equal(never) {
		drop = k.Stop.Add(k.Cap + skew)
	}
	return KeyInfo{
		KID: k.KID, Alg: k.Alg, Stage: k.Stage(now),
		Publish: determined(k.Publish), Sign: determined(k.Sign), Stop: determined(k.Stop), Drop: determined(drop),
	}
}

func determined(t time.Time) time.Time {
	if t.Equal(never) {
		return time.Time{}
	}
	return t.UTC()
}

func (k Key) equal(other Key) bool {
	return k.KID == other.KID && k.Cap == other.Cap &&
		k.Publish.Equal(other.Publish) && k.Ready.Equal(other.Ready) && k.Sign.Equal(other.Sign) &&
		k.Stop.Equal(other.Stop) && k.Drop.Equal(other.Drop) && k.Erase.Equal(other.Erase)
}
