package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/names"
	"keymill/issuer/origin"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/issuer/secret"
	"keymill/storage"
)

type clientRecord struct {
	Public    bool      `json:"public,omitempty"`
	Disabled  bool      `json:"disabled,omitempty"`
	Grants    []string  `json:"grants"` // sorted, as the next three
	Audiences []string  `json:"audiences"`
	Scopes    []string  `json:"scopes"`
	Origins   []string  `json:"origins"`
	Created   time.Time `json:"created"`
	Epoch     uint64    `json:"epoch,omitempty"` // families with another one are outdated

	Introspect []string `json:"introspect,omitempty"` // sorted
	Grace      *int64   `json:"grace,omitempty"`      // seconds, as the next two; absent: as configured
	Idle       int64    `json:"idle,omitempty"`
	Absolute   int64    `json:"absolute,omitempty"`

	Claims json.RawMessage `json:"claims,omitempty"` // one object, checked

	Secrets []secret.Record `json:"secrets,omitempty"` // newest first; none if public
}

func clientKey(id string) string { return "client/" + id }

func (rec *clientRecord) show(id string, now time.Time) api.Client {
	s := rec.settings()
	c := api.Client{
		ID: id, Public: rec.Public, Disabled: rec.Disabled, Grants: s.Grants, Audiences: s.Audiences, Scopes: s.Scopes,
		Origins: s.Origins, Introspect: s.Introspect, Grace: s.Grace, Idle: s.Idle, Absolute: s.Absolute, Claims: s.Claims, Created: rec.Created,
	}
	c.SecretVersion = secret.Version(rec.Secrets)
	if len(rec.Secrets) == secret.Max && now.Before(rec.Secrets[1].Until) {
		c.OldSecretUntil = &rec.Secrets[1].Until
	}
	return c
}

// settings are what an administrator can choose of a client, as the admin API writes it.
func (rec *clientRecord) settings() api.NewClient {
	s := api.NewClient{
		Public: rec.Public, Grants: slices.Clone(rec.Grants), Audiences: slices.Clone(rec.Audiences),
		Scopes: slices.Clone(rec.Scopes), Origins: slices.Clone(rec.Origins),
		Introspect: record.Distinct(rec.Introspect), Idle: showSeconds(rec.Idle), Absolute: showSeconds(rec.Absolute),
	}
	if rec.Grace != nil {
		s.Grace = (time.Duration(*rec.Grace) * time.Second).String()
	}
	if len(rec.Claims) > 0 {
		json.Unmarshal(rec.Claims, &s.Claims) // written by us
	}
	return s
}

func showSeconds(n int64) string {
	if n == 0 {
		return ""
	}
	return (time.Duration(n) * time.Second).String()
}

func (rec *clientRecord) detail() map[string]string {
	kind := "confidential"
	if rec.Public {
		kind = "public"
	}
	d := map[string]string{
		"kind": kind, "grants": strings.Join(rec.Grants, " "), "audiences": strings.Join(rec.Audiences, " "),
		"scopes": strings.Join(rec.Scopes, " "), "origins": strings.Join(rec.Origins, " "),
	}
	shown := rec.settings()
	for name, value := range map[string]string{
		"introspect": strings.Join(rec.Introspect, " "), "grace": shown.Grace, "idle": shown.Idle, "absolute": shown.Absolute,
		"claims": strings.Join(claim.Names(rec.Claims), " "), // no values
	} {
		if value != "" {
			d[name] = value
		}
	}
	return d
}

// Client returns one client, without its secrets.
func (i *Issuer) Client(ctx context.Context, id string) (api.Client, error) {
	var shown api.Client
	err := i.store.View(ctx, func(r storage.Reader) error {
		rec, err := i.readClient(r, id)
		if err == nil {
			shown = rec.show(id, i.keys.Now())
		}
		return err
	})
	return shown, err
}

// ReadClient returns a client of a store that no Issuer has opened, as keymill doctor does.
func ReadClient(ctx context.Context, s storage.Store, id string) (api.Client, error) {
	var shown api.Client
	err := s.View(ctx, func(r storage.Reader) error {
		rec, err := new(Issuer).readClient(r, id)
		if err == nil {
			shown = rec.show(id, time.Now())
		}
		return err
	})
	return shown, err
}

// Clients returns up to limit clients whose ids follow after, in order.
func (i *Issuer) Clients(ctx context.Context, after string, limit int) ([]api.Client, error) {
	if after != "" && !names.IsClient(after) {
		return nil, refusal.New("invalid_request", "after must be a client id")
	}
	var list []api.Client
	err := record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		list = []api.Client{}
		return record.Span{Prefix: "client/", After: after, Limit: min(limit, maxListed)}.Each(r, setAside, func(id string, raw []byte) error {
			rec, err := record.Decode(clientKey(id), raw, (*clientRecord).possible)
			if err == nil {
				list = append(list, rec.show(id, i.keys.Now()))
			}
			return err
		})
	})
	return list, err
}

// Origins returns the origins that may call on behalf of a client at this moment. It is empty if
// the client is absent or disabled. An origin that could not be listed now is left out.
func (i *Issuer) Origins(ctx context.Context, id string) ([]string, error) {
	var list []string
	err := i.store.View(ctx, func(r storage.Reader) error {
		list = nil
		rec, err := i.findClient(r, id)
		if rec != nil && !rec.Disabled {
			list = slices.DeleteFunc(slices.Clone(rec.Origins), func(o string) bool { return origin.Check(o, i.insecure) != nil })
		}
		return err
	})
	return list, err
}

// KnowsOrigin reports whether any client lists the origin. A preflight request names no client, so
// no more can be checked.
func (i *Issuer) KnowsOrigin(ctx context.Context, sent string) (bool, error) {
	if origin.Check(sent, i.insecure) != nil {
		return false, nil
	}
	err := i.store.View(ctx, func(r storage.Reader) error {
		raw, err := r.Get(originKey(sent))
		if err == nil {
			_, err = record.Decode(originKey(sent), raw, record.PossibleCount)
		}
		return err
	})
	if errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// readClient returns a copy of the record of a client, or refuses with not_found.
func (i *Issuer) readClient(r storage.Reader, id string) (*clientRecord, error) {
	rec, err := i.findClient(r, id)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return nil, refusal.New("not_found", "client %s does not exist", refusal.Quoted(id))
	}
	return new(*rec), nil
}
