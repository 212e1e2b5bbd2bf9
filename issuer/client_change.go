package issuer

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/claim"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/secret"
	"keymill/storage"
)

// maxOldFor is the longest time for which a replaced secret stays valid.
const maxOldFor = 90 * 24 * time.Hour

// AddClient adds a client. The answer holds the secret of a confidential client. It is not shown
// again, since the store has only its hash.
func (i *Issuer) AddClient(ctx context.Context, c api.NewClient, by string) (api.Client, error) {
	if !names.IsClient(c.ID) {
		return api.Client{}, refusal.New("invalid_request",
			"client id '%.100s' must be 1 to %d printable ASCII characters without a space at either end", refusal.Quoted(c.ID), names.MaxClientBytes)
	}
	now := i.keys.Now().UTC().Truncate(time.Second)
	rec := &clientRecord{Public: c.Public, Disabled: c.Disabled, Created: now}
	if err := rec.Set(c, i.insecure); err != nil {
		return api.Client{}, err
	}
	var err error
	if rec.Claims, err = claim.CheckFlat(c.Claims); err != nil {
		return api.Client{}, err
	}
	if err := i.checkIdle(rec); err != nil {
		return api.Client{}, err
	}
	if err := adminscope.CheckActor(by, "client add", c); err != nil {
		return api.Client{}, err
	}
	var made refusal.Secret
	switch {
	case c.SecretHash != "" && !rec.Public:
		rec.Secrets = []secret.Record{{Hash: []byte(c.SecretHash)}}
	case !rec.Public:
		made = secret.New()
		rec.Secrets = []secret.Record{secret.RecordOf(made)}
	}
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		var err error
		if rec.Epoch, err = i.reserveID(tx, c.ID, "client"); err != nil {
			return err
		}
		if err := i.linkAudiences(tx, &clientRecord{}, rec); err != nil {
			return err
		}
		if err := i.checkClaimsOf(tx, rec); err != nil {
			return err
		}
		if err := countOrigins(tx, nil, rec.Origins); err != nil {
			return err
		}
		if err := record.PutJSON(tx, clientKey(c.ID), rec); err != nil {
			return err
		}
		detail := rec.Detail()
		if rec.Disabled {
			detail["disabled"] = "true"
		}
		return i.decision(tx, by).audit("client.add", c.ID, detail)
	})
	if err != nil {
		return api.Client{}, err
	}
	shown := rec.Show(c.ID, now)
	shown.Secret = made
	return shown, nil
}

// SetClient changes a client. The change is in force from the next request on.
func (i *Issuer) SetClient(ctx context.Context, id string, c api.ClientChange, by string, only ...api.Condition) (api.Client, error) {
	var shown api.Client
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		before, err := i.readClient(tx, id)
		if err != nil {
			return err
		}
		after, err := i.changed(before, c)
		if err != nil {
			return err
		}
		if err := adminscope.CheckActor(by, "client set", before.Settings(), after.Settings()); err != nil {
			return err
		}
		newSecret := secret.Version(before.Secrets) != secret.Version(after.Secrets)
		if err := adminscope.CheckPromotion(id, before.Settings(), after.Settings(), newSecret); err != nil {
			return err
		}
		shown = after.Show(id, i.keys.Now())
		// Only what changes is checked. An audience may have lost a scope in the meantime,
		// and an administrator must still be able to disable the client.
		if c.Audiences != nil || c.Scopes != nil || c.Introspect != nil {
			if err := i.linkAudiences(tx, before, after); err != nil {
				return err
			}
		}
		if c.Audiences != nil || c.Claims != nil {
			if err := i.checkClaimsOf(tx, after); err != nil {
				return err
			}
		}
		if err := countOrigins(tx, before.Origins, after.Origins); err != nil {
			return err
		}
		if err := api.CheckAll(only, before.Show(id, i.keys.Now()).ETag()); err != nil {
			return err
		}
		return i.putChanged(i.decision(tx, by), id, before, after)
	})
	return shown, err
}

// changed applies c to a copy of before.
func (i *Issuer) changed(before *clientRecord, c api.ClientChange) (*clientRecord, error) {
	after, want := *before, before.Settings()
	setIfGiven(&want.Grants, c.Grants)
	setIfGiven(&want.Audiences, c.Audiences)
	setIfGiven(&want.Scopes, c.Scopes)
	setIfGiven(&want.Origins, c.Origins)
	setIfGiven(&want.Introspect, c.Introspect)
	setIfGiven(&want.Grace, c.Grace)
	setIfGiven(&want.Idle, c.Idle)
	setIfGiven(&want.Absolute, c.Absolute)
	setIfGiven(&after.Disabled, c.Disabled)
	given := []secret.Record{{Hash: []byte(c.SecretHash)}}
	if c.SecretHash != "" && !after.Public && secret.Version(given) != secret.Version(after.Secrets) {
		after.Secrets = given
	}
	err := after.Set(want, i.insecure)
	if err == nil && c.Claims != nil { // a later version may reserve more names, and the client can be disabled still
		after.Claims, err = claim.CheckFlat(*c.Claims)
	}
	if err == nil && (c.Idle != nil || c.Absolute != nil) {
		err = i.checkIdle(&after)
	}
	return &after, err
}

