// Package access decides which requests of admin.listen are let in, and as whom.
//
//	Host another name ─▶ 421     an Origin ─▶ 403
//	no token ─▶ 401     a token that is not valid ─▶ 401, and 429 after 100 of them from one address in 15 min
//	a route whose scope the token lacks ─▶ 403     a route of the socket ─▶ 403
//
// Tokens are in the Authorization header only (RFC 6750, section 2.1). Browsers are kept out: there is no
// CORS, a request with an Origin is refused, and a page that rebinds its name to the address of this server
// sends another Host. A cookie means nothing here.
package access

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"keymill/issuer"
	"keymill/issuer/adminscope"
	"keymill/issuer/endpoint/challenge"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// A Guard lets requests in. It is safe for concurrent use.
type Guard struct {
	hosts  Hosts
	issuer *issuer.Issuer
	failed *limit.AddressLimiter
	count  func(kind string) // of refused tokens, for the audit log
}

// NewGuard returns a Guard that has counted nothing.
func NewGuard(hosts Hosts, i *issuer.Issuer, share limit.Share, count func(kind string)) *Guard {
	return &Guard{hosts: hosts, issuer: i, failed: limit.NewAddressLimiter(share), count: count}
}

// Admit refuses a request that is for another host or comes from a page.
func (g *Guard) Admit(r *http.Request) error {
	if !g.hosts.serve(r.Host) {
		return refusal.New("wrong_host", "the admin API answers only for the host names of its certificate and for loopback, with its port")
	}
	if _, ok := r.Header["Origin"]; ok {
		return refusal.New("origin_refused", "no page of a browser may use the admin API")
	}
	return nil
}

// A Caller is the holder of a token.
type Caller struct {
	Client string   // that the token was issued to
	Scopes []string // of the token that the client still has
}

// Identify returns who sends a request from that address, or refuses it. A request without a token is not
// counted: it costs nothing and guesses nothing.
func (g *Guard) Identify(ctx context.Context, header http.Header, from netip.Addr) (*Caller, error) {
	token, err := bearer(header)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if wait := g.failed.Wait(from, now); wait > 0 {
		return nil, &limit.Error{RetryAfter: wait, Limit: limit.LimitAddress}
	}
	client, scopes, err := g.issuer.AdminToken(ctx, token)
	if errors.Is(err, issuer.ErrAdminToken) {
		g.failed.Failed(from, now)
		g.count("invalid_admin_token")
		refused := refusal.New("invalid_token", "the access token is invalid, expired, revoked or not for the admin API")
		refused.Cause = err
		return nil, challenge.New(refused, adminscope.Audience, `error="invalid_token"`)
	} else if err != nil {
		return nil, err
	}
	return &Caller{client, scopes}, nil
}

// bearer returns the token of a request.
func bearer(header http.Header) (refusal.Secret, error) {
	values := header["Authorization"]
	if len(values) > 1 {
		return "", challenge.New(refusal.New("invalid_request", "the request has more than one header Authorization"), adminscope.Audience, `error="invalid_request"`)
	}
	if len(values) == 1 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if token = strings.Trim(token, " "); strings.EqualFold(scheme, "Bearer") && token != "" {
			return refusal.Secret(token), nil
		}
	}
	return "", challenge.New(refusal.New("no_token", "the admin API needs an access token for audience %s in the header Authorization: Bearer", adminscope.Audience), adminscope.Audience)
}

// Check refuses a caller without the scope. Some routes are served on the socket only.
func (c *Caller) Check(needed adminscope.Scope) error {
	if needed.SocketOnly() {
		return refusal.New("socket_only", "this is served on the admin socket only: run the command on the server's machine")
	}
	if slices.Contains(c.Scopes, string(needed)) {
		return nil
	}
	refused := refusal.New("insufficient_scope", "this needs the scope %s, which the token or its client %s lacks", needed, c.Client)
	return challenge.New(refused, adminscope.Audience, `error="insufficient_scope"`, `scope="`+string(needed)+`"`)
}
