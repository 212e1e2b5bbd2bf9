package issuer

import (
	"context"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/epoch"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// inSeconds returns t with the precision of all instants that people see.
func inSeconds(t time.Time) time.Time { return t.Truncate(time.Second) }

// show describes f at now.
func (i *Issuer) show(f *family, now time.Time) api.Session {
	client := f.client
	if client == nil {
		client = &clientRecord{}
	}
	limits := i.lifetimes(client, f.rec.endpoint)
	s := api.Session{
		ID: f.id.String(), User: f.rec.user, Client: f.terms.Client, Endpoint: f.rec.endpoint.String(), State: "live",
		Created: inSeconds(f.rec.created), LastUsed: inSeconds(f.rec.lastUsed),
		Expires: inSeconds(f.rec.expires(limits)), AbsoluteEnd: inSeconds(f.rec.absolute(limits)),
		Generation: f.rec.generation, Graced: int(f.rec.retries) + i.retries.Get(f.id, f.rec.generation),
		Shared: f.rec.shared >= sharedGenerations, Audiences: f.terms.Audiences, Scope: strings.Join(f.granted(), " "),
	}
	if !f.rec.endedAt.IsZero() {
		s.Ended = new(inSeconds(f.rec.endedAt))
	}
	if state := f.state(now, limits); state != stateLive {
		if s.State, s.Reason = f.why(state); s.State != "expired" {
			s.State = "revoked"
		}
	}
	return s
}

// why says why f is in a state other than live: in a word for the log, and in words.
func (f *family) why(s familyState) (code, words string) {
	switch s {
	case stateEnded:
		return "revoked", endings[f.rec.end].words
	case stateIdle:
		return "expired", "it was not used for too long"
	case stateAbsolute:
		return "expired", "it reached its absolute lifetime"
	case stateExhausted:
		return "revoked", "it was refreshed the maximum number of times"
	}
	switch {
	case f.user == nil:
		return "unknown_user", "the user was removed"
	case f.client == nil:
		return "client_not_allowed", "the client was removed"
	case f.user.Disabled:
		return "disabled", "the user is disabled"
	case f.client.Disabled:
		return "client_not_allowed", "the client is disabled"
	case f.rec.epochs.user != f.current.user:
		return "revoked", "all sessions of the user were ended by a logout or a new password, or because the user was disabled"
	case f.rec.epochs.client != f.client.Epoch:
		return "revoked", "all sessions of the client were ended"
	}
	return "revoked", "all sessions of the store were ended"
}

// errEnded is the answer to a refresh token of a session that is not live.
func (f *family) errEnded(s familyState) error {
	code, words := f.why(s)
	return errInvalidToken(refusal.Because(code, "the session has ended: "+words))
}

// RevokeSession ends one session.
func (i *Issuer) RevokeSession(ctx context.Context, id, by string) (api.Session, error) {
	family, ok := record.ParseID(id)
	if !ok {
		return api.Session{}, refuseSessionID(id)
	}
	var shown api.Session
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		d := i.decision(tx, by)
		f, err := i.familyWithClient(tx, family)
		if err != nil {
			return err
		}
		if f == nil {
			return refusal.New("not_found", "session %s does not exist", refusal.Quoted(id))
		}
		if err := i.endUnlessEnded(d, f, endedByAdmin); err != nil {
			return err
		}
		shown = i.show(f, d.now)
		return nil
	})
	return shown, err
}

// RevokeClientSessions ends every session of a client, with one write.
func (i *Issuer) RevokeClientSessions(ctx context.Context, client, by string) error {
	return i.store.Update(ctx, func(tx storage.Tx) error {
		rec, err := i.readClient(tx, client)
		if err != nil {
			return err
		}
		if err := i.endClient(i.decision(tx, by), "client.revoke_sessions", client, rec); err != nil {
			return err
		}
		return record.PutJSON(tx, clientKey(client), rec)
	})
}

// endClient ends every session of a client: it moves the epoch of rec, which the caller stores.
func (i *Issuer) endClient(d decision, action, id string, rec *clientRecord) error {
	rec.Epoch = i.nextEpoch(rec.Epoch)
	if err := d.audit(action, id, nil); err != nil {
		return err
	}
	return i.notify(d, "client.revoked", map[string]string{
		"client_id": id, "reason": strings.TrimPrefix(action, "client."),
	})
}

// RotateRefreshSecret publishes another secret of refresh tokens. All servers have read it before one of them makes a
// token with it, 5 minutes later. The tokens of earlier secrets stay valid. It is refused while the one before is not
// used yet.
func (i *Issuer) RotateRefreshSecret(ctx context.Context, by string) (shown api.RefreshSecret, err error) {
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		d := i.decision(tx, by)
		number, used, err := i.refreshSecrets.Publish(tx, d.now)
		if err != nil {
			return err
		}
		shown = api.RefreshSecret{Number: int(number), Used: inSeconds(used).UTC()}
		return d.audit("session.rotate_secret", strconv.Itoa(shown.Number), nil)
	})
	if err != nil {
		return api.RefreshSecret{}, err
	}
	i.refreshSecrets.Reload(context.WithoutCancel(ctx)) // the secret is published; if this fails, Run reads it before it is used
	return shown, nil
}

// CheckEpoch returns an error if the epoch of the store, which every session needs, cannot be read.
func (i *Issuer) CheckEpoch(ctx context.Context) error {
	return i.store.View(ctx, func(r storage.Reader) error { _, err := epoch.Read(r); return err })
}

// RevokeAllSessions ends every session of the store, with one write.
func (i *Issuer) RevokeAllSessions(ctx context.Context, by string) error {
	return i.store.Update(ctx, func(tx storage.Tx) error {
		now, err := epoch.Read(tx)
		if err != nil {
			return err
		}
		if err := epoch.Put(tx, i.nextEpoch(now)); err != nil {
			return err
		}
		d := i.decision(tx, by)
		if err := d.audit("session.revoke_all", "", nil); err != nil {
			return err
		}
		return i.notify(d, epoch.StoreRevoked, nil)
	})
}