// checkIdle refuses an idle lifetime that the configured absolute one would silently shorten. It is
// checked only when one of the two changes: the configuration may have changed since, and an
// administrator must still be able to disable the client.
func (i *Issuer) checkIdle(rec *clientRecord) error {
	idle := time.Duration(rec.Idle) * time.Second
	if rec.Absolute == 0 && idle > i.refresh.Absolute {
		return refusal.New("invalid_request", "idle is %s and must be at most refresh.absolute (%s); give absolute as well",
			api.ShowDuration(idle), api.ShowDuration(i.refresh.Absolute))
	}
	return nil
}

// putChanged stores after, and writes the changes into the audit log.
func (i *Issuer) putChanged(d decision, id string, before, after *clientRecord) error {
	if reflect.DeepEqual(before, after) {
		return nil
	}
	if was, is := before.Detail(), after.Detail(); !maps.Equal(was, is) {
		if err := d.audit("client.set", id, is); err != nil {
			return err
		}
	}
	var err error
	if secret.Version(before.Secrets) != secret.Version(after.Secrets) {
		err = d.audit("client.rotate_secret", id, map[string]string{"old_until": "now"})
	}
	switch {
	case err != nil:
	case after.Disabled && !before.Disabled:
		err = i.endClient(d, "client.disable", id, after)
	case before.Disabled && !after.Disabled:
		err = d.audit("client.enable", id, nil)
	}
	if err != nil {
		return err
	}
	return record.PutJSON(d.tx, clientKey(id), after)
}

// RotateSecret gives a client a new secret. The previous secret stays valid for oldFor; older
// secrets are removed. Two valid secrets are enough to replace one without an outage.
func (i *Issuer) RotateSecret(ctx context.Context, id string, oldFor time.Duration, by string) (api.Client, error) {
	if oldFor < 0 || oldFor > maxOldFor {
		return api.Client{}, refusal.New("invalid_request", "old_for must be 0s to %s", api.ShowDuration(maxOldFor))
	}
	made := secret.New()
	var shown api.Client
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		rec, err := i.readClient(tx, id)
		if err != nil {
			return err
		}
		if rec.Public {
			return refusal.New("invalid_request", "client %s is public and has no secret", id)
		}
		if err := adminscope.CheckActor(by, "client rotate-secret", rec.Settings()); err != nil {
			return err
		}
		now := i.keys.Now()
		list, until := []secret.Record{secret.RecordOf(made)}, "now"
		if oldFor > 0 {
			old := rec.Secrets[0]
			old.Until = now.Add(oldFor).UTC().Truncate(time.Second)
			list, until = append(list, old), old.Until.Format(time.RFC3339)
		}
		rec.Secrets = list
		shown = rec.Show(id, now)
		if err := record.PutJSON(tx, clientKey(id), rec); err != nil {
			return err
		}
		return i.decision(tx, by).audit("client.rotate_secret", id, map[string]string{"old_until": until})
	})
	if err != nil {
		return api.Client{}, err
	}
	shown.Secret = made
	return shown, nil
}

// RemoveClient removes a client. Its id can be used again, with a later epoch.
func (i *Issuer) RemoveClient(ctx context.Context, id, by string, only ...api.Condition) error {
	return i.store.Update(ctx, func(tx storage.Tx) error {
		rec, err := i.readClient(tx, id)
		if err != nil {
			return err
		}
		unchanged := api.CheckAll(only, rec.Show(id, i.keys.Now()).ETag())
		if err := adminscope.CheckActor(by, "client remove", rec.Settings()); err != nil {
			return err
		}
		if err := i.linkAudiences(tx, rec, &clientRecord{}); err != nil {
			return err
		}
		if err := countOrigins(tx, rec.Origins, nil); err != nil {
			return err
		}
		d := i.decision(tx, by)
		if err := i.endClient(d, "client.remove", id, rec); err != nil {
			return err
		}
		return errors.Join(tx.Delete(clientKey(id)), applied.Forget(tx, "client", id), d.leave(id, rec.Epoch), unchanged)
	})
}
