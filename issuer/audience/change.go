package audience

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/profile"
)

// Change returns the record after a change at the decision time now, or refuses it. Its algorithm cannot
// change, because verifiers are configured with it. If the profile changes and the type is not named, the type
// stays, unless the software of the new profile does not accept it.
func (rec *Record) Change(name string, c api.AudienceChange, now time.Time, algorithms []string) (*Record, error) {
	a := rec.Show(name)
	a.FormerTypeUntil = nil
	if c.Profile != nil {
		a.Profile = *c.Profile
		if p, known := profile.Find(a.Profile); known && !slices.Contains(p.Types, a.Type) {
			a.Type = p.Types[0]
		}
	}
	setIfGiven(&a.TTL, c.TTL)
	setIfGiven(&a.Scopes, c.Scopes)
	// Claims are checked if they change: a later version may reserve more names, and a lifetime can be set still.
	newClaims := c.Claims != nil || c.ClaimMap != nil
	if newClaims {
		setIfGiven(&a.Claims, c.Claims)
		setIfGiven(&a.ClaimMap, c.ClaimMap)
	} else {
		a.Claims, a.ClaimMap = nil, nil
	}
	if c.Type != nil {
		if err := profile.CheckType(*c.Type); err != nil {
			return nil, err
		}
		a.Type = *c.Type
	}
	after, err := Check(a, algorithms)
	if err != nil {
		return nil, err
	}
	if !newClaims {
		after.Claims, after.Map = rec.Claims, rec.Map
	}
	after.Clients = rec.Clients
	after.follow(rec, now)
	return after, nil
}

func setIfGiven[T any](field *T, change *T) {
	if change != nil {
		*field = *change
	}
}

// inFlight is how long after a change a token can be signed that was decided before it.
const inFlight = time.Minute

// follow notes until when tokens are valid that were made before the change at now. The time of decisions is
// never before a wall time that was seen, so none of them has a later exp than it and its lifetime say. The
// lifetime can be one of before, and a longer one before that.
//
//	       lifetime 1 h     lifetime 5 min   type JWT
//	─────────────┼────────────────┼──────────────┼────────────────────────▶ time
//	             t1               t2             t3
//	Longer                        t2 + 1 h
//	Former                                       the later of t3 + 5 min and t2 + 1 h
func (rec *Record) follow(before *Record, now time.Time) {
	last := now.Add(before.Lifetime() + inFlight + time.Second).UTC().Truncate(time.Second)
	if before.Longer.After(last) {
		last = before.Longer
	}
	rec.Longer, rec.Former = before.Longer, before.Former
	if rec.TTL < before.TTL {
		rec.Longer = last
	}
	if rec.Typ != before.Typ {
		rec.Former = last
	}
}

// Same reports whether a change that led from before to rec changed nothing.
func (rec *Record) Same(before *Record) bool {
	return rec.TTL == before.TTL && rec.Profile == before.Profile && rec.Typ == before.Typ && slices.Equal(rec.Scopes, before.Scopes) &&
		bytes.Equal(rec.Claims, before.Claims) && maps.Equal(rec.Map, before.Map)
}

// Warnings says what verifiers have to do after a change from before, which is nil for a new audience.
func (rec *Record) Warnings(name string, before *Record) []string {
	if before != nil && rec.Typ == before.Typ {
		return nil
	}
	all := profile.Warnings(name, rec.Type())
	if before != nil {
		all = append(all, fmt.Sprintf("tokens of type %s can be valid until %s: services that check the type have to accept both until then, as this server does",
			before.Type(), rec.Former.Format(time.RFC3339)))
	}
	return all
}
