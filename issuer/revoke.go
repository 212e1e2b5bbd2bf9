package issuer

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"keymill/issuer/refusal"
	"keymill/jwks"
	"keymill/storage"
)

// Revoke serves POST /revoke (RFC 7009). A refresh token of the client, also a replaced one, ends
// its session. An access token of the client is denied until it expires. Any other token is
// ignored. Revoke refuses with invalid_client.
func (i *Issuer) Revoke(ctx context.Context, client Credentials, token refusal.Secret, from netip.Addr) error {
	now := i.keys.Now()
	refresh, notRefresh := i.refreshSecrets.decode(token)
	claims, notAccess := i.verifyOwn(token)
	if notAccess != nil && !errors.Is(notAccess, errNotAccess) {
		return notAccess
	}
	if notRefresh != nil && notAccess != nil { // nothing to write
		return i.store.View(ctx, func(r storage.Reader) error {
			_, err := i.authenticate(r, client, now)
			return err
		})
	}
	return i.store.Update(ctx, func(tx storage.Tx) error {
		if _, err := i.authenticate(tx, client, now); err != nil {
			return err
		}
		d := decision{tx, now, "client:" + client.ClientID, from}
		if notRefresh == nil {
			return i.revokeFamily(d, client.ClientID, refresh)
		}
		if claims.ClientID != client.ClientID {
			return nil
		}
		return i.deny(d, claims)
	})
}

func (i *Issuer) revokeFamily(d decision, client string, token refreshToken) error {
	f, err := i.familyWithClient(d.tx, token.family)
	if f == nil || err != nil || f.terms.Client != client {
		return err
	}
	return i.endUnlessEnded(d, f, endedByClient)
}

// deny records that an access token is revoked. Services that verify tokens by themselves do not
// learn of it; /introspect does. The claim exp is a wall time. The clean-up uses the erasure time,
// which is never ahead of the decision time. So the record is kept until after the token has
// expired.
func (i *Issuer) deny(d decision, claims *jwks.Claims) error {
	key := deniedKey(claims.ID)
	if _, err := d.tx.Get(key); err == nil || !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	expires := d.now.Add(claims.Expires.Sub(i.keys.WallTime()) + time.Second)
	err := errors.Join(d.tx.Put(key, presentValue), d.tx.Put(dueKey(expires, dueToken, claims.ID), presentValue))
	if err != nil {
		return err
	}
	detail := map[string]string{"sub": claims.Subject}
	if d.from.IsValid() {
		detail["from"] = d.from.String()
	}
	d.now = i.keys.Now()
	return d.audit("token.revoke", claims.ID, detail)
}
