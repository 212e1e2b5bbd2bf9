package issuer

import (
	"context"
	"errors"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/audience"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// An audienceRecord is the record of an audience, see package audience.
type audienceRecord = audience.Record

// AddAudience adds an audience. The same transaction raises the lifetime of its keys, so that no
// token of the audience outlives them.
func (i *Issuer) AddAudience(ctx context.Context, a api.Audience, by string) (api.Audience, error) {
	if a.TTL == "" {
		a.TTL = audience.DefaultTTL.String()
	}
	rec, err := i.checkAudience(a)
	if err != nil {
		return api.Audience{}, err
	}
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		if _, err := tx.Get(audience.Key(a.Name)); err == nil {
			return refusal.New("already_exists", "audience %s already exists", a.Name)
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := i.keys.RaiseMaxLifetime(tx, rec.Alg, rec.Lifetime()); err != nil {
			return err
		}
		if err := record.PutJSON(tx, audience.Key(a.Name), rec); err != nil {
			return err
		}
		return i.decision(tx, by).audit("audience.add", a.Name, rec.Detail())
	})
	if err != nil {
		return api.Audience{}, err
	}
	// The audience is durable. A crash here loses nothing: the rings read the lifetime at the
	// next start.
	added := rec.Show(a.Name)
	added.Warnings = rec.Warnings(a.Name, nil)
	return added, i.keys.Reload(context.WithoutCancel(ctx))
}

// SetAudience changes an audience. Its algorithm cannot change, because verifiers are configured
// with it.
func (i *Issuer) SetAudience(ctx context.Context, name string, c api.AudienceChange, by string, only ...api.Condition) (api.Audience, error) {
	var shown api.Audience
	if c.Claims != nil {
		if err := i.checkClaimsFor(ctx, name, *c.Claims); err != nil {
			return shown, err
		}
	}
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		before, err := i.readAudience(tx, name)
		if before != nil && before == i.admin {
			err = errBuiltIn("built_in")
		}
		if err != nil {
			return err
		}
		after, err := before.Change(name, c, i.keys.Now(), i.Algorithms())
		if err != nil {
			return err
		}
		if err := api.CheckAll(only, before.Show(name).ETag()); err != nil {
			return err
		}
		shown = after.Show(name)
		if after.Same(before) {
			return nil
		}
		shown.Warnings = after.Warnings(name, before)
		if err := i.keys.RaiseMaxLifetime(tx, after.Alg, after.Lifetime()); err != nil {
			return err
		}
		if err := record.PutJSON(tx, audience.Key(name), after); err != nil {
			return err
		}
		return i.decision(tx, by).audit("audience.set", name, after.Detail())
	})
	if err != nil {
		return api.Audience{}, err
	}
	return shown, i.keys.Reload(context.WithoutCancel(ctx)) // the change is durable, also if ctx has ended
}

// RemoveAudience removes an audience that no client names.
func (i *Issuer) RemoveAudience(ctx context.Context, name, by string, only ...api.Condition) error {
	return i.store.Update(ctx, func(tx storage.Tx) error {
		rec, err := i.readAudience(tx, name)
		if rec != nil && rec == i.admin {
			err = errBuiltIn("built_in")
		}
		if err != nil {
			return err
		}
		if rec.Clients > 0 {
			return refusal.New("in_use", "audience %s is used by %d client(s); remove it from them first", name, rec.Clients)
		}
		if err := errors.Join(api.CheckAll(only, rec.Show(name).ETag()), tx.Delete(audience.Key(name)), applied.Forget(tx, "audience", name)); err != nil {
			return err
		}
		return i.decision(tx, by).audit("audience.remove", name, rec.Detail())
	})
}

// Audience returns one audience.
func (i *Issuer) Audience(ctx context.Context, name string) (api.Audience, error) {
	var shown api.Audience
	err := i.store.View(ctx, func(r storage.Reader) error {
		rec, err := i.readAudience(r, name)
		if err == nil {
			shown = rec.Show(name)
		}
		return err
	})
	return shown, err
}

// ReadAudience returns an audience of a store that no Issuer has opened, as keymill doctor does.
func ReadAudience(ctx context.Context, s storage.Store, name string) (api.Audience, error) {
	return (&Issuer{store: s}).Audience(ctx, name)
}

// Audiences returns up to limit audiences whose names follow after, in order.
func (i *Issuer) Audiences(ctx context.Context, after string, limit int) ([]api.Audience, error) {
	if after != "" && !names.IsAudience(after) {
		return nil, refusal.New("invalid_request", "after must be an audience name")
	}
	var list []api.Audience
	err := record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		list = []api.Audience{}
		return record.Span{Prefix: "audience/", After: after, Limit: min(limit, maxListed)}.Each(r, setAside, func(name string, raw []byte) error {
			rec, err := audience.Decode(audience.Key(name), raw)
			if err == nil {
				list = append(list, rec.Show(name))
			}
			return err
		})
	})
	return i.insertBuiltIn(list, after, min(limit, maxListed)), err
}

func (i *Issuer) readAudience(r storage.Reader, name string) (*audienceRecord, error) {
	if rec := i.builtIn(name); rec != nil && i.adminAccepted {
		return rec, nil
	}
	if !names.IsAudience(name) {
		return nil, noAudience(name)
	}
	raw, err := r.Get(audience.Key(name))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, noAudience(name)
	} else if err != nil {
		return nil, err
	}
	return audience.Decode(audience.Key(name), raw)
}

func noAudience(name string) error {
	return refusal.New("not_found", "audience %s does not exist", refusal.Quoted(name))
}

// checkAudience returns the record of an audience, or refuses it.
func (i *Issuer) checkAudience(a api.Audience) (*audienceRecord, error) {
	if a.Name == adminscope.Audience {
		return nil, errBuiltIn("already_exists")
	}
	return audience.Check(a, i.Algorithms())
}

func setIfGiven[T any](field *T, change *T) {
	if change != nil {
		*field = *change
	}
}
