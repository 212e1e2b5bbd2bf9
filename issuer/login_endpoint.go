package issuer

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/storage"
)

// A LoginEndpoint names the HTTP endpoint where a user logs in. The configuration binds a client
// to each, so the client does not authenticate there.
type LoginEndpoint byte

// The login endpoints. A session keeps the one where it began.
const (
	LoginSimpleJWT LoginEndpoint = 1 + iota // POST /api/token/; idle 1 d unless the client says otherwise
	LoginBrowser                            // POST /session/login
)

// String returns the name that logs and audit records use.
func (e LoginEndpoint) String() string {
	switch e {
	case LoginSimpleJWT:
		return "simplejwt"
	case LoginBrowser:
		return "browser"
	}
	return "unknown"
}

// A RefreshRequest presents a refresh token at a login endpoint.
type RefreshRequest struct {
	Client   string // bound to the login endpoint by the configuration
	Token    refusal.Secret
	Audience string
	Scope    string
	From     netip.Addr
}

// Refresh rotates the refresh token of a session, as POST /token does for a client that
// authenticates. It refuses with invalid_grant and the other codes of RFC 6749, section 5.2.
func (i *Issuer) Refresh(ctx context.Context, req RefreshRequest) (Grant, error) {
	e, err := i.present(ctx, req.Token, presentation{
		client: Credentials{ClientID: req.Client}, bound: true, audience: req.Audience, scope: req.Scope, from: req.From,
	})
	if err != nil {
		return Grant{}, err
	}
	return i.sign(ctx, e)
}

// Logout ends the session of a refresh token of the client, of whatever generation. It refuses
// any other token with invalid_grant. It is no error if the session has ended already.
func (i *Issuer) Logout(ctx context.Context, req RefreshRequest) error {
	token, err := i.refreshSecrets.open(req.Token)
	if err != nil {
		return errInvalidToken(err)
	}
	now := i.keys.Now()
	return i.store.Update(ctx, func(tx storage.Tx) error {
		f, err := i.wholeFamily(tx, token.family)
		if err != nil {
			return err
		}
		if f == nil || f.terms.Client != req.Client {
			return errInvalidToken(errNoFamily)
		}
		return i.endUnlessEnded(decision{tx, now, "user:" + f.rec.user, req.From}, f, endedByLogout)
	})
}

// VerifyToken refuses with invalid_grant a token, access or refresh, that is not valid now for the
// client of a login endpoint. It changes nothing.
func (i *Issuer) VerifyToken(ctx context.Context, client string, token refusal.Secret) error {
	at := i.instant()
	if refresh, err := i.refreshSecrets.open(token); err == nil {
		return i.store.View(ctx, func(r storage.Reader) error {
			f, err := i.wholeFamily(r, refresh.family)
			if err != nil {
				return err
			}
			if f == nil || f.terms.Client != client || f.client == nil {
				return errInvalidToken(errNoFamily)
			}
			return i.wouldRefresh(r, f, refresh, at)
		})
	}
	claims, err := i.verifyOwn(token)
	if errors.Is(err, errNotAccess) {
		return errInvalidAccessToken(err)
	} else if err != nil {
		return err
	}
	return i.store.View(ctx, func(r storage.Reader) error { return i.verifyAccess(r, client, claims, at) })
}

func (i *Issuer) verifyAccess(r storage.Reader, client string, claims *jwks.Claims, at instant) error {
	rec, err := i.findClient(r, client)
	if err != nil {
		return err
	}
	if rec == nil || !slices.Contains(rec.Audiences, claims.Audience[0]) {
		return errInvalidAccessToken(errNoFamily)
	}
	active, err := i.active(r, claims, at.now)
	if err == nil && !active {
		err = errInvalidAccessToken(errEnded)
	}
	return err
}

// wouldRefresh refuses a refresh token that would not be answered with tokens now.
func (i *Issuer) wouldRefresh(r storage.Reader, f *family, token refreshToken, at instant) error {
	if f.client == nil {
		return errInvalidToken(errNoFamily)
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	switch {
	case f.state(at.now, limits) != stateLive:
		return errInvalidToken(errEnded)
	case endingOf(f.rec.classify(token.generation, at.served-f.rec.made, limits.Grace)) != notEnded:
		return errInvalidToken(errSpent)
	}
	return i.stillEntitled(r, f)
}

// stillEntitled refuses if the client has lost what the login agreed on. It asks for one audience
// of the session, because a session with several audiences is no error here.
func (i *Issuer) stillEntitled(r storage.Reader, f *family) error {
	if !slices.Contains(f.client.Grants, "refresh_token") {
		return errInvalidToken(errNoGrant)
	}
	ask := presentation{}
	if names := both(f.terms.Audiences, f.client.Audiences); len(names) > 0 {
		ask.audience = names[0]
	}
	_, err := i.entitleFamily(r, f, ask)
	return err
}
