package issuer

import (
	"context"
	"errors"
	"slices"

	"keymill/issuer/record"
	"keymill/issuer/tally"
	"keymill/storage"
)

// A sessionList holds the families of one user and one client. It is one small record that logins
// write and rotations do not:
//
//	how many have ended 1 ‖ their ids, 16 each ‖ the ids of the others, 16 each
type sessionList struct {
	ended []familyID // in a permanent state and kept to explain them, the first to be deleted first
	open  []familyID // of all other families, and of some that have ended since, oldest first
}

const (
	// maxSessions is the limit for one user and client. Sessions in a permanent state do not count.
	maxSessions = 100
	// maxEnded is how many sessions that have ended are kept. A user who logs in and out without an end
	// would fill the disk otherwise.
	maxEnded = 100
	// endedAtOnce is how many of them a login deletes if there are more. At most maxSessions of the open
	// families join them at once, so there are never more than 200.
	endedAtOnce = 4
)

// remove removes a family and reports whether it was in the list.
func (l *sessionList) remove(id familyID) bool {
	before := len(l.ended) + len(l.open)
	other := func(o familyID) bool { return o == id }
	l.ended, l.open = slices.DeleteFunc(l.ended, other), slices.DeleteFunc(l.open, other)
	return len(l.ended)+len(l.open) < before
}

// errTooManySessions means that the list is full, and the eviction is missing or out of date.
var errTooManySessions = errors.New("the user has the maximum number of sessions through this client")

// sessionListPrefix leads to the lists of one user. It holds the length of the user id, so that an
// id with a slash cannot be read as the id of another user.
func sessionListPrefix(user string) string { return sessionListKey(user, "") }

func sessionListKey(user, client string) string {
	return "sessions/" + tally.Of{User: user, Client: client}.Name() // which has the same form
}

func readSessionList(r storage.Reader, user, client string) (sessionList, error) {
	raw, err := r.Get(sessionListKey(user, client))
	if errors.Is(err, storage.ErrNotFound) {
		return sessionList{}, nil
	} else if err != nil {
		return sessionList{}, err
	}
	return decodeSessionList(sessionListKey(user, client), raw)
}

func decodeSessionList(key string, raw []byte) (list sessionList, err error) {
	ids, ok := record.DecodeIDs(raw)
	if !ok || int(raw[0]) > min(len(ids), maxEnded+maxSessions) || len(ids)-int(raw[0]) > maxSessions {
		return list, storage.Damaged(key, "a list of sessions cannot have these %d bytes, or so many that have ended", len(raw))
	}
	ended := int(raw[0])
	return sessionList{ended: ids[:ended:ended], open: ids[ended:]}, nil
}

func putSessionList(tx storage.Tx, user, client string, list sessionList) error {
	ids := slices.Concat(list.ended, list.open)
	if len(ids) == 0 {
		return tx.Delete(sessionListKey(user, client))
	}
	raw := append(make([]byte, 0, 1+len(ids)*record.IDBytes), byte(len(list.ended)))
	for _, id := range ids {
		raw = append(raw, id[:]...)
	}
	return tx.Put(sessionListKey(user, client), raw)
}

// An eviction says which session ends to make space in a full list.
type eviction struct {
	seen   []familyID // the open families when the victim was chosen
	keep   []familyID // those of them that stay open
	ended  []familyID // those that are in a permanent state, and the victim
	victim *family    // the session that has to end; nil if enough others are in a permanent state
}

// addSession adds f to the list of its user and client. It returns errTooManySessions if the list
// is full and is no longer the one that v was chosen from.
func (i *Issuer) addSession(d decision, f *family, v eviction) error {
	list, err := readSessionList(d.tx, f.rec.user, f.terms.Client)
	if err != nil {
		return err
	}
	if len(list.open) >= maxSessions {
		if !slices.Equal(list.open, v.seen) {
			return errTooManySessions
		}
		list.open, list.ended = v.keep, append(list.ended, v.ended...)
		if err := i.evict(d, v.victim); err != nil {
			return err
		}
	}
	for n := 0; n < endedAtOnce && len(list.ended) > maxEnded; n++ {
		if err := i.deleteEnded(d.tx, list.ended[0]); err != nil {
			return err
		}
		list.ended = list.ended[1:]
	}
	list.open = append(slices.Clip(list.open), f.id)
	return putSessionList(d.tx, f.rec.user, f.terms.Client, list)
}

// deleteEnded deletes a family that has ended. Its tokens stay refused, as those of an unknown family. A
// damaged record stays as it is, and must not keep the user from logging in.
func (i *Issuer) deleteEnded(tx storage.Tx, id familyID) error {
	rec, err := i.readFamily(tx, id)
	if record.Unreadable(err) {
		i.damaged(err)
		return nil
	} else if rec == nil || err != nil {
		return err
	}
	return deleteFamily(tx, id, rec)
}

// evict ends the victim. It returns errTooManySessions if the victim was used after it was chosen.
func (i *Issuer) evict(d decision, victim *family) error {
	if victim == nil {
		return nil
	}
	f, err := i.familyWithClient(d.tx, victim.id)
	if err != nil || f == nil {
		return err
	}
	if f.rec.generation != victim.rec.generation {
		return errTooManySessions
	}
	return i.endUnlessEnded(d, f, endedByLimit)
}

// findEviction reads every family of a full list. It drops those in a permanent state. If there are
// none, it chooses the session that was unused for the longest time.
func (i *Issuer) findEviction(ctx context.Context, req SessionRequest) (eviction, error) {
	now := i.keys.Now()
	var found eviction
	err := i.store.View(ctx, func(r storage.Reader) error {
		found = eviction{}
		list, err := readSessionList(r, req.User, req.Client)
		if err != nil {
			return err
		}
		found.seen = list.open
		var staying []*family // also those that expired by idle time: a longer idle lifetime makes them live again
		for _, id := range found.seen {
			f, err := i.familyWithClient(r, id)
			if record.Unreadable(err) {
				i.damaged(err)
				continue
			} else if err != nil {
				return err
			}
			if f == nil {
				continue
			}
			if f.client == nil || f.state(now, i.lifetimes(f.client, f.rec.endpoint)).permanent() {
				found.ended = append(found.ended, id)
				continue
			}
			staying = append(staying, f)
			found.keep = append(found.keep, id)
		}
		if len(staying) < maxSessions {
			return nil
		}
		found.victim = slices.MinFunc(staying, func(a, b *family) int { return a.rec.lastUsed.Compare(b.rec.lastUsed) })
		found.keep = slices.DeleteFunc(found.keep, func(id familyID) bool { return id == found.victim.id })
		found.ended = append(found.ended, found.victim.id)
		return nil
	})
	return found, err
}
