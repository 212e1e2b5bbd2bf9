// Package issuer decides who gets which token. It decides about audiences, clients, users, grants
// and sessions, stores their records, and appends every change to the audit log in the same
// transaction. It does not use HTTP: package endpoint reads requests and writes answers, and
// package keystore signs.
//
// One request for a token, from left to right:
//
//	grant known? ─▶ client authentic? ─▶ is it allowed the grant? ─▶ which audience?
//	     ─▶ which scopes? ─▶ (the transaction ends) ─▶ claims ─▶ signature
//
// A session is one login of one user through one client. In the store it is a family: all refresh
// tokens that descend from the login (RFC 9700, section 4.14). Each refresh creates the next
// generation (see the drawing in family.go). The store keeps one small record for each family,
// however often it rotates. A refresh token carries its family, its generation and a MAC, so a
// forged token is refused without reading the store, and the token of any generation can be
// computed again.
//
//	Login: password ─▶ StartSession: family, generation 0 ─▶ refresh: 1 ─▶ 2 ─▶ 3 …
//	                                                            │
//	         /revoke, logout, a replay, a late retry ───────────┴─▶ ended, for good
//	         epochs of user, client, store; idle, absolute ─▶ over, without a write
//
// A request that is refused gets a *refusal.Refusal with an error code of RFC 6749, section 5.2, or
// RFC 8707, section 2. The administrative calls refuse with "invalid_request", "not_found",
// "already_exists" and "in_use". Their types are those of package api.
//
// Records, in JSON where nothing else is said:
//
//	audience/<name>   algorithm, lifetime, scopes, profile, how many clients name it
//	client/<id>       grants, audiences, scopes, origins, lifetimes, epoch, hashes of its secrets
//	user/<id>         name, hash of the password, claims, epoch, last login, hashes of addresses
//	login/<hash>      which user has the name (SHA-256 of the name, base32hex)
//	id/<id>           what has the id: clients and users share this index, so that no user
//	                  can have the id of a client (RFC 9700, section 4.15)
//	gone/<id>         the last epoch of an id whose client or user was removed, for 24 h and 2 min
//	origin/<origin>   how many clients list the web origin
//	scheme/<class>    how many passwords are hashed in that way, see package password
//	refresh/secret/…  the keys of the MACs of refresh tokens, sealed (keystore.Vault)
//	unblocked/<id>    when an administrator unblocked a user, see package unblocked
//	family/<id>       one session, binary, see family_record.go
//	terms/<hash>      client, audiences and scopes that many families share, see package loginterms
//	sessions/<length>/<user>/<client>   ids of the families of one user and client, binary
//	tally/<length>/<user>/<client>      how many of their events have an audit record, see package tally
//	due/<time>/…      when to look at a family, a denied token, a removed id or a tally next, see package due
//	denied/<jti>      an access token that was revoked before it expired
//	epoch             a counter; raising it ends every session of the store, binary
//	webhook/<time>-<random>   an event that the webhook has not delivered yet, see package outbox
//
// A name is always the last part of a key, so no name needs escaping. If a key has two names, the
// length of the first precedes it. Lifetimes are whole seconds, because exp and iat are (RFC 7519,
// section 2).
package issuer

import (
	"context"
	"fmt"
	"log/slog"

	"keymill/issuer/accesstoken"
	"keymill/issuer/claim"
	"keymill/issuer/epoch"
	"keymill/issuer/loginterms"
	"keymill/issuer/origin"
	"keymill/issuer/outbox"
	"keymill/issuer/password"
	"keymill/issuer/pause"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/retry"
	"keymill/jwks"
	"keymill/keystore"
	"keymill/storage"
)

