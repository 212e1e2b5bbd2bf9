package issuer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/jwks"
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
	refresh, notRefresh := i.refreshSecrets.decode(token)
	claims, notAccess := i.verifyOwn(token)
	if notAccess != nil && !errors.Is(notAccess, errNotAccess) {
		return Introspection{}, notAccess
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
		case notAccess == nil && slices.Contains(asker.Introspect, claims.Audience[0]):
			out, err = i.introspectAccess(r, claims, at.now)
		}
		return err
	})
	return out, err
}

// introspectRefresh answers about a refresh token of the asking client.
func (i *Issuer) introspectRefresh(r storage.Reader, asker string, token refreshToken, at times) (Introspection, error) {
	f, err := i.familyWithClient(r, token.family)
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

func (i *Issuer) introspectAccess(r storage.Reader, claims *jwks.Claims, now time.Time) (Introspection, error) {
	active, err := i.active(r, claims, now)
	if err != nil || !active {
		return Introspection{}, err
	}
	out := Introspection{
		Active: true, Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience[0], Client: claims.ClientID,
		Scope: claims.Scope, TokenType: "Bearer", Expires: claims.Expires.Unix(), Issued: claims.IssuedAt.Unix(),
		ID: claims.ID, SessionID: claims.SessionID,
	}
	if claims.SessionID != "" {
		user, err := i.findUser(r, claims.Subject)
		if err != nil || user == nil {
			return Introspection{}, err
		}
		out.Username = user.Name
	}
	return out, nil
}

// active checks every way to revoke an access token whose signature is right: the token itself, its
// session, its user, its client and the whole store.
func (i *Issuer) active(r storage.Reader, claims *jwks.Claims, now time.Time) (bool, error) {
	if denied, err := isDenied(r, claims.ID); denied || err != nil {
		return false, err
	}
	if claims.SessionID != "" {
		id, ok := record.ParseID(claims.SessionID)
		if !ok {
			return false, nil
		}
		f, err := i.familyWithClient(r, id)
		if f == nil || f.client == nil || err != nil || f.denies(claims) {
			return false, err
		}
		return f.state(now, i.lifetimes(f.client, f.rec.endpoint)) == stateLive, nil
	}
	store, err := readStoreEpoch(r)
	if err != nil || issuedBefore(claims.IssuedAt, store) {
		return false, err
	}
	client, err := i.findClient(r, claims.ClientID)
	if client == nil || err != nil {
		return false, err
	}
	return !client.Disabled && !issuedBefore(claims.IssuedAt, client.Epoch), nil
}

// ignoreRefusal returns nil for a refusal: the client that asks learns only "inactive".
func ignoreRefusal(err error) error {
	if refused := (*refusal.Refusal)(nil); errors.As(err, &refused) {
		return nil
	}
	return err
}
