package keystore

import (
	"crypto"
	"time"

	"keymill/keystore/internal/schedule"
)

// A Key is one member of a ring: its public half and the instants of its life.
type Key = schedule.Key

// A Stage is a phase of a key's life.
type Stage = schedule.Stage

// The stages, in the order of a key's life.
const (
	Reserve  = schedule.Reserve
	Spare    = schedule.Spare
	Active   = schedule.Active
	Retiring = schedule.Retiring
	Gone     = schedule.Gone
)

type (
	ring   = schedule.Ring
	policy = schedule.Policy
)

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

// infoOf describes k. While Stop is only planned, Drop is computed from it. Once the key has
// stopped, Drop is stored with the key, so a changed setting cannot move it.
func infoOf(k Key, now time.Time, linger time.Duration) KeyInfo {
	drop := k.Drop
	if drop.Equal(schedule.Never) && !k.Stop.Equal(schedule.Never) {
		drop = k.Stop.Add(k.MaxLifetime + linger)
	}
	return KeyInfo{
		KID: k.KID, Alg: k.Alg, Stage: k.Stage(now),
		Publish: zeroIfNever(k.Publish), Sign: zeroIfNever(k.Sign), Stop: zeroIfNever(k.Stop), Drop: zeroIfNever(drop),
	}
}

func zeroIfNever(t time.Time) time.Time {
	if t.Equal(schedule.Never) {
		return time.Time{}
	}
	return t.UTC()
}
