package issuer

import (
	"errors"
	"slices"

	"keymill/issuer/record"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// References between records are updated in the transaction that changes one of them. All ids are
// in one index. For each audience and each origin the store has the number of clients that name it.

func idKey(id string) string       { return "id/" + id }
func originKey(name string) string { return "origin/" + name }

// checkIDUnused refuses the id of a client or user that exists.
func checkIDUnused(r storage.Reader, id string) error {
	taken, err := r.Get(idKey(id))
	switch {
	case err == nil:
		if err := checkKind(idKey(id), taken); err != nil {
			return err
		}
		return refusal.New("already_exists", "%s %s already exists", taken, id)
	case !errors.Is(err, storage.ErrNotFound):
		return err
	}
	return nil
}

// linkAudiences checks the audiences and scopes of after, and counts the clients of each audience.
// before is empty for a new client, after for one that is removed.
func linkAudiences(tx storage.Tx, before, after *clientRecord) error {
	known := map[string]bool{} // scope → an audience of the client has it
	was, is := before.named(), after.named()
	for _, name := range record.Distinct(slices.Concat(was, is)) {
		rec, err := readAudience(tx, name)
		if r := (*refusal.Refusal)(nil); errors.As(err, &r) { // not_found is about the path of a request
			return refusal.New("invalid_request", "audience %s does not exist", refusal.Quoted(name))
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
			return refusal.New("invalid_request", "scope '%s' is not a scope of the client's audiences", refusal.Quoted(s))
		}
	}
	return nil
}

// named returns the audiences that the client gets tokens for or introspects.
func (rec *clientRecord) named() []string {
	return record.Distinct(slices.Concat(rec.Audiences, rec.Introspect))
}

// countOrigins counts the clients of each origin.
func countOrigins(tx storage.Tx, before, after []string) error {
	for _, o := range record.Distinct(slices.Concat(before, after)) {
		change := difference(before, after, o)
		if change == 0 {
			continue
		}
		if err := record.AddCount(tx, originKey(o), change); err != nil {
			return err
		}
	}
	return nil
}

// difference returns 1 if name is only in after, -1 if it is only in before, and 0 otherwise.
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
