package issuer

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/tally"
	"keymill/jwks"
	"keymill/storage"
	"keymill/storage/audit"
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
// learn of it; /introspect does. A session whose events are only counted at that moment stores no
// record per token: its tokens up to that one are denied, and a refresh gets another.
func (i *Issuer) deny(d decision, claims *jwks.Claims) error {
	if denied, err := isDenied(d.tx, claims.ID); denied || err != nil {
		return err
	}
	var f *family
	of := tally.Of{Client: claims.ClientID}
	if id, ok := record.ParseID(claims.SessionID); ok {
		var err error
		if f, err = i.family(d.tx, id); err != nil || f == nil || f.denies(claims) {
			return err // a token without its session is inactive
		}
		of = f.tally()
	}
	detail := map[string]string{"sub": claims.Subject}
	if d.from.IsValid() {
		detail["from"] = d.from.String()
	}
	d.now = i.keys.Now()
	own, err := i.auditOften(d, of, audit.Event{Action: "token.revoke", Target: claims.ID, Detail: detail})
	switch {
	case err != nil:
		return err
	case own || f == nil:
		return i.putDenied(d, claims)
	}
	f.rec.deniedUntil = latest(f.rec.deniedUntil, claims.IssuedAt)
	return d.tx.Put(familyKey(f.id), f.rec.encode())
}

// putDenied writes the record of a denied token. The claim exp is a wall time. The clean-up uses the
// erasure time, which is never ahead of the decision time. So the record is kept until after the token
// has expired.
func (i *Issuer) putDenied(d decision, claims *jwks.Claims) error {
	expires := d.now.Add(claims.Expires.Sub(i.keys.WallTime()) + time.Second)
	return errors.Join(d.tx.Put(deniedKey(claims.ID), record.Present()), d.tx.Put(dueKey(expires, dueToken, claims.ID), record.Present()))
}

// denies reports whether the session has denied the access token with those before it.
func (f *family) denies(claims *jwks.Claims) bool { return !claims.IssuedAt.After(f.rec.deniedUntil) }
