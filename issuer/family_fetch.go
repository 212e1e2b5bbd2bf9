package issuer

import (
	"keymill/issuer/audience"
	"keymill/issuer/due"
	"keymill/issuer/epoch"
	"keymill/issuer/loginterms"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/sessionlist"
)

// fetchFamilies reads families and everything that decides about them: at first the families, then their users
// and clients. That takes two round trips however many they are, and a third one if their terms are not in
// memory yet. more are other keys for the first one.
func (i *Issuer) fetchFamilies(r *record.Ahead, ids []familyID, more ...string) error {
	keys := append(more, epoch.Key)
	for _, id := range ids {
		keys = append(keys, familyKey(id))
	}
	for round, all := 0, false; round < 3; round++ {
		if err := r.Fetch(keys...); err != nil || all {
			return err
		}
		keys, all = keys[:0], true
		for _, id := range ids {
			keys, all = i.appendNeeds(keys, all, r, id)
		}
	}
	return nil
}

// appendNeeds appends the keys of records that a family needs. It returns false for all if r has not read enough to know
// all of them.
func (i *Issuer) appendNeeds(keys []string, all bool, r *record.Ahead, id familyID) ([]string, bool) {
	if !r.Has(familyKey(id)) {
		return keys, all
	}
	rec, err := i.readFamily(r, id)
	if rec == nil || err != nil {
		return keys, all
	}
	keys = append(keys, userKey(rec.user))
	if key := loginterms.Key(rec.terms); !i.terms.Knows(rec.terms) && !r.Has(key) {
		return append(keys, key), false
	}
	if terms, err := i.terms.Read(r, rec.terms); err == nil {
		keys = append(keys, clientKey(terms.Client))
	}
	return keys, all
}

// fetchSession reads what the beginning of a session needs, in two round trips, or one if no session ends for it.
func fetchSession(w *record.Writer, req SessionRequest, v eviction) error {
	keys := append(keysOf(req.Client, req.Audience), epoch.Key)
	if v.victim != nil {
		keys = append(keys, familyKey(v.victim.id))
	}
	listed := names.IsUser(req.User) && names.IsClient(req.Client)
	if listed {
		keys = append(keys, userKey(req.User), sessionlist.Key(req.User, req.Client))
	}
	if err := w.Fetch(keys...); err != nil || !listed {
		return err
	}
	list, err := sessionlist.Read(w, req.User, req.Client)
	if err != nil || len(list.Ended)+len(v.ended) <= sessionlist.MaxEnded {
		return nil // addSession tells of an error
	}
	keys = keys[:0]
	for _, id := range list.Ended[:min(endedAtOnce, len(list.Ended))] {
		keys = append(keys, familyKey(id))
	}
	return w.Fetch(keys...)
}

// fetchDue reads the records that the entries lead to, with everything that decides about them and the lists of the
// sessions.
func (i *Issuer) fetchDue(w *record.Writer, entries []due.Entry) error {
	var keys []string
	var ids []familyID
	for _, e := range entries {
		keys = append(keys, e.Key)
		switch id, isFamily := record.ParseID(e.ID); {
		case e.Kind != due.Family:
			keys = append(keys, e.Leads())
		case isFamily:
			ids = append(ids, id)
		}
	}
	if err := i.fetchFamilies(&w.Ahead, ids, keys...); err != nil {
		return err
	}
	keys = keys[:0]
	for _, id := range ids {
		rec, err := i.readFamily(w, id)
		if rec == nil || err != nil {
			continue
		}
		if terms, err := i.terms.Read(w, rec.terms); err == nil {
			keys = append(keys, sessionlist.Key(rec.user, terms.Client))
		}
	}
	return w.Fetch(keys...)
}

// keysOf returns the keys of the client and the audience that a request names, if it can be theirs.
func keysOf(client, name string) (keys []string) {
	if names.IsClient(client) {
		keys = append(keys, clientKey(client))
	}
	if names.IsAudience(name) {
		keys = append(keys, audience.Key(name))
	}
	return keys
}
