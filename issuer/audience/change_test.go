package audience

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

var algorithms = []string{"RS256", "EdDSA"}

// TestAFormerTypeEndsWithItsLastToken: whatever changes of lifetime and type came before, in whatever order, a
// token that was made before a change of the type is accepted until it expires, and the type not much longer.
func TestAFormerTypeEndsWithItsLastToken(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 500_000_000, time.UTC)
	const day, hour, minute = 24 * time.Hour, time.Hour, time.Minute
	type change struct {
		at       time.Duration
		ttl, typ string // "" stays
		former   time.Duration
	}
	for name, changes := range map[string][]change{
		"once":                          {{0, "", "JWT", 15 * minute}},
		"with a shorter lifetime":       {{hour, "1m", "JWT", hour + 15*minute}},
		"with a longer lifetime":        {{hour, "24h", "JWT", hour + 15*minute}},
		"after a shorter lifetime":      {{0, "1m", "", -1}, {5 * minute, "", "JWT", 15 * minute}},
		"long after a shorter lifetime": {{0, "1m", "", -1}, {hour, "", "JWT", hour + minute}},
		"after two shorter lifetimes":   {{0, "24h", "", -1}, {hour, "1h", "", -1}, {2 * hour, "1s", "", -1}, {3 * hour, "", "JWT", hour + day}},
		"and back":                      {{0, "", "JWT", 15 * minute}, {minute, "", "at+jwt", 16 * minute}},
		"three times in a row":          {{0, "24h", "JWT", 15 * minute}, {minute, "1s", "at+jwt", minute + day}, {2 * minute, "", "JWT", minute + day}},
		"a change of something else":    {{0, "", "JWT", 15 * minute}, {minute, "1s", "", 15 * minute}, {hour, "24h", "", 15 * minute}},
	} {
		rec, err := Check(api.Audience{Name: "orders", Alg: "EdDSA", TTL: "15m"}, algorithms)
		if err != nil {
			t.Fatal(err)
		}
		rec.Clients = 3
		for n, c := range changes {
			now, before := start.Add(c.at), rec
			var want api.AudienceChange
			if c.ttl != "" {
				want.TTL = &c.ttl
			}
			if c.typ != "" {
				want.Type = &c.typ
			}
			if rec, err = rec.Change("orders", want, now, algorithms); err != nil {
				t.Fatalf("%s, change %d: %v", name, n, err)
			}
			raw, _ := json.Marshal(rec)
			if stored, err := Decode(Key("orders"), raw); err != nil || !stored.Same(rec) || rec.Clients != 3 || rec.Same(before) {
				t.Errorf("%s, change %d: the record is %s, %v", name, n, raw, err)
			}
			if c.former < 0 {
				if !rec.Former.IsZero() || rec.Accepts("JWT", now) {
					t.Errorf("%s, change %d: the other type is accepted until %s", name, n, rec.Former)
				}
				continue
			}
			last := start.Add(c.former)
			if rec.Former.Before(last) || rec.Former.After(last.Add(inFlight+time.Second)) {
				t.Errorf("%s, change %d: the other type is accepted until %s, want %s", name, n, rec.Former, last)
			}
			for _, typ := range []string{"at+jwt", "JWT"} {
				own := typ == rec.Type()
				if !rec.Accepts(typ, last) || rec.Accepts(typ, last.Add(inFlight+2*time.Second)) != own {
					t.Errorf("%s, change %d: type %s is accepted until %s", name, n, typ, rec.Former)
				}
			}
		}
	}
}

// TestAChangeOfTheProfileTakesItsTypeOnlyIfItMust: services check the type, so it changes as rarely as possible.
func TestAChangeOfTheProfileTakesItsTypeOnlyIfItMust(t *testing.T) {
	at, jwt := "at+jwt", "JWT"
	for _, tt := range []struct {
		profile, typ string
		to           string
		named        *string
		want         string // a type, or what the refusal says
	}{
		{"rfc9068", at, "spring", nil, jwt}, {"spring", jwt, "rfc9068", nil, jwt}, {"spring", jwt, "rfc9068", &at, at},
		{"rfc9068", at, "simplejwt", nil, at}, {"rfc9068", jwt, "simplejwt", nil, jwt}, {"rfc9068", at, "spring", &jwt, jwt},
		{"rfc9068", at, "spring", &at, "does not fit profile spring"}, {"spring", jwt, "spring", &at, "does not fit profile spring"},
		{"rfc9068", jwt, "other", nil, "is none of rfc9068"},
	} {
		rec, err := Check(api.Audience{Name: "orders", Alg: "RS256", TTL: "15m", Profile: tt.profile, Type: tt.typ}, algorithms)
		if err != nil {
			t.Fatal(err)
		}
		after, err := rec.Change("orders", api.AudienceChange{Profile: &tt.to, Type: tt.named}, time.Now(), algorithms)
		switch {
		case err != nil && (refusal.CodeOf(err) != "invalid_request" || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%+v: %v", tt, err)
		case err == nil && (after.Type() != tt.want || after.Profile != tt.to):
			t.Errorf("%+v: %+v", tt, after)
		}
	}
	empty := ""
	rec, _ := Check(api.Audience{Name: "orders", Alg: "RS256", TTL: "15m"}, algorithms)
	if _, err := rec.Change("orders", api.AudienceChange{Type: &empty}, time.Now(), algorithms); refusal.CodeOf(err) != "invalid_request" {
		t.Errorf("an empty type in a change: %v", err)
	}
}

// TestTheTypeJWTComesWithAWarning, when it is chosen and not at every later change.
func TestTheTypeJWTComesWithAWarning(t *testing.T) {
	jwt, at, ttl := "JWT", "at+jwt", "5m"
	plain, _ := Check(api.Audience{Name: "orders", Alg: "RS256", TTL: "15m"}, algorithms)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	change := func(rec *Record, c api.AudienceChange) (*Record, string) {
		after, err := rec.Change("orders", c, now, algorithms)
		if err != nil {
			t.Fatal(err)
		}
		return after, strings.Join(after.Warnings("orders", rec), "\n")
	}
	const ofIDs = "no ID token may ever have the audience orders"
	if got := plain.Warnings("orders", nil); len(got) > 0 {
		t.Errorf("a new audience of the type at+jwt: %q", got)
	}
	if _, got := change(plain, api.AudienceChange{TTL: &ttl}); got != "" {
		t.Errorf("another lifetime: %q", got)
	}
	typed, got := change(plain, api.AudienceChange{Type: &jwt})
	if !strings.Contains(got, ofIDs) || !strings.Contains(got, "tokens of type at+jwt can be valid until 2026-01-01T00:16:01Z") {
		t.Errorf("to JWT: %q", got)
	}
	if got := typed.Warnings("orders", nil); len(got) != 1 || !strings.Contains(got[0], ofIDs) {
		t.Errorf("a new audience of the type JWT: %q", got)
	}
	if _, got := change(typed, api.AudienceChange{TTL: &ttl}); got != "" {
		t.Errorf("another lifetime of the type JWT: %q", got)
	}
	if _, got := change(typed, api.AudienceChange{Type: &at}); strings.Contains(got, ofIDs) || !strings.Contains(got, "tokens of type JWT can be valid until") {
		t.Errorf("back to at+jwt: %q", got)
	}
	if !slices.Equal(typed.Warnings("orders", typed), nil) {
		t.Error("no change at all has a warning")
	}
}
