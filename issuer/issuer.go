// Package issuer decides who gets which token. It knows audiences, clients, users, grants
// and families, keeps their records, and writes every change into the audit log in the
// transaction that makes it. It speaks no HTTP: endpoint reads requests and writes
// answers, keystore signs.
//
// One request for a token, from left to right:
//
//	grant known? ─▶ client authentic? ─▶ may it use the grant? ─▶ which audience?
//	     ─▶ which scopes? ─▶ (the transaction ends) ─▶ claims ─▶ signature
//
// A login begins a family, and each refresh makes its next generation (family.go has the
// drawing). One small record a family is all that is kept, however often it rotates: a
// refresh token carries its family, its generation and a MAC, so that forged ones need no
// look at the store and the successor of any generation can be written again.
//
//	Login: password ─▶ Begin: family, generation 0 ─▶ refresh: 1 ─▶ 2 ─▶ 3 …
//	                                                     │
//	         /revoke, logout, a replay, a late retry ────┴─▶ ended, for good
//	         epochs of user, client, store; idle, absolute ─▶ dead without a write
//
// A no on the way is a *Refusal, and its Code is an error code of RFC 6749,
// section 5.2, or RFC 8707, section 2. The administrative calls refuse with
// "invalid_request", "not_found", "already_exists" and "in_use".
//
// Records, in JSON where nothing else is said:
//
//	audience/<name>   algorithm, lifetime, scopes, profile, how many clients name it
//	client/<id>       grants, audiences, scopes, origins, lifetimes, epoch, hashes of its secrets
//	user/<id>         name, hash of the password, claims, epoch
//	login/<hash>      which user has the name (SHA-256 of the name, base32hex)
//	id/<id>           what the id stands for: clients and users share this index,
//	                  so that no user can be named like a client (RFC 9700, section 4.15)
//	origin/<origin>   how many clients list the web origin
//	scheme/<class>    how many passwords are hashed in that way
//	refresh/secret/…  what seals refresh tokens, sealed itself (keystore.Vault)
//	family/<id>       one login, binary, see family_record.go
//	terms/<hash>      client, audiences and scope, which many families share
//	sessions/<length>/<user>/<client>   ids of the families of one user and client, binary
//	due/<time>/…      when to look at a family, or a denied token, next; see sweep.go
//	denied/<jti>      an access token that was revoked before it expired
//	epoch             moved to end every family of the store, binary
//	webhook/<id>      an event that the webhook has not delivered yet, see package outbox
//
// The name is always the last part of a key, so no name needs escaping; where two names
// meet, the first has its length before it. Lifetimes are whole seconds, because exp and
// iat are (RFC 7519, section 2).
package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"

	"keymill/issuer/outbox"
	"keymill/issuer/password"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
)

// Config is what an Issuer needs.
type Config struct {
	URL      string // the issuer, checked by CheckURL
	Insecure bool   // an http issuer that is not loopback is allowed
	Store    storage.Store
	Keys     *keystore.Rings
	Refresh  Lifetimes      // of clients that have none of their own; none at all means the defaults
	Outbox   *outbox.Outbox // decisions leave events here for a webhook; nil if there is none
	Log      *slog.Logger   // of the clean-up loop; nil discards
}

// An Issuer decides about tokens. Its methods may be called at the same time.
type Issuer struct {
	url        string
	insecure   bool
	store      storage.Store
	keys       *keystore.Rings
	log        *slog.Logger
	refresh    Lifetimes // of clients that have none of their own
	clients    decoded[clientRecord]
	audiences  decoded[audienceRecord]
	users      decoded[userRecord]
	terms      termsCache
	ownKeys    ownKeySet
	graceNotes graceNotes
	passwords  *password.Hasher
	outbox     *outbox.Outbox // nil if there is no webhook

	refreshSecrets refreshSecrets
}

// Open checks the issuer URL and returns an Issuer over what the store holds.
func Open(ctx context.Context, cfg Config) (*Issuer, error) {
	if err := CheckURL(cfg.URL, cfg.Insecure); err != nil {
		return nil, err
	}
	i := &Issuer{
		url: cfg.URL, insecure: cfg.Insecure, store: cfg.Store, keys: cfg.Keys, log: cfg.Log, refresh: cfg.Refresh, outbox: cfg.Outbox,
		passwords: password.NewHasher(),
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	if i.refresh == (Lifetimes{}) {
		i.refresh = Lifetimes{DefaultGrace, DefaultIdle, DefaultAbsolute}
	}
	if err := i.loadRefreshSecrets(ctx); err != nil {
		return nil, fmt.Errorf("read refresh secrets: %w", err)
	}
	return i, nil
}

// URL returns the issuer as configured, to the byte.
func (i *Issuer) URL() string { return i.url }

// Grants lists the grant types that the token endpoint understands, sorted.
func (i *Issuer) Grants() []string { return sortedKeys(grants) }

// AuthMethods lists the ways in which a client may authenticate, sorted.
func (i *Issuer) AuthMethods() []string { return sortedKeys(authMethods) }

// Algorithms lists what tokens are signed with, one ring of keys each.
func (i *Issuer) Algorithms() []string { return i.keys.Algorithms() }

// AuditTail returns up to limit audit records after seq, oldest first.
func (i *Issuer) AuditTail(ctx context.Context, after uint64, limit int) ([]audit.Record, error) {
	list, err := audit.Tail(ctx, i.store, after, limit)
	return append([]audit.Record{}, list...), err // never nil: JSON shows []
}

// AuditLast returns the newest n audit records, oldest first.
func (i *Issuer) AuditLast(ctx context.Context, n int) ([]audit.Record, error) {
	list, err := audit.Last(ctx, i.store, n)
	return append([]audit.Record{}, list...), err
}

// CheckURL accepts scheme and host and nothing else. Verifiers compare the issuer
// as a string and some join paths to it, so everything that could be written in two
// ways is refused at the start instead of failing in somebody's middleware later.
func CheckURL(s string, insecure bool) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("the issuer is not set: it is this server's public URL, such as https://auth.example.com")
	case err != nil || u.Host == "" || !isVisible(s):
		return fmt.Errorf("issuer %q is not a URL such as https://auth.example.com", s)
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("issuer %q: the scheme must be https", s)
	case u.User != nil:
		return errors.New("the issuer must not hold a user or a password")
	case s != u.Scheme+"://"+strings.ToLower(u.Host):
		return fmt.Errorf("issuer %q must be scheme and host in lower case, without path, query, fragment or trailing slash", s)
	case !canonicalHost(u):
		return fmt.Errorf("issuer %q: the host must be a name or an address, a port 1 to 65535 and not the usual one", s)
	case u.Scheme == "http" && !insecure && !isLoopback(u.Hostname()):
		return fmt.Errorf("issuer %q must be https (or set insecure: true, and tokens travel in the clear)", s)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}
