package issuer

import (
	"time"
)

// Lifetimes of a family.
type Lifetimes struct {
	Grace    time.Duration // 0 to 10 min; how long the previous generation may come again
	Idle     time.Duration // without a rotation
	Absolute time.Duration // since the login
}

// Bounds and defaults of lifetimes.
const (
	DefaultGrace    = 30 * time.Second
	DefaultIdle     = 14 * 24 * time.Hour
	DefaultAbsolute = 90 * 24 * time.Hour

	MaxGrace    = 10 * time.Minute
	MinIdle     = time.Second
	MaxAbsolute = 10 * 365 * 24 * time.Hour

	// simpleJWTIdle is the lifetime of a refresh token behind the simplejwt door, as there.
	simpleJWTIdle = 24 * time.Hour
)

// An ending is how a decision ended a family.
type ending byte

const (
	living ending = iota
	endedLateRetry
	endedReplay
	endedRolledBack
	endedByClient // RFC 7009
	endedByLogout
	endedByAdmin
	endedByLimit
)

// words of the endings, as people read them; events and audit records use the names.
var endings = map[ending]struct{ name, words string }{
	endedLateRetry:  {"late_retry", "a token was presented again after its grace"},
	endedReplay:     {"replay", "a token was presented that had been replaced twice: two holders"},
	endedRolledBack: {"rolled_back", "a token was presented that this store had not issued yet: it is older than its clients"},
	endedByClient:   {"revoked", "the client revoked it"},
	endedByLogout:   {"logout", "the user logged out"},
	endedByAdmin:    {"revoked", "an administrator revoked it"},
	endedByLimit:    {"limit", "it was the longest idle one when the user reached the limit of sessions"},
}

// A family's life, seen from its current generation g:
//
//	      born          g made                     used + idle    born + absolute
//	        ├─────── … ────┼──── grace ────┤ … ─────────┤ … ─────────┤
//	g       │              rotates         rotates      ✗            ✗
//	g − 1   │              token g again   late retry   ✗            ✗
//	older   │              replay          replay       ✗            ✗
//	> g     │              rolled back     rolled back  ✗            ✗
//
// A late retry, a replay and a rolled back token end the family for good. ✗ is a refusal
// without a trace. The first instant of an interval belongs to it and the last does not.
type verdict byte

const (
	rotates verdict = iota
	graced
	lateRetry
	replayed
	rolledBack
)

// judge decides about a generation of a living family. age is for how long g has been the
// current one while the store was served: a downtime does not count towards a grace.
func (rec *familyRecord) judge(generation uint32, age, grace time.Duration) verdict {
	switch {
	case generation == rec.g:
		return rotates
	case generation > rec.g:
		return rolledBack
	case generation < rec.g-1:
		return replayed
	case max(age, 0) < grace: // a clock that a crash has set back makes an age negative
		return graced
	}
	return lateRetry
}

// A demise says why a family is dead although it has, perhaps, no ending of its own.
type demise byte

const (
	alive demise = iota
	decided
	byEpoch
	idleTooLong
	absoluteEnd
	exhausted
)

// final tells whether no setting can bring the family back.
func (d demise) final() bool { return d == decided || d == byEpoch || d == exhausted }

// fate tells whether the family lives at now, under the epochs and lifetimes of now.
func (rec *familyRecord) fate(now time.Time, current epochs, l Lifetimes) demise {
	switch {
	case rec.end != living:
		return decided
	case rec.epochs != current:
		return byEpoch
	case !now.Before(rec.absolute(l)):
		return absoluteEnd
	case !now.Before(rec.used.Add(l.Idle)):
		return idleTooLong
	case rec.g == 1<<32-1:
		return exhausted // the next generation would be the first one again
	}
	return alive
}

func (rec *familyRecord) absolute(l Lifetimes) time.Time { return rec.born.Add(l.Absolute) }

// expires is when the family ends if nobody uses it.
func (rec *familyRecord) expires(l Lifetimes) time.Time {
	return earliest(rec.used.Add(l.Idle), rec.absolute(l))
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// lifetimes are those of a family of the client, that logged in at endpoint.
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
