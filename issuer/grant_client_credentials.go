package issuer

import (
	"context"
	"slices"
	"time"

	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/storage"
)

// maxAhead is how old a signature may be when its token leaves. An older one is made again: a slow store can take seconds to confirm
// the decision, and the key can be revoked in that time.
const maxAhead = time.Second

// clientCredentials serves the grant client_credentials. The client is the subject. It gets no
// refresh token, because it can ask again.
//
// The token is signed while a store on the network confirms what the decision has read, and leaves after that.
func clientCredentials(i *Issuer, ctx context.Context, req TokenRequest) (Grant, error) {
	var e entitlement
	var signed signature
	var at time.Time // when it was made
	now, decided := i.keys.Now(), i.keys.WallTime()
	err := storage.ViewThen(ctx, i.store, func(r storage.Reader) (err error) {
		e, err = i.entitleClient(r, req, now)
		// The token may wait for its signature while its client is removed and added again. It belongs to
		// the client of this decision, see issuedBefore.
		e.decided = decided
		return err
	}, func() { signed, at = i.signQuietly(ctx, e), time.Now() })
	if err != nil {
		return Grant{}, err
	}
	if time.Since(at) > maxAhead {
		signed = i.signQuietly(ctx, e)
	}
	if err := i.keys.Current(); err != nil { // the process may have been paused while it waited for the store
		return Grant{}, err
	}
	return i.say(signed)
}

func (i *Issuer) entitleClient(r storage.Reader, req TokenRequest, now time.Time) (entitlement, error) {
	client, err := i.authenticate(r, req.Client, now)
	if err != nil {
		return entitlement{}, err
	}
	if !slices.Contains(client.Grants, "client_credentials") {
		return entitlement{}, refusal.New("unauthorized_client", "client is not allowed the client_credentials grant")
	}
	name, record, err := i.chooseAudience(r, req.Audience, client.Audiences)
	if err != nil {
		return entitlement{}, err
	}
	scope, err := scope.Choose(req.Scope, client.Scopes, record.Scopes)
	if err != nil {
		return entitlement{}, err
	}
	return entitlement{
		subject: req.Client.ClientID, client: req.Client.ClientID,
		audience: name, record: record, scope: scope, claims: client.Claims,
	}, nil
}
