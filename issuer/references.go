package issuer

import (
	"errors"
	"slices"

	"keymill/issuer/refusal"
	"keymill/storage"
)

// What several records share is counted in the transaction that changes one of
// them: ids in one index, audiences and origins by how many clients name them.

func idKey(id string) string         { return "id/" + id }
func originKey(origin string) string { return "origin/" + origin }

// claimID takes an id out of the index that clients and users share.
func claimID(tx storage.Tx, id, kind string) error {
	if err := idFree(tx, id); err != nil {
		return err
	}
	return tx.Put(idKey(id), []byte(kind))
}

// idFree refuses an id that a client or a user has.
func idFree(r storage.Reader, id string) error {
	taken, err := r.Get(idKey(id))
	switch {
	case err == nil:
		return refusal.New("already_exists", "there is a %s %s already", taken, id)
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	return nil
}

// bindAudiences checks after against its audiences and counts who names them. A
// client that is new or goes away is an empty record on its other side.
func linkAudiences(tx storage.Tx, before, after *clientRecord) error {
	known := map[string]bool{} // scope → some audience of after has it
	was, is := before.named(), after.named()
	for _, name := range distinct(slices.Concat(was, is)) {
		rec, err := readAudience(tx, name)
		if r := (*refusal.Refusal)(nil); errors.As(err, &r) {
			return refusal.New("invalid_request", "%s", r.Hint)
		} else if err != nil {
			return err
		}
		change := difference(was, is, name)
		if slices.Contains(after.Audiences, name) {
			for _, s := range rec.Scopes {
				known[s] = true
			}
		}
		if change == 0 {
			continue
		}
		rec.Clients += change
		if err := putJSON(tx, audienceKey(name), rec); err != nil {
			return err
		}
	}
	for _, s := range after.Scopes {
		if !known[s] {
			return refusal.New("invalid_request", "scope '%s' belongs to none of the client's audiences", s)
		}
	}
	return nil
}

// named are the audiences that the client asks for, or asks about.
func (rec *clientRecord) named() []string {
	return distinct(slices.Concat(rec.Audiences, rec.Introspect))
}

// countOrigins keeps, for each origin, how many clients list it.
func countOrigins(tx storage.Tx, before, after []string) error {
	for _, o := range distinct(slices.Concat(before, after)) {
		change := difference(before, after, o)
		if change == 0 {
			continue
		}
		if err := addCount(tx, originKey(o), change); err != nil {
			return err
		}
	}
	return nil
}

// difference is 1 if name joins the list, -1 if it leaves it, 0 if neither.
func difference(before, after []string, name string) int {
	n := 0
	if slices.Contains(after, name) {
		n++
	}
	if slices.Contains(before, name) {
		n--
	}
	return n
}

// addCount changes a record that is a number, and deletes it at 0.
func addCount(tx storage.Tx, key string, change int) error {
	n := new(int)
	raw, err := tx.Get(key)
	if err == nil {
		n, err = decode[int](key, raw)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if *n += change; *n > 0 {
		return putJSON(tx, key, *n)
	}
	return tx.Delete(key)
}
