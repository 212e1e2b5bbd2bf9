package issuer

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"keymill/issuer/object"
	"keymill/issuer/refusal"
)

// A TokenRequest is one POST /token, already parsed.
type TokenRequest struct {
	GrantType string
	Client    Credentials
	Scope     string         // space-separated, "" if absent
	Audience  string         // from resource and audience; endpoint refuses two different values
	Refresh   refusal.Secret // refresh_token
	From      netip.Addr     // the address of the client
}

// A Grant is the answer to a TokenRequest (RFC 6749, section 5.1).
type Grant struct {
	AccessToken string         `json:"access_token"`
	TokenType   string         `json:"token_type"`
	ExpiresIn   int64          `json:"expires_in"` // seconds
	Scope       string         `json:"scope,omitempty"`
	Refresh     refusal.Secret `json:"refresh_token,omitempty"`

	User       string        `json:"-"` // sub, if the token is a user's
	Session    string        `json:"-"` // its session
	RefreshFor time.Duration `json:"-"` // how long the refresh token is valid if it is not used
	Alg        string        `json:"-"` // that the access token is signed with
	Graced     bool          `json:"-"` // the refresh token was replaced before, and its successor is given out again
}

// JSON returns the answer as encoding/json writes g.
func (g Grant) JSON() []byte {
	room := len(g.AccessToken) + len(g.TokenType) + len(g.Scope) + len(g.Refresh) + len(`{"access_token":"","token_type":"","expires_in":86400,"scope":"","refresh_token":""}`)
	return object.New(room).Plain("access_token", g.AccessToken).Text("token_type", g.TokenType).Number("expires_in", g.ExpiresIn).
		TextIf("scope", g.Scope).TextIf("refresh_token", string(g.Refresh)).End()
}

// A grantFunc runs one grant. It decides about a request in one transaction of its own, and signs outside of it.
type grantFunc func(i *Issuer, ctx context.Context, req TokenRequest) (Grant, error)

// grants lists every grant; discovery reads it.
var grants = map[string]grantFunc{
	"client_credentials": clientCredentials, // RFC 6749, section 4.4
	"refresh_token":      refresh,           // RFC 6749, section 6
}

// Token answers one request for a token with a Grant, a *Refusal, or a fault. Unavailable tells which
// faults are temporary.
func (i *Issuer) Token(ctx context.Context, req TokenRequest) (Grant, error) {
	if req.GrantType == "" {
		return Grant{}, refusal.New("invalid_request", "grant_type is missing")
	}
	run, ok := grants[req.GrantType]
	if !ok {
		return Grant{}, refusal.New("unsupported_grant_type", "the supported grant types are %s", strings.Join(i.Grants(), ", "))
	}
	return run(i, ctx, req)
}
