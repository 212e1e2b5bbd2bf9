// Package issuer decides who gets which token. It knows audiences, clients and
// grants, keeps their records, and writes every change into the audit log in the
// transaction that makes it. It speaks no HTTP: endpoint reads requests and writes
// answers, keystore signs.
//
// One request for a token, from left to right:
//
//	grant known? ─▶ client authentic? ─▶ may it use the grant? ─▶ which audience?
//	     ─▶ which scopes? ─▶ (the transaction ends) ─▶ claims ─▶ signature
//
// A no on the way is a *Refusal, and its Code is an error code of RFC 6749,
// section 5.2, or RFC 8707, section 2. The administrative calls refuse with
// "invalid_request", "not_found", "already_exists" and "in_use".
//
// Records, in JSON:
//
//	audience/<name>   algorithm, lifetime, scopes, profile, how many clients name it
//	client/<id>       grants, audiences, scopes, origins, hashes of its secrets
//	id/<id>           what the id stands for: clients and users share this index,
//	                  so that no user can be named like a client (RFC 9700, section 4.15)
//	origin/<origin>   how many clients list the web origin
//
// The name is always the last part of a key, so no name needs escaping. Lifetimes
// are whole seconds, because exp and iat are (RFC 7519, section 2).
package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
)

// Config is what an Issuer needs.
type Config struct {
	URL      string // the issuer, checked by New
	Insecure bool   // an http issuer that is not loopback is allowed
	Store    storage.Store
	Keys     *keystore.Rings
}

// An Issuer decides about tokens. Its methods may be called at the same time.
type Issuer struct {
	url       string
	insecure  bool
	store     storage.Store
	keys      *keystore.Rings
	clients   decoded[clientRecord]
	audiences decoded[audienceRecord]
}

// New checks the issuer URL and returns an Issuer over what the store holds.
func New(cfg Config) (*Issuer, error) {
	if err := checkURL(cfg.URL, cfg.Insecure); err != nil {
		return nil, err
	}
	return &Issuer{url: cfg.URL, insecure: cfg.Insecure, store: cfg.Store, keys: cfg.Keys}, nil
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

// checkURL accepts scheme and host and nothing else. Verifiers compare the issuer
// as a string and some join paths to it, so everything that could be written in two
// ways is refused at the start instead of failing in somebody's middleware later.
func checkURL(s string, insecure bool) error {
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
