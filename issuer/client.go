package issuer

import (
	"context"
	"errors"
	"slices"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/client"
	"keymill/issuer/names"
	"keymill/issuer/origin"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// A clientRecord is what the store has of a client.
type clientRecord = client.Record

func clientKey(id string) string { return client.Key(id) }

// Client returns one client, without its secrets.
func (i *Issuer) Client(ctx context.Context, id string) (api.Client, error) {
	var shown api.Client
	err := i.store.View(ctx, func(r storage.Reader) error {
		rec, err := i.readClient(r, id)
		if err == nil {
			shown = rec.Show(id, i.keys.Now())
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
			shown = rec.Show(id, time.Now())
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
			rec, err := record.Decode(clientKey(id), raw, (*clientRecord).Possible)
			if err == nil {
				list = append(list, rec.Show(id, i.keys.Now()))
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
