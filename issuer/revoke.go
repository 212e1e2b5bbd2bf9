package issuer

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/due"
	"keymill/issuer/record"
	"keymill/issuer/refreshtoken"
	"keymill/issuer/refusal"
	"keymill/issuer/tally"
	"keymill/storage"
	"keymill/storage/audit"
)

// Revoke serves POST /revoke (RFC 7009). A refresh token of the client, also a replaced one, ends
// its session. An access token of the client is denied until it expires; it is refused with
// unsupported_token_type if it cannot be denied alone. Any other token is ignored. Revoke refuses with
// invalid_client.
func (i *Issuer) Revoke(ctx context.Context, client Credentials, token refusal.Secret, from netip.Addr) error {
	now := i.keys.Now()
	refresh, notRefresh := i.refreshSecrets.Decode(ctx, token)
	access, notAccess := i.verifyOwn(token)
	if notAccess != nil && !errors.Is(notAccess, accesstoken.ErrInvalid) {
		return notAccess
	}
	if notRefresh != nil && !refreshtoken.IsInvalid(notRefresh) {
		return notRefresh
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
		if access.Client != client.ClientID {
			return nil
		}
		return i.deny(d, access)
	})
}

// errNotAlone is for a valid access token that no record can name (RFC 7009, section 2.2.1).
var errNotAlone = refusal.New("unsupported_token_type",
	"the access token cannot be revoked alone: its jti is missing, has over %d characters or is not printable ASCII", accesstoken.MaxIDBytes)

// verifyOwn verifies an access token of this server for any audience.
func (i *Issuer) verifyOwn(token refusal.Secret) (*accesstoken.Token, error) {
	return i.accessTokens.Verify(string(token), i.keys.Published(), i.keys.WallTime())
}

func (i *Issuer) revokeFamily(d decision, client string, token refreshtoken.Token) error {
	f, err := i.familyWithClient(d.tx, token.Family)
	if f == nil || err != nil || f.terms.Client != client {
		return err
	}
	return i.endUnlessEnded(d, f, endedByClient)
}

// deny records that an access token is revoked. Services that verify tokens by themselves do not
// learn of it; /introspect does. A session whose events are only counted at that moment stores no
// record per token: its tokens up to that one are denied, and a refresh gets another.
func (i *Issuer) deny(d decision, t *accesstoken.Token) error {
	if typed, err := i.typed(d.tx, t); !typed || err != nil {
		return err
	}
	if denied, err := accesstoken.IsDenied(d.tx, t.ID); denied || err != nil {
		return err
	}
	var f *family
	of := tally.Of{Client: t.Client}
	if t.HasSession() {
		var err error
		if f, err = i.family(d.tx, t.Session); err != nil || f == nil || !f.owns(t) || f.denies(t) {
			return err // a token without its session is inactive
		}
		of = f.tally()
	}
	if t.ID == "" {
		return errNotAlone
	}
	detail := map[string]string{"sub": t.Subject}
	if d.from.IsValid() {
		detail["from"] = d.from.String()
	}
	d.now = i.keys.Now()
	own, err := i.auditOften(d, of, audit.Event{Action: "token.revoke", Target: t.ID, Detail: detail})
	switch {
	case err != nil:
		return err
	case own || f == nil:
		return i.putDenied(d, t)
	}
	f.rec.deniedUntil = record.Latest(f.rec.deniedUntil, t.Issued)
	return d.tx.Put(familyKey(f.id), f.rec.encode())
}

// putDenied writes the record of a denied token. The claim exp is a wall time. The clean-up uses the
// erasure time, which is never ahead of the decision time. So the record is kept until after the token
// has expired.
func (i *Issuer) putDenied(d decision, t *accesstoken.Token) error {
	expires := d.now.Add(time.Second).Add(t.Expires.Sub(i.keys.WallTime())) // Sub can return the longest Duration
	return errors.Join(d.tx.Put(accesstoken.DeniedKey(t.ID), record.Present()), d.tx.Put(due.Key(expires, due.Token, t.ID), record.Present()))
}

// denies reports whether the session has denied the access token with those before it.
func (f *family) denies(t *accesstoken.Token) bool { return !t.Issued.After(f.rec.deniedUntil) }

// owns reports whether the session can be that of the access token. Of a token that this program has made
// it always is.
func (f *family) owns(t *accesstoken.Token) bool {
	return f.rec.user == t.Subject && f.terms.Client == t.Client
}
