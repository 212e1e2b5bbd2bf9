package issuer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

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
	Family    string `json:"sid,omitempty"`
}

// Introspect refuses with invalid_client a client without a secret; about what the client
// may not ask, and what is not good, it says the same.
func (i *Issuer) Introspect(ctx context.Context, client Credentials, token refusal.Secret) (Introspection, error) {
	now, served := i.keys.Now(), i.keys.ServedTime()
	refresh, notRefresh := i.refreshSecrets.open(token)
	claims, notAccess := i.checkOwn(token)
	if notAccess != nil && !errors.Is(notAccess, errNotAccess) {
		return Introspection{}, notAccess
	}
	var out Introspection
	err := i.store.View(ctx, func(r storage.Reader) error {
		out = Introspection{}
		raw, err := getClient(r, client.ClientID)
		if err != nil {
			return err
		}
		asker, err := i.authenticate(raw, client, now)
		switch {
		case err != nil:
			return err
		case asker.Public:
			return refusal.New("invalid_client", "a client without a secret may not ask")
		case notRefresh == nil:
			out, err = i.introspectRefresh(r, client.ClientID, refresh, now, served)
		case notAccess == nil && slices.Contains(asker.Introspect, claims.Audience[0]):
			out, err = i.introspectAccess(r, claims, now)
		}
		return err
	})
	return out, err
}

// introspectRefresh tells a client about its own refresh tokens.
func (i *Issuer) introspectRefresh(r storage.Reader, asker string, token refreshToken, now time.Time, served time.Duration) (Introspection, error) {
	f, err := i.wholeFamily(r, token.family)
	if f == nil || err != nil || f.terms.Client != asker {
		return Introspection{}, err
	}
	if err := i.good(r, f, token, now, served); err != nil {
		return Introspection{}, silence(err)
	}
	limits := i.lifetimes(f.client, f.rec.endpoint)
	return Introspection{
		Active: true, Issuer: i.url, Subject: f.rec.user, Client: f.terms.Client, Username: f.user.Name, Scope: strings.Join(f.granted(), " "),
		TokenType: "refresh_token", Expires: f.rec.expires(limits).Unix(), Issued: f.rec.used.Unix(), Family: f.id.String(),
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
		ID: claims.ID, Family: claims.SessionID,
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

// active asks every source of revocation about an access token whose signature holds: the
// token's own, its family's, its user's, its client's and the store's. None hides another.
func (i *Issuer) active(r storage.Reader, claims *jwks.Claims, now time.Time) (bool, error) {
	if _, err := r.Get(deniedKey(claims.ID)); !errors.Is(err, storage.ErrNotFound) {
		return false, err
	}
	if claims.SessionID != "" {
		id, ok := parseFamilyID(claims.SessionID)
		if !ok {
			return false, nil
		}
		f, err := i.wholeFamily(r, id)
		if f == nil || f.client == nil || err != nil {
			return false, err
		}
		return f.fate(now, i.lifetimes(f.client, f.rec.endpoint)) == alive, nil
	}
	store, err := readStoreEpoch(r)
	if err != nil || issuedBefore(claims.IssuedAt, store) {
		return false, err
	}
	client, err := i.knownClient(r, claims.ClientID)
	if client == nil || err != nil {
		return false, err
	}
	return !client.Disabled && !issuedBefore(claims.IssuedAt, client.Epoch), nil
}

// silence makes nothing of a refusal: whoever asks learns no more than "inactive".
func silence(err error) error {
	if refused := (*refusal.Refusal)(nil); errors.As(err, &refused) {
		return nil
	}
	return err
}
