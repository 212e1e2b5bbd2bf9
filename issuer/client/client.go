// Package client holds the record of a client: a program that asks for tokens.
//
//	client/<id>   a client, in JSON
package client

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/loginterms"
	"keymill/issuer/record"
	"keymill/issuer/secret"
)

// Limits of one record. A change of a client writes the records of its old and new audiences and
// origins, and an Update can write 64 keys.
const (
	MaxAudiences = loginterms.MaxAudiences
	MaxOrigins   = 10
)

// Bounds of the lifetimes of sessions.
const (
	MaxGrace    = 10 * time.Minute
	MinIdle     = time.Second
	MaxAbsolute = 10 * 365 * 24 * time.Hour
)

// A Record is what the store has of a client.
type Record struct {
	Public    bool      `json:"public,omitempty"`
	Disabled  bool      `json:"disabled,omitempty"`
	Grants    []string  `json:"grants"` // sorted, as the next three
	Audiences []string  `json:"audiences"`
	Scopes    []string  `json:"scopes"`
	Origins   []string  `json:"origins"`
	Created   time.Time `json:"created"`
	Epoch     uint64    `json:"epoch,omitempty"` // families with another one are outdated

	Introspect []string `json:"introspect,omitempty"` // sorted
	Grace      *int64   `json:"grace,omitempty"`      // seconds, as the next two; absent: as configured
	Idle       int64    `json:"idle,omitempty"`
	Absolute   int64    `json:"absolute,omitempty"`

	Claims json.RawMessage `json:"claims,omitempty"` // one object, checked

	Secrets []secret.Record `json:"secrets,omitempty"` // newest first; none if public
}

// Key returns the key of the record of a client.
func Key(id string) string { return "client/" + id }

// Show returns what the admin API shows of the client.
func (rec *Record) Show(id string, now time.Time) api.Client {
	s := rec.Settings()
	c := api.Client{
		ID: id, Public: rec.Public, Disabled: rec.Disabled, Grants: s.Grants, Audiences: s.Audiences, Scopes: s.Scopes,
		Origins: s.Origins, Introspect: s.Introspect, Grace: s.Grace, Idle: s.Idle, Absolute: s.Absolute, Claims: s.Claims, Created: rec.Created,
	}
	c.SecretVersion = secret.Version(rec.Secrets)
	if len(rec.Secrets) == secret.Max && now.Before(rec.Secrets[1].Until) {
		c.OldSecretUntil = &rec.Secrets[1].Until
	}
	return c
}

// Settings are what an administrator can choose of a client, as the admin API writes it.
func (rec *Record) Settings() api.NewClient {
	s := api.NewClient{
		Public: rec.Public, Grants: slices.Clone(rec.Grants), Audiences: slices.Clone(rec.Audiences),
		Scopes: slices.Clone(rec.Scopes), Origins: slices.Clone(rec.Origins),
		Introspect: record.Distinct(rec.Introspect), Idle: showSeconds(rec.Idle), Absolute: showSeconds(rec.Absolute),
	}
	if rec.Grace != nil {
		s.Grace = (time.Duration(*rec.Grace) * time.Second).String()
	}
	if len(rec.Claims) > 0 {
		json.Unmarshal(rec.Claims, &s.Claims) // written by us
	}
	return s
}

func showSeconds(n int64) string {
	if n == 0 {
		return ""
	}
	return (time.Duration(n) * time.Second).String()
}

// Detail returns what an audit record says of the client. It has no values of claims.
func (rec *Record) Detail() map[string]string {
	kind := "confidential"
	if rec.Public {
		kind = "public"
	}
	d := map[string]string{
		"kind": kind, "grants": strings.Join(rec.Grants, " "), "audiences": strings.Join(rec.Audiences, " "),
		"scopes": strings.Join(rec.Scopes, " "), "origins": strings.Join(rec.Origins, " "),
	}
	shown := rec.Settings()
	for name, value := range map[string]string{
		"introspect": strings.Join(rec.Introspect, " "), "grace": shown.Grace, "idle": shown.Idle, "absolute": shown.Absolute,
		"claims": strings.Join(claim.Names(rec.Claims), " "), // no values
	} {
		if value != "" {
			d[name] = value
		}
	}
	return d
}
