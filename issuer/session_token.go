package issuer

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// A RefreshRequest presents a refresh token at a door.
type RefreshRequest struct {
	Client   string // whom the configuration binds to the door
	Token    refusal.Secret
	Audience string
	Scope    string
	From     netip.Addr
}

// Refresh rotates a family as POST /token does for a client that has proved itself.
// It refuses with invalid_grant and the other codes of RFC 6749, section 5.2.
func (i *Issuer) Refresh(ctx context.Context, req RefreshRequest) (Grant, error) {
	e, err := i.present(ctx, req.Token, presentation{
		client: Credentials{ClientID: req.Client}, bound: true, audience: req.Audience, scope: req.Scope, from: req.From,
	})
	if err != nil {
		return Grant{}, err
	}
	return i.sign(ctx, e)
}

// Logout ends the family of the token: any generation of the client's own will do. It
// refuses with invalid_grant a token that is not one of the client's, and is silent
// about a family that has ended already.
func (i *Issuer) Logout(ctx context.Context, req RefreshRequest) error {
	token, err := i.refreshSecrets.open(req.Token)
	if err != nil {
		return notGood(err)
	}
	now := i.keys.Now()
	return i.store.Update(ctx, func(tx storage.Tx) error {
		f, err := i.wholeFamily(tx, token.family)
		if err != nil {
			return err
		}
		if f == nil || f.terms.Client != req.Client {
			return notGood(errNoFamily)
		}
		return i.endLiving(tx, f, endedByLogout, now, "user:"+f.rec.user, req.From)
	})
}

// VerifyToken tells whether a token, access or refresh, is good now at the client's door: it
// refuses with invalid_grant what is not. It changes nothing, whatever it is shown.
func (i *Issuer) VerifyToken(ctx context.Context, client string, token refusal.Secret) error {
	now, served := i.keys.Now(), i.keys.ServedTime()
	if refresh, err := i.refreshSecrets.open(token); err == nil {
		return i.store.View(ctx, func(r storage.Reader) error {
			f, err := i.wholeFamily(r, refresh.family)
			if err != nil {
				return err
			}
			if f == nil || f.terms.Client != client || f.client == nil {
				return notGood(errNoFamily)
			}
			return i.good(r, f, refresh, now, served)
		})
	}
	claims, err := i.checkOwn(token)
	if errors.Is(err, errNotAccess) {
		return notGood(err)
	} else if err != nil {
		return err
	}
	return i.store.View(ctx, func(r storage.Reader) error {
		rec, err := i.knownClient(r, client)
		if err != nil {
			return err
		}
		if rec == nil || !slices.Contains(rec.Audiences, claims.Audience[0]) {
			return notGood(errNoFamily)
		}
		active, err := i.active(r, claims, now)
		if err == nil && !active {
			err = notGood(errEnded)
		}
		return err
	})
}

// good tells whether the token would be answered now, without doing it.
func (i *Issuer) good(r storage.Reader, f *family, token refreshToken, now time.Time, served time.Duration) error {
	if f.client == nil {
		return notGood(errNoFamily)
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	switch {
	case f.fate(now, limits) != alive:
		return notGood(errEnded)
	case endingOf(f.rec.judge(token.generation, served-f.rec.made, limits.Grace)) != living:
		return notGood(errSpent)
	}
	return i.stillEntitled(r, f)
}

// stillEntitled refuses if the client has lost what the login agreed on. It asks about any
// audience of the family, so that having several is not taken for a fault.
func (i *Issuer) stillEntitled(r storage.Reader, f *family) error {
	if !slices.Contains(f.client.Grants, "refresh_token") {
		return notGood(errNoGrant)
	}
	ask := presentation{}
	if names := both(f.terms.Audiences, f.client.Audiences); len(names) > 0 {
		ask.audience = names[0]
	}
	_, err := i.entitleFamily(r, f, ask)
	return err
}
