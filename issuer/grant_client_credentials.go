package issuer

import (
	"context"
	"slices"
	"time"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// clientCredentials: a client asks for itself, so it is the subject, and it gets no
// refresh token: it can ask again.
func clientCredentials(i *Issuer, ctx context.Context, req TokenRequest) (entitlement, error) {
	var e entitlement
	now := i.keys.Now()
	err := i.store.View(ctx, func(r storage.Reader) error {
		var err error
		e, err = i.entitleClient(r, req, now)
		return err
	})
	return e, err
}

func (i *Issuer) entitleClient(r storage.Reader, req TokenRequest, now time.Time) (entitlement, error) {
	raw, err := getClient(r, req.Client.ClientID)
	if err != nil {
		return entitlement{}, err
	}
	client, err := i.authenticate(raw, req.Client, now)
	if err != nil {
		return entitlement{}, err
	}
	if !slices.Contains(client.Grants, "client_credentials") {
		return entitlement{}, refusal.New("unauthorized_client", "this client may not use the grant client_credentials")
	}
	name, audience, err := i.chooseAudience(r, req.Audience, client.Audiences)
	if err != nil {
		return entitlement{}, err
	}
	scope, err := chooseScopes(req.Scope, client.Scopes, audience.Scopes)
	if err != nil {
		return entitlement{}, err
	}
	return entitlement{
		subject: req.Client.ClientID, client: req.Client.ClientID,
		audience: name, terms: audience, scope: scope,
	}, nil
}

// chooseAudience returns the audience that was asked for, or the only one of mine. One
// that does not exist is refused like one that the client may not use.
func (i *Issuer) chooseAudience(r storage.Reader, asked string, mine []string) (string, *audienceRecord, error) {
	switch {
	case asked == "" && len(mine) == 1:
		asked = mine[0]
	case asked == "":
		return "", nil, refusal.New("invalid_target", "this client has %d audiences: name one with resource or audience", len(mine))
	case !slices.Contains(mine, asked):
		return "", nil, refusal.New("invalid_target", "this client may not ask for that audience")
	}
	key := audienceKey(asked)
	raw, err := r.Get(key)
	if err != nil {
		return "", nil, err // a client's audience cannot be removed: this is a fault
	}
	terms, err := i.audiences.read(key, raw)
	return asked, terms, err
}
