package client

import (
	"slices"
	"strings"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/names"
	"keymill/issuer/origin"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/issuer/secret"
)

// Grants returns the grants that a client can have, sorted. The functions that decide about them are in package issuer.
func Grants() []string { return []string{"client_credentials", "refresh_token"} }

func isGrant(name string) bool { return slices.Contains(Grants(), name) }

// IsOrigin allows http, which insecure may have allowed when the client was stored.
func IsOrigin(s string) bool { return origin.Check(s, true) == nil }

// Possible reports whether this program can have written the record.
func (rec *Record) Possible() bool {
	most := int64(MaxAbsolute / time.Second)
	return record.PossibleSecond(rec.Created) && record.PossibleEpoch(rec.Epoch) && rec.Idle >= 0 && rec.Idle <= most && rec.Absolute >= 0 && rec.Absolute <= most &&
		(rec.Absolute == 0 || rec.Idle <= rec.Absolute) && (rec.Grace == nil || *rec.Grace >= 0 && *rec.Grace <= int64(MaxGrace/time.Second)) &&
		rec.Public == (len(rec.Secrets) == 0) && secret.Possible(rec.Secrets) && (len(rec.Claims) == 0 || claim.PossibleFlat(rec.Claims)) && rec.possibleLists() &&
		(!slices.Contains(rec.Named(), adminscope.Audience) || adminscope.Possible(rec.Settings()))
}

func (rec *Record) possibleLists() bool {
	return record.PossibleList(rec.Grants, len(Grants()), isGrant) && record.PossibleList(rec.Audiences, MaxAudiences, names.IsAudience) &&
		record.PossibleList(rec.Scopes, scope.Max, scope.Valid) && record.PossibleList(rec.Origins, MaxOrigins, IsOrigin) &&
		record.PossibleList(append([]string{}, rec.Introspect...), MaxAudiences, names.IsAudience) && len(rec.Named()) <= MaxAudiences &&
		(!rec.Public || len(rec.Introspect) == 0 && !slices.Contains(rec.Grants, "client_credentials"))
}

// Named returns the audiences that the client gets tokens for or introspects.
func (rec *Record) Named() []string {
	return record.Distinct(slices.Concat(rec.Audiences, rec.Introspect))
}

// Set sets rec to want and refuses everything that it can refuse without a transaction. An
// origin that rec lists already is accepted, for example http after insecure was set to false: an
// administrator must still be able to disable the client. It is without effect, see Origins.
func (rec *Record) Set(want api.NewClient, insecure bool) error {
	var err error
	before, listed := rec.Settings(), rec.Origins
	if rec.Scopes, err = scope.Check(want.Scopes); err != nil {
		return err
	}
	if err := rec.setLifetimes(want); err != nil {
		return err
	}
	rec.Grants, rec.Audiences, rec.Origins = record.Distinct(want.Grants), record.Distinct(want.Audiences), record.Distinct(want.Origins)
	rec.Introspect = record.Distinct(want.Introspect)
	for _, g := range rec.Grants {
		if !isGrant(g) {
			return refusal.New("invalid_request", "grant %s is not supported; choose from %s", refusal.Quoted(g), strings.Join(Grants(), ", "))
		}
	}
	if rec.Public && slices.Contains(rec.Grants, "client_credentials") {
		return refusal.New("invalid_request", "a public client is not allowed the client_credentials grant: it cannot authenticate")
	}
	if rec.Public && len(rec.Introspect) > 0 {
		return refusal.New("invalid_request", "a public client cannot introspect tokens: it cannot authenticate")
	}
	if err := adminscope.Check(before, rec.Settings()); err != nil {
		return err
	}
	if n := len(rec.Named()); n > MaxAudiences {
		return refusal.New("invalid_request", "%d audiences are too many: a client names at most %d", n, MaxAudiences)
	}
	if len(rec.Origins) > MaxOrigins {
		return refusal.New("invalid_request", "%d origins are too many: a client lists at most %d", len(rec.Origins), MaxOrigins)
	}
	for _, o := range rec.Origins {
		if err := origin.Check(o, insecure); err != nil && !slices.Contains(listed, o) {
			return refusal.New("invalid_request", "origin '%.100s' %s", refusal.Quoted(o), refusal.Quoted(err.Error()))
		}
	}
	return nil
}

// setLifetimes sets the lifetimes of the sessions; "" means as configured.
func (rec *Record) setLifetimes(want api.NewClient) error {
	rec.Grace = nil
	if want.Grace != "" {
		grace, err := api.ParseSeconds("grace", want.Grace, 0, MaxGrace)
		if err != nil {
			return err
		}
		rec.Grace = &grace
	}
	var err error
	if rec.Idle, err = api.ParseSeconds("idle", want.Idle, MinIdle, MaxAbsolute); err != nil {
		return err
	}
	if rec.Absolute, err = api.ParseSeconds("absolute", want.Absolute, MinIdle, MaxAbsolute); err != nil {
		return err
	}
	if rec.Absolute != 0 && rec.Idle > rec.Absolute {
		return refusal.New("invalid_request", "idle is %s and must be at most absolute (%s)", want.Idle, want.Absolute)
	}
	return nil
}
