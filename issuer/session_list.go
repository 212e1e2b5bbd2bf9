package issuer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"keymill/storage"
)

// A sessionList holds the families of one user and one client, oldest first. It is one small
// record that logins write and rotations do not.
type sessionList []familyID

// maxSessions is the limit for one user and client. Sessions in a permanent state do not count.
const maxSessions = 100

// errTooManySessions means that the list is full, and the eviction is missing or out of date.
var errTooManySessions = errors.New("the user has the maximum number of sessions through this client")

// sessionListPrefix leads to the lists of one user. It holds the length of the user id, so that an
// id with a slash cannot be read as the id of another user.
func sessionListPrefix(user string) string { return "sessions/" + twoDigits(len(user)) + user + "/" }

func twoDigits(n int) string { return string([]byte{'0' + byte(n/10), '0' + byte(n%10), '/'}) }

func sessionListKey(user, client string) string { return sessionListPrefix(user) + client }

func readSessionList(r storage.Reader, user, client string) (sessionList, error) {
	raw, err := r.Get(sessionListKey(user, client))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return decodeSessionList(raw)
}

func decodeSessionList(raw []byte) (sessionList, error) {
	if len(raw)%familyIDBytes != 0 {
		return nil, fmt.Errorf("%w: a list of sessions has %d bytes", errDamaged, len(raw))
	}
	var list sessionList
	for ids := range slices.Chunk(raw, familyIDBytes) {
		list = append(list, familyID(ids))
	}
	return list, nil
}

func putSessionList(tx storage.Tx, user, client string, list sessionList) error {
	if len(list) == 0 {
		return tx.Delete(sessionListKey(user, client))
	}
	raw := make([]byte, 0, len(list)*familyIDBytes)
	for _, id := range list {
		raw = append(raw, id[:]...)
	}
	return tx.Put(sessionListKey(user, client), raw)
}

// An eviction says which session ends to make space in a full list.
type eviction struct {
	seen   sessionList // the list when the victim was chosen
	keep   sessionList // the part that remains
	victim *family     // the session that has to end; nil if enough others are in a permanent state
}

// addSession adds f to the list of its user and client. It returns errTooManySessions if the list
// is full and is no longer the one that v was chosen from.
func (i *Issuer) addSession(d decision, f *family, v eviction) error {
	list, err := readSessionList(d.tx, f.rec.user, f.terms.Client)
	if err != nil {
		return err
	}
	if len(list) >= maxSessions {
		if !slices.Equal(list, v.seen) {
			return errTooManySessions
		}
		list = v.keep
		if err := i.evict(d, v.victim); err != nil {
			return err
		}
	}
	return putSessionList(d.tx, f.rec.user, f.terms.Client, append(slices.Clip(list), f.id))
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
		var err error
		if found.seen, err = readSessionList(r, req.User, req.Client); err != nil {
			return err
		}
		var staying []*family // also those that expired by idle time: a longer idle lifetime makes them live again
		for _, id := range found.seen {
			f, err := i.familyWithClient(r, id)
			if errors.Is(err, errDamaged) {
				continue
			} else if err != nil {
				return err
			}
			if f == nil || f.client == nil || f.state(now, i.lifetimes(f.client, f.rec.endpoint)).permanent() {
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
		return nil
	})
	return found, err
}
