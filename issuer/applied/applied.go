// Package applied remembers which audiences, clients and verifiers keymill apply has made or taken over, so
// that it can later remove those that its files no longer name.
//
//	applied/<kind>/<name>   {"at": …, "by": …}      kind: audience, client or verifier
//
// The mark is written before the entry that it is about. So a crash leaves a mark without an entry, and never an
// entry that apply made and does not remember. The transaction that removes an entry removes its mark, see
// Forget, because an entry that is later added by other means must have none: an entry without a mark is
// never removed by apply.
package applied

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
	"keymill/storage/audit"
)

const (
	prefix       = "applied/"
	maxNameBytes = 200
)

// Kinds returns the kinds of entries that can have a mark.
func Kinds() []string { return []string{"audience", "client", "verifier"} }

// Marks are the marks of a store.
type Marks struct {
	Store   storage.Store
	Now     func() time.Time // the decision clock
	Damaged func(error)      // gets what is wrong with a record that List leaves out
}

// A markRecord is a record applied/<kind>/<name>.
type markRecord struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

func (rec *markRecord) possible() bool { return record.PossibleSecond(rec.At) }

func key(kind, name string) string { return prefix + kind + "/" + name }

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a record
// under key.
func CheckRecord(key string, raw []byte) error {
	if _, err := record.Decode(key, raw, (*markRecord).possible); err != nil {
		return err
	}
	kind, name, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	if check(kind, name) != nil {
		return storage.Damaged(key, "no such record has this name")
	}
	return nil
}

// check refuses what no entry can be called. Which of these names an entry can have is for the package of
// the entry to decide.
func check(kind, name string) error {
	if !slices.Contains(Kinds(), kind) {
		return refusal.New("invalid_request", "kind '%.100s' is not one of %s", refusal.Quoted(kind), strings.Join(Kinds(), ", "))
	}
	unprintable := func(c rune) bool { return c < ' ' || c > '~' }
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, unprintable) || strings.TrimSpace(name) != name {
		return refusal.New("invalid_request", "name '%.100s' must be 1 to %d printable ASCII characters without a space at either end",
			refusal.Quoted(name), maxNameBytes)
	}
	return nil
}

// List returns up to limit marks that follow after, "kind/name" of the last mark of the page before.
func (m *Marks) List(ctx context.Context, after string, limit int) ([]api.Applied, error) {
	var list []api.Applied
	err := record.View(ctx, m.Store, m.Damaged, func(r storage.Reader, setAside func(error)) error {
		list = []api.Applied{}
		return record.Span{Prefix: prefix, After: after, Limit: limit}.Each(r, setAside, func(path string, raw []byte) error {
			if err := CheckRecord(prefix+path, raw); err != nil {
				return err
			}
			rec, err := record.Decode(prefix+path, raw, (*markRecord).possible)
			if err == nil {
				kind, name, _ := strings.Cut(path, "/")
				list = append(list, rec.show(kind, name))
			}
			return err
		})
	})
	return list, err
}

func (rec *markRecord) show(kind, name string) api.Applied {
	return api.Applied{Kind: kind, Name: name, At: rec.At, By: rec.By}
}

// Put marks an entry. If it is marked already, Put writes nothing.
func (m *Marks) Put(ctx context.Context, kind, name, by string) (api.Applied, error) {
	if err := check(kind, name); err != nil {
		return api.Applied{}, err
	}
	var shown api.Applied
	err := m.Store.Update(ctx, func(tx storage.Tx) error {
		raw, err := tx.Get(key(kind, name))
		if err == nil {
			rec, err := record.Decode(key(kind, name), raw, (*markRecord).possible)
			if err == nil {
				shown = rec.show(kind, name)
			}
			return err
		} else if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		now := m.Now()
		rec := &markRecord{At: now.UTC().Truncate(time.Second), By: by}
		b, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		shown = rec.show(kind, name)
		return errors.Join(tx.Put(key(kind, name), b), audit.Append(tx, now, event("apply.mark", kind, name, by)))
	})
	return shown, err
}

// Remove removes a mark, also a damaged one, or refuses with not_found.
func (m *Marks) Remove(ctx context.Context, kind, name, by string) error {
	if err := check(kind, name); err != nil {
		return err
	}
	return m.Store.Update(ctx, func(tx storage.Tx) error {
		if _, err := tx.Get(key(kind, name)); errors.Is(err, storage.ErrNotFound) {
			return refusal.New("not_found", "%s %s was not applied", kind, refusal.Quoted(name))
		} else if err != nil && !errors.Is(err, storage.ErrDamaged) {
			return err
		}
		return errors.Join(tx.Delete(key(kind, name)), audit.Append(tx, m.Now(), event("apply.forget", kind, name, by)))
	})
}

// Forget removes the mark of an entry, if there is one, in the transaction that removes the entry. It writes no
// audit record: that of the entry says as much.
func Forget(tx storage.Tx, kind, name string) error { return tx.Delete(key(kind, name)) }

func event(action, kind, name, by string) audit.Event {
	return audit.Event{Action: action, By: by, Target: name, Detail: map[string]string{"kind": kind}}
}
