package issuer

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/scope"
	"keymill/storage"
)

// Lifetimes of an access token. A day is long, because verifiers do not ask whether it was revoked.
const (
	minTTL     = time.Second
	maxTTL     = 24 * time.Hour
	defaultTTL = 15 * time.Minute
)

// Profiles of the claims.
const (
	profileRFC9068   = "rfc9068"
	profileSimpleJWT = "simplejwt" // with the claims that djangorestframework-simplejwt needs
)

type audienceRecord struct {
	Alg     string   `json:"alg"`
	TTL     int64    `json:"ttl"`    // seconds
	Scopes  []string `json:"scopes"` // sorted
	Profile string   `json:"profile"`
	Clients int      `json:"clients"` // how many name it; kept in their transactions
}

func audienceKey(name string) string { return "audience/" + name }

func (rec *audienceRecord) ttl() time.Duration { return time.Duration(rec.TTL) * time.Second }

func (rec *audienceRecord) show(name string) api.Audience {
	return api.Audience{Name: name, Alg: rec.Alg, TTL: rec.ttl().String(), Scopes: rec.Scopes, Profile: rec.Profile, BuiltIn: name == adminscope.Audience}
}

func (rec *audienceRecord) detail() map[string]string {
	return map[string]string{
		"alg": rec.Alg, "ttl": rec.ttl().String(), "scopes": strings.Join(rec.Scopes, " "), "profile": rec.Profile,
	}
}

// AddAudience adds an audience. The same transaction raises the lifetime of its keys, so that no
// token of the audience outlives them.
func (i *Issuer) AddAudience(ctx context.Context, a api.Audience, by string) (api.Audience, error) {
	if a.TTL == "" {
		a.TTL = defaultTTL.String()
	}
	rec, err := i.checkAudience(a)
	if err != nil {
		return api.Audience{}, err
	}
	err = i.store.Update(ctx, func(tx storage.Tx) error {
		if _, err := tx.Get(audienceKey(a.Name)); err == nil {
			return refusal.New("already_exists", "audience %s already exists", a.Name)
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := i.keys.RaiseMaxLifetime(tx, rec.Alg, rec.ttl()); err != nil {
			return err
		}
		if err := putJSON(tx, audienceKey(a.Name), rec); err != nil {
			return err
		}
		return i.decision(tx, by).audit("audience.add", a.Name, rec.detail())
	})
	if err != nil {
		return api.Audience{}, err
	}
	// The audience is durable. A crash here loses nothing: the rings read the lifetime at the
	// next start.
	return rec.show(a.Name), i.keys.Reload(context.WithoutCancel(ctx))
}

// SetAudience changes an audience. Its algorithm cannot change, because verifiers are configured
// with it.
func (i *Issuer) SetAudience(ctx context.Context, name string, c api.AudienceChange, by string, only ...api.Condition) (api.Audience, error) {
	var shown api.Audience
	err := i.store.Update(ctx, func(tx storage.Tx) error {
		before, err := i.readAudience(tx, name)
		if before != nil && before == i.admin {
			err = errBuiltIn("built_in")
		}
		if err != nil {
			return err
		}
		a := before.show(name)
		setIfGiven(&a.TTL, c.TTL)
		setIfGiven(&a.Scopes, c.Scopes)
		setIfGiven(&a.Profile, c.Profile)
		after, err := i.checkAudience(a)
		if err != nil {
			return err
		}
		after.Clients = before.Clients
		if err := api.CheckAll(only, before.show(name).ETag()); err != nil {
			return err
		}
		shown = after.show(name)
		if after.TTL == before.TTL && after.Profile == before.Profile && slices.Equal(after.Scopes, before.Scopes) {
			return nil
		}
		if err := i.keys.RaiseMaxLifetime(tx, after.Alg, after.ttl()); err != nil {
			return err
		}
		if err := putJSON(tx, audienceKey(name), after); err != nil {
			return err
		}
		return i.decision(tx, by).audit("audience.set", name, after.detail())
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
		if err := errors.Join(api.CheckAll(only, rec.show(name).ETag()), tx.Delete(audienceKey(name))); err != nil {
			return err
		}
		return i.decision(tx, by).audit("audience.remove", name, rec.detail())
	})
}

// Audience returns one audience.
func (i *Issuer) Audience(ctx context.Context, name string) (api.Audience, error) {
	var shown api.Audience
	err := i.store.View(ctx, func(r storage.Reader) error {
		rec, err := i.readAudience(r, name)
		if err == nil {
			shown = rec.show(name)
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
	if after != "" && !validName(after) {
		return nil, refusal.New("invalid_request", "after must be an audience name")
	}
	var list []api.Audience
	err := record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		list = []api.Audience{}
		return record.Span{Prefix: "audience/", After: after, Limit: min(limit, maxListed)}.Each(r, setAside, func(name string, raw []byte) error {
			rec, err := record.Decode(audienceKey(name), raw, (*audienceRecord).possible)
			if err == nil {
				list = append(list, rec.show(name))
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
	if !validName(name) {
		return nil, noAudience(name)
	}
	raw, err := r.Get(audienceKey(name))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, noAudience(name)
	} else if err != nil {
		return nil, err
	}
	return record.Decode(audienceKey(name), raw, (*audienceRecord).possible)
}

func noAudience(name string) error {
	return refusal.New("not_found", "audience %s does not exist", refusal.Quoted(name))
}

// checkAudience returns the record of an audience, or refuses it.
func (i *Issuer) checkAudience(a api.Audience) (*audienceRecord, error) {
	if !validName(a.Name) {
		return nil, refusal.New("invalid_request", "audience name '%.100s' must be 1 to %d visible ASCII characters without spaces", refusal.Quoted(a.Name), maxNameBytes)
	}
	if a.Name == adminscope.Audience {
		return nil, errBuiltIn("already_exists")
	}
	if a.BuiltIn {
		return nil, refusal.New("invalid_request", "only audience %s is built in: leave out member 'built_in'", adminscope.Audience)
	}
	if !slices.Contains(i.Algorithms(), a.Alg) {
		return nil, refusal.New("invalid_request", "algorithm '%.100s' is not in keys.algorithms; choose from %s", refusal.Quoted(a.Alg), strings.Join(i.Algorithms(), ", "))
	}
	ttl, err := time.ParseDuration(a.TTL)
	if err != nil || ttl < minTTL || ttl > maxTTL || ttl%time.Second != 0 {
		return nil, refusal.New("invalid_request", "ttl '%.100s' is not 1s to 24h in whole seconds; write for example 15m", refusal.Quoted(a.TTL))
	}
	scopes, err := scope.Check(a.Scopes)
	if err != nil {
		return nil, err
	}
	switch {
	case a.Profile == "":
		a.Profile = profileRFC9068
	case a.Profile == profileSimpleJWT && a.Alg != "RS256":
		return nil, refusal.New("invalid_request", "djangorestframework-simplejwt cannot verify %s: give this audience alg RS256", a.Alg)
	case a.Profile != profileRFC9068 && a.Profile != profileSimpleJWT:
		return nil, refusal.New("invalid_request", "profile '%.100s' is neither rfc9068 nor simplejwt", refusal.Quoted(a.Profile))
	}
	return &audienceRecord{Alg: a.Alg, TTL: int64(ttl / time.Second), Scopes: scopes, Profile: a.Profile}, nil
}

func setIfGiven[T any](field *T, change *T) {
	if change != nil {
		*field = *change
	}
}
