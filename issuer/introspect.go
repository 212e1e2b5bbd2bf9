package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/epoch"
	"keymill/issuer/gone"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// An Introspection is the answer of POST /introspect (RFC 7662, section 2.2). Its zero
// value marshals as exactly {"active":false}.
type Introspection struct {
	Active    bool   `json:"active"`
	Issuer    string `json:"iss,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Client    string `json:"client_id,omitempty"`
	Username  string `json:"username,omitempty"`
	Scope     string `json:"scope,omitempty"`
	TokenType string `json:"token_type,omitempty"` // "Bearer", or "refresh_token"
	Expires   int64  `json:"exp,omitempty"`
	Issued    int64  `json:"iat,omitempty"`
	ID        string `json:"jti,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// Introspect refuses a client without a secret with invalid_client. A token that the client may
// not ask about and a token that is not valid get the same answer.
func (i *Issuer) Introspect(ctx context.Context, client Credentials, token refusal.Secret) (Introspection, error) {
	at := i.times()
	refresh, notRefresh := i.refreshSecrets.Decode(ctx, token)
	access, notAccess := i.verifyOwn(token)
	if notAccess != nil && !errors.Is(notAccess, accesstoken.ErrInvalid) {
		return Introspection{}, notAccess
	}
	if notRefresh != nil && !refreshtoken.IsInvalid(notRefresh) {
		return Introspection{}, notRefresh
	}
	var out Introspection
	err := i.store.View(ctx, func(r storage.Reader) error {
		out = Introspection{}
		asker, err := i.authenticate(r, client, at.now)
		switch {
		case err != nil:
			return err
		case asker.Public:
			return refusal.New("invalid_client", "a public client cannot introspect tokens")
		case notRefresh == nil:
			out, err = i.introspectRefresh(r, client.ClientID, refresh, at)
		case notAccess == nil && slices.Contains(asker.Introspect, access.Audience):
			out, err = i.introspectAccess(r, access, at.now)
		}
		return err
	})
	return out, err
}

// introspectRefresh answers about a refresh token of the asking client.
func (i *Issuer) introspectRefresh(r storage.Reader, asker string, token refreshtoken.Token, at times) (Introspection, error) {
	f, err := i.familyWithClient(r, token.Family)
	if f == nil || err != nil || f.terms.Client != asker {
		return Introspection{}, err
	}
	if err := i.checkRefreshable(r, f, token, at); err != nil {
		return Introspection{}, ignoreRefusal(err)
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	return Introspection{
		Active: true, Issuer: i.url, Subject: f.rec.user, Client: f.terms.Client, Username: f.user.Name, Scope: strings.Join(f.granted(), " "),
		TokenType: "refresh_token", Expires: f.rec.expires(limits).Unix(), Issued: f.rec.lastUsed.Unix(), SessionID: f.id.String(),
	}, nil
}

func (i *Issuer) introspectAccess(r storage.Reader, t *accesstoken.Token, now time.Time) (Introspection, error) {
	active, err := i.active(r, t, now)
	if err != nil || !active {
		return Introspection{}, err
	}
	out := Introspection{
		Active: true, Issuer: t.Issuer, Subject: t.Subject, Audience: t.Audience, Client: t.Client,
		Scope: t.Scope, TokenType: "Bearer", Expires: t.Expires.Unix(), Issued: t.Issued.Unix(), ID: t.ID,
	}
	if t.HasSession() {
		out.SessionID = t.Session.String()
		user, err := i.findUser(r, t.Subject)
		if err != nil || user == nil {
			return Introspection{}, err
		}
		out.Username = user.Name
	}
	return out, nil
}

// VerifyFor returns what an access token for the audience says, if it is valid at this moment as Introspect sees it.
// accesstoken.ErrInvalid means that it is not. An audience that does not exist is refused with not_found, whatever
// the token is.
func (i *Issuer) VerifyFor(ctx context.Context, audience string, token refusal.Secret) (*accesstoken.Token, error) {
	t, invalid := i.verifyOwn(token)
	if invalid == nil && t.Audience != audience {
		invalid = fmt.Errorf("%w: it is for another audience", accesstoken.ErrInvalid)
	}
	err := i.store.View(ctx, func(r storage.Reader) error {
		_, err := i.readAudience(r, audience)
		if err = cmp.Or(err, invalid); err != nil {
			return err
		}
		active, err := i.active(r, t, i.keys.Now())
		if err == nil && !active {
			err = fmt.Errorf("%w: it was revoked, or its session, user or client has ended", accesstoken.ErrInvalid)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// active checks the type of an access token whose signature is right, and every way to revoke it: the token
// itself, its session, its user, its client and the whole store.
func (i *Issuer) active(r storage.Reader, t *accesstoken.Token, now time.Time) (bool, error) {
	if typed, err := i.typed(r, t); !typed || err != nil {
		return false, err
	}
	if denied, err := accesstoken.IsDenied(r, t.ID); denied || err != nil {
		return false, err
	}
	if t.HasSession() {
		f, err := i.familyWithClient(r, t.Session)
		if f == nil || f.client == nil || err != nil || !f.owns(t) || f.denies(t) {
			return false, err
		}
		return f.state(now, i.lifetimes(f.client, f.rec.endpoint)) == stateLive, nil
	}
	store, err := epoch.Read(r)
	if err != nil || issuedBefore(t.Issued, store) {
		return false, err
	}
	client, err := i.findClient(r, t.Client)
	if client == nil || err != nil || client.Disabled || issuedBefore(t.Issued, client.Epoch) {
		return false, err
	}
	if t.Subject == t.Client {
		return true, nil
	}
	return i.subjectActive(r, t)
}

// issuedBefore reports whether a token with that iat is older than the epoch.
func issuedBefore(iat time.Time, e uint64) bool { return epoch.IsAfter(e, iat.Add(backdate)) }

// typed reports whether the token has the type of its audience, or the one that the audience had when the
// token was made. An audience that is gone decides nothing, and neither does one whose record is damaged: both
// types are of this server, and whether a token is revoked must be told, and changed, without the record.
func (i *Issuer) typed(r storage.Reader, t *accesstoken.Token) (bool, error) {
	rec, err := i.audienceOf(r, t.Audience)
	if record.Unreadable(err) {
		i.damaged(err)
		return true, nil
	}
	return err == nil && (rec == nil || rec.Accepts(t.Type, t.Expires)), err
}

// subjectActive decides by the subject of a token that has no session and is not of its client. This program
// makes no such token; another program does, with a key that was imported here. A subject that was never
// a user here decides nothing.
func (i *Issuer) subjectActive(r storage.Reader, t *accesstoken.Token) (bool, error) {
	user, err := i.findUser(r, t.Subject)
	if err != nil || user != nil {
		return err == nil && !user.Disabled && !issuedBefore(t.Issued, user.Epoch), err
	}
	if !names.IsUser(t.Subject) {
		return true, nil
	}
	removed, err := gone.Read(r, t.Subject)
	return err == nil && removed == nil, err
}

// ignoreRefusal returns nil for a refusal: the client that asks learns only "inactive".
func ignoreRefusal(err error) error {
	if refused := (*refusal.Refusal)(nil); errors.As(err, &refused) {
		return nil
	}
	return err
}
