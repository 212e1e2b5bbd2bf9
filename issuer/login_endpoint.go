package issuer

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"keymill/issuer/accesstoken"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// A LoginEndpoint names the HTTP endpoint where a user logs in. The configuration binds a client
// to each, so the client does not authenticate there.
type LoginEndpoint byte

// The login endpoints. A session keeps the one where it began.
const (
	LoginSimpleJWT LoginEndpoint = 1 + iota // POST /api/token/; idle time at most 1 d, unless the client has its own
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
	e, err := i.tryRefresh(ctx, req.Token, refreshAttempt{
		client: Credentials{ClientID: req.Client}, bound: true, audience: req.Audience, scope: req.Scope, from: req.From,
	})
	if err != nil {
		return Grant{}, err
	}
	return i.sign(ctx, e)
}

// Logout ends the session of a refresh token of the client, also of a replaced one. It refuses any
// other token with invalid_grant. If the session has already ended, Logout returns nil.
func (i *Issuer) Logout(ctx context.Context, req RefreshRequest) error {
	token, err := i.decode(ctx, req.Token)
	if err != nil {
		return err
	}
	now := i.keys.Now()
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		f, err := i.familyWithClient(tx, token.Family)
		if err != nil {
			return err
		}
		if f == nil || f.terms.Client != req.Client {
			return errInvalidToken(errNoSession)
		}
		return i.endUnlessEnded(decision{tx, now, "user:" + f.rec.user, req.From}, f, endedByLogout)
	})
	return i.aboutSession(ctx, token.Family, err)
}

// VerifyToken refuses with invalid_grant a token that is not valid now for the client of a login endpoint: a
// refresh token of the client, or an access token for one of its audiences, of any client. It changes
// nothing.
func (i *Issuer) VerifyToken(ctx context.Context, client string, token refusal.Secret) error {
	at := i.times()
	refresh, err := i.decode(ctx, token)
	if err == nil {
		err := i.store.View(ctx, func(r storage.Reader) error {
			f, err := i.familyWithClient(r, refresh.Family)
			if err != nil {
				return err
			}
			if f == nil || f.terms.Client != client || f.client == nil {
				return errInvalidToken(errNoSession)
			}
			return i.checkRefreshable(r, f, refresh, at)
		})
		return i.aboutSession(ctx, refresh.Family, err)
	}
	if refusal.CodeOf(err) == "" || !strings.Contains(string(token), ".") { // an access token has two dots
		return err
	}
	access, err := i.verifyOwn(token)
	if errors.Is(err, accesstoken.ErrInvalid) {
		return errInvalidAccessToken(err)
	} else if err != nil {
		return err
	}
	err = i.store.View(ctx, func(r storage.Reader) error { return i.verifyAccess(r, client, access, at) })
	about := i.aboutSession(ctx, access.Session, err)
	if reason := (*refusal.Reason)(nil); errors.As(about, &reason) && reason.User != access.Subject {
		return err // the log must not name another user because of the claim sid
	}
	return about
}

func (i *Issuer) verifyAccess(r storage.Reader, client string, t *accesstoken.Token, at times) error {
	rec, err := i.findClient(r, client)
	if err != nil {
		return err
	}
	if rec == nil || !slices.Contains(rec.Audiences, t.Audience) {
		return errInvalidAccessToken(refusal.Because("client_not_allowed", "the client does not exist or is not allowed the audience"))
	}
	active, err := i.active(r, t, at.now)
	if err == nil && !active {
		err = errInvalidAccessToken(refusal.Because("revoked", "the access token or its session was revoked or has expired"))
	}
	return err
}

// checkRefreshable refuses a refresh token with which a refresh would fail now.
func (i *Issuer) checkRefreshable(r storage.Reader, f *family, token refreshtoken.Token, at times) error {
	if f.client == nil {
		return errInvalidToken(errNoSession)
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	if state := f.state(at.now, limits); state != stateLive {
		return f.errEnded(state)
	}
	if e := endingOf(f.rec.classify(token.Generation, at.served-f.rec.rotatedAtServed, limits.Grace)); e != notEnded {
		return errInvalidToken(refusal.Because(endings[e].name, "a refresh with the token would end the session: "+endings[e].words))
	}
	return i.checkEntitlement(r, f)
}

// checkEntitlement refuses if the client is no longer allowed what the session was started with. It
// requests one audience of the session, because without one a session with several audiences would
// be refused.
func (i *Issuer) checkEntitlement(r storage.Reader, f *family) error {
	if !slices.Contains(f.client.Grants, "refresh_token") {
		return errInvalidToken(errGrantNotAllowed)
	}
	ask := refreshAttempt{}
	if names := record.Intersect(f.terms.Audiences, f.client.Audiences); len(names) > 0 {
		ask.audience = names[0]
	}
	_, err := i.entitleFamily(r, f, ask)
	return err
}
