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

// Revoke serves POST /revoke (RFC 7009): any generation of a family of the client's own
// ends the family, an access token of its own is denied until it expires; everything else
// is silently nothing. It refuses with invalid_client.
func (i *Issuer) Revoke(ctx context.Context, client Credentials, token refusal.Secret, from netip.Addr) error {
	now := i.keys.Now()
	refresh, notRefresh := i.refreshSecrets.open(token)
	claims, notAccess := i.checkOwn(token)
	if notAccess != nil && !errors.Is(notAccess, errNotAccess) {
		return notAccess
	}
	if notRefresh != nil && notAccess != nil { // nothing to write, so no writer's turn is taken
		return i.store.View(ctx, func(r storage.Reader) error { return i.proven(r, client, now) })
	}
	return i.store.Update(ctx, func(tx storage.Tx) error {
		if err := i.proven(tx, client, now); err != nil {
			return err
		}
		if notRefresh == nil {
			return i.revokeFamily(tx, client.ClientID, refresh, now, from)
		}
		if claims.ClientID != client.ClientID {
			return nil
		}
		return i.deny(tx, claims, now, from)
	})
}

// proven is nil if the client is who it says.
func (i *Issuer) proven(r storage.Reader, client Credentials, now time.Time) error {
	raw, err := getClient(r, client.ClientID)
	if err != nil {
		return err
	}
	_, err = i.authenticate(raw, client, now)
	return err
}

func (i *Issuer) revokeFamily(tx storage.Tx, client string, token refreshToken, now time.Time, from netip.Addr) error {
	f, err := i.wholeFamily(tx, token.family)
	if f == nil || err != nil || f.terms.Client != client {
		return err
	}
	return i.endLiving(tx, f, endedByClient, now, f.actor(), from)
}

// deny notes that an access token is not good any more. Services that verify on their own
// do not ask; /introspect does. exp belongs to the clock of stamps, the sweep has its own,
// which never passes that of decisions.
func (i *Issuer) deny(tx storage.Tx, claims *jwks.Claims, now time.Time, from netip.Addr) error {
	key := deniedKey(claims.ID)
	if _, err := tx.Get(key); err == nil || !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	expires := now.Add(claims.Expires.Sub(i.keys.WallTime()) + time.Second)
	err := errors.Join(tx.Put(key, dueMark), tx.Put(dueKey(expires, dueToken, claims.ID), dueMark))
	if err != nil {
		return err
	}
	detail := map[string]string{"sub": claims.Subject}
	if from.IsValid() {
		detail["from"] = from.String()
	}
	return i.audit(tx, "token.revoke", "client:"+claims.ClientID, claims.ID, detail)
}