// Config is what an Issuer needs.
type Config struct {
	URL      string // the issuer, checked by CheckURL
	Insecure bool   // allows an http issuer and http pages that are not loopback
	Store    storage.Store
	Keys     *keystore.Rings
	Refresh  Lifetimes      // of sessions, unless their client has its own; the zero value means the defaults
	Outbox   *outbox.Outbox // decisions leave events here for a webhook; nil if there is none
	Log      *slog.Logger   // of the clean-up; nil discards
	Admin    bool           // tokens for the admin API are issued and accepted, see package adminscope
	Node     string         // names this server in the audit log if several share the store
	// Hold reports whether this server cleans up, see nodes.Registry.Hold. It is called at least every 10 s. nil if it is the
	// only server of the store.
	Hold    func(context.Context) (bool, error)
	Damaged func(error) // gets the error of each damaged record that a list or the clean-up sets aside, again and again; may be nil
}

// An Issuer decides about tokens. It is safe for concurrent use.
type Issuer struct {
	url       string
	insecure  bool
	store     storage.Store
	keys      *keystore.Rings
	log       *slog.Logger
	refresh   Lifetimes // of sessions, unless their client has its own
	clients   record.Cache[clientRecord]
	audiences record.Cache[audienceRecord]
	users     record.Cache[userRecord]
	terms     loginterms.Cache
	leftOut   claim.Seen // claims that were left out of tokens and were logged
	retries   retry.Counts
	passwords *password.Hasher
	damaged   func(error)
	node      string // "" if this is the only one
	hold      func(context.Context) (bool, error)
	families  record.Versions[familyRecord]
	outbox    *outbox.Outbox // nil if there is no webhook
	pauses    pause.Watch

	accessTokens *accesstoken.Verifier

	admin         *audienceRecord       // the built-in audience
	adminTokens   *accesstoken.Verifier // for it
	adminAccepted bool                  // see Config.Admin

	refreshSecrets *refreshtoken.Secrets
}

// Open checks the issuer URL and returns an Issuer over what the store holds.
func Open(ctx context.Context, cfg Config) (*Issuer, error) {
	if err := CheckURL(cfg.URL, cfg.Insecure); err != nil {
		return nil, err
	}
	i := &Issuer{
		url: cfg.URL, insecure: cfg.Insecure, store: cfg.Outbox.Over(cfg.Store), keys: cfg.Keys, log: cfg.Log, refresh: cfg.Refresh, outbox: cfg.Outbox,
		passwords: password.NewHasher(), damaged: cfg.Damaged, families: knownFamilies, node: cfg.Node, hold: cfg.Hold,
		accessTokens: accesstoken.NewVerifier(cfg.URL),
	}
	if i.hold == nil {
		i.hold = func(context.Context) (bool, error) { return true, nil }
	}
	if i.damaged == nil {
		i.damaged = func(error) {}
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	if i.refresh == (Lifetimes{}) {
		i.refresh = Lifetimes{DefaultGrace, DefaultIdle, DefaultAbsolute}
	}
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		secrets, first, err := refreshtoken.Load(tx, i.store, i.keys.DatabaseID(), i.keys.Vault())
		if i.refreshSecrets = secrets; err == nil && first {
			err = epoch.Make(tx)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read refresh secrets: %w", err)
	}
	if err := i.openAdmin(ctx, cfg.Admin); err != nil {
		return nil, err
	}
	return i, nil
}

// URL returns the issuer URL as configured, byte for byte.
func (i *Issuer) URL() string { return i.url }

// Grants returns the supported grant types, sorted.
func (i *Issuer) Grants() []string { return sortedKeys(grants) }

// AuthMethods returns the ways in which a client can authenticate, sorted.
func (i *Issuer) AuthMethods() []string { return sortedKeys(authMethods) }

// Algorithms returns the algorithms that tokens are signed with. Each has its own ring of keys.
func (i *Issuer) Algorithms() []string { return i.keys.Algorithms() }

// CheckURL accepts a URL of scheme, host and perhaps a path, and nothing else. Verifiers compare the issuer as a
// string and some join paths to it. So a URL that can be written in two ways is refused here and
// does not fail later in a verifier.
func CheckURL(s string, insecure bool) error { return origin.CheckIssuer(s, insecure, jwks.IsLoopback) }
