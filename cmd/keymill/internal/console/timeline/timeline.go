// Package timeline draws the lives of keys as an SVG: when each key was published, signs, stops and
// leaves the key set, what is planned, and where now is.
//
//	                   Nov 1        Dec 1         now         Jan 1
//	EdDSA                │            │            │            │
//	  kid-a  retiring    ██████████████▒▒▒▒▒▒      │            │
//	  kid-b  active      ╱╱╱╱╱╱╱╱╱╱╱╱╱╱█████████████┄┄┄┄┄┄┄┄┄┄┄┄┄▒▒
//	  kid-c  spare       │            │╱╱╱╱╱╱╱╱╱╱╱╱┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
//	  kid-d  reserve     │            │            ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄
//
// SVG is a pure function: it reads no clock, no store and no setting. So a picture can be compared byte for
// byte. What lies in the future is drawn dashed. Beyond the instants that the server has determined, the
// plan follows the rotation policy, as package keystore does: the reserve is published when the spare begins
// to sign, and a key signs for rotate_every.
//
// The picture has no style. Its classes begin with "tl-", and a stylesheet gives them colours. Stages also
// differ by patterns and words, so that nothing depends on colours.
package timeline

import (
	"time"

	"keymill/issuer/api"
)

// A Chart is what SVG draws.
type Chart struct {
	Keys        []Key         // in any order; SVG groups them by algorithm
	RotateEvery time.Duration // how long a key signs; 0 if it is not known
	Now         time.Time     // the clock of the keys; the zero time draws no line
	Frozen      bool          // the clock stands still, so nothing is planned
}

// A Key is a key to draw. Instants that are nil are not determined.
type Key struct {
	api.Key
	Revoked *time.Time // when the key was revoked; nil if it was not
}

// The stages in which a bar is drawn; the names of package api, and "revoked".
const (
	reserve  = "reserve"
	spare    = "spare"
	active   = "active"
	retiring = "retiring"
	gone     = "gone"
	revoked  = "revoked"
)

// A span is a stage of a key. An end that is not known is the zero time: the span is open there.
type span struct {
	stage    string
	from, to time.Time
}

// spans returns the stages of a key in order. A key without instants has none.
func (k Key) spans() []span {
	end := k.Revoked
	var list []span
	add := func(stage string, from, to *time.Time) {
		if from == nil || end != nil && !from.Before(*end) {
			return
		}
		if end != nil && (to == nil || to.After(*end)) {
			to = end
		}
		if to == nil {
			list = append(list, span{stage, *from, time.Time{}})
		} else if to.After(*from) {
			list = append(list, span{stage, *from, *to})
		}
	}
	add(spare, k.Publish, earliest(k.Sign, k.Stop, k.Drop))
	add(active, k.Sign, earliest(k.Stop, k.Drop))
	add(retiring, k.Stop, k.Drop)
	add(gone, k.Drop, nil)
	return list
}

// earliest returns the earliest instant, nil if all are nil.
func earliest(instants ...*time.Time) (first *time.Time) {
	for _, t := range instants {
		if t != nil && (first == nil || t.Before(*first)) {
			first = t
		}
	}
	return first
}

// stage returns the word that stands beside the key.
func (k Key) stage(now time.Time) string {
	switch {
	case k.Revoked != nil:
		return revoked
	case k.Drop != nil && !now.IsZero() && !now.Before(*k.Drop):
		return gone // the server calls it retiring until its erasure clock follows
	}
	return k.Stage
}
