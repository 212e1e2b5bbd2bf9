package issuer

import (
	"time"

	"keymill/issuer/client"
	"keymill/issuer/record"
)

// Lifetimes are those of a session.
type Lifetimes struct {
	Grace    time.Duration // 0 to 10 min; how long the previous generation still gets the current token
	Idle     time.Duration // without a rotation
	Absolute time.Duration // since the login
}

// Bounds and defaults of lifetimes.
const (
	DefaultGrace    = 30 * time.Second
	DefaultIdle     = 14 * 24 * time.Hour
	DefaultAbsolute = 90 * 24 * time.Hour

	MaxGrace    = client.MaxGrace
	MinIdle     = client.MinIdle
	MaxAbsolute = client.MaxAbsolute

	// simpleJWTIdle is the idle lifetime at the login endpoint simplejwt, as in simplejwt.
	simpleJWTIdle = 24 * time.Hour
)

// An ending is the reason for which a decision ended a family.
type ending byte

const (
	notEnded ending = iota
	endedLateRetry
	endedReplay
	endedRolledBack
	endedByClient // RFC 7009
	endedByLogout
	endedByAdmin
	endedByLimit
)

// endings have a name, for events and audit records, and words for the admin API.
var endings = map[ending]struct {
	name, words string
	replay      bool // a token was used again: it may have two holders
}{
	endedLateRetry:  {"late_retry", "a replaced refresh token was used after its grace", true},
	endedReplay:     {"replay", "an old refresh token was used that had been replaced more than once", true},
	endedRolledBack: {"rolled_back", "a refresh token was used that is newer than the store: the store was restored from an old copy", true},
	endedByClient:   {"revoked", "the client revoked it", false},
	endedByLogout:   {"logout", "the user logged out", false},
	endedByAdmin:    {"revoked", "an administrator revoked it", false},
	endedByLimit:    {"limit", "the user reached the limit of sessions, and this session was unused for the longest time", false},
}

// A tokenState says what a refresh token of a live family is. The life of a family, seen from its
// current generation g:
//
//	    created        g created              lastUsed + idle  created + absolute
//	        ├─────── … ────┼──── grace ────┤ … ─────────┤ … ─────────┤
//	g       │              current         current      ✗            ✗
//	g − 1   │              in grace        late         ✗            ✗
//	older   │              replayed        replayed     ✗            ✗
//	> g     │              rolled back     rolled back  ✗            ✗
//
// The current token rotates, and one in grace gets token g again. A late, a replayed and a rolled
// back token end the family for good. ✗ is a refusal that writes nothing. The first instant of an
// interval belongs to it and the last does not.
type tokenState byte

const (
	tokenCurrent tokenState = iota
	tokenInGrace
	tokenLate
	tokenReplayed
	tokenRolledBack
)

// classify returns the state of the token of a generation. age is for how long g has been current
// while the store was served: a downtime does not count towards the grace.
func (rec *familyRecord) classify(generation uint32, age, grace time.Duration) tokenState {
	switch {
	case generation == rec.generation:
		return tokenCurrent
	case generation > rec.generation:
		return tokenRolledBack
	case generation < rec.generation-1:
		return tokenReplayed
	case max(age, 0) < grace: // after a crash the served time can be smaller than before, so age can be negative
		return tokenInGrace
	}
	return tokenLate
}

// A familyState says whether a family is live, and if not, why.
type familyState byte

const (
	stateLive      familyState = iota
	stateEnded                 // by a decision, see ending
	stateOutdated              // an epoch has moved since the login
	stateIdle                  // not used for too long
	stateAbsolute              // at its absolute end
	stateExhausted             // no further generation
)

// permanent reports whether no change of a setting can make the family live again.
func (s familyState) permanent() bool {
	return s == stateEnded || s == stateOutdated || s == stateExhausted
}

// state returns the state of the family at now, under the current epochs and lifetimes.
func (rec *familyRecord) state(now time.Time, current epochs, l Lifetimes) familyState {
	switch {
	case rec.end != notEnded:
		return stateEnded
	case rec.epochs != current:
		return stateOutdated
	case !now.Before(rec.absolute(l)):
		return stateAbsolute
	case !now.Before(rec.lastUsed.Add(l.Idle)):
		return stateIdle
	case rec.generation == 1<<32-1:
		return stateExhausted // the next generation would be 0 again
	}
	return stateLive
}

func (rec *familyRecord) absolute(l Lifetimes) time.Time { return rec.created.Add(l.Absolute) }

// expires returns when the family ends if it is not used.
func (rec *familyRecord) expires(l Lifetimes) time.Time {
	return record.Earliest(rec.lastUsed.Add(l.Idle), rec.absolute(l))
}

// lifetimes returns those of the sessions of a client that began at endpoint.
func (i *Issuer) lifetimes(client *clientRecord, endpoint LoginEndpoint) Lifetimes {
	l := i.refresh
	if endpoint == LoginSimpleJWT {
		l.Idle = min(l.Idle, simpleJWTIdle)
	}
	if client.Grace != nil {
		l.Grace = time.Duration(*client.Grace) * time.Second
	}
	if client.Idle > 0 {
		l.Idle = time.Duration(client.Idle) * time.Second
	}
	if client.Absolute > 0 {
		l.Absolute = time.Duration(client.Absolute) * time.Second
	}
	return l
}
