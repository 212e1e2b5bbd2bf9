package issuer

import (
	"context"
	"errors"
	"slices"

	"keymill/issuer/record"
	"keymill/issuer/sessionlist"
	"keymill/storage"
)

// endedAtOnce is how many sessions that have ended a login deletes if there are more than
// sessionlist.MaxEnded. At most sessionlist.Max open ones join them at once.
const endedAtOnce = 4

// errTooManySessions means that the list is full, and the eviction is missing or out of date.
var errTooManySessions = errors.New("the user has the maximum number of sessions through this client")

// An eviction says which session ends to make space in a full list.
type eviction struct {
	seen   []familyID // the open families when the victim was chosen
	keep   []familyID // those of them that stay open
	ended  []familyID // those that are in a permanent state, and the victim
	victim *family    // the session that has to end; nil if enough others are in a permanent state
}

// addSession adds f to the list of its user and client. It returns errTooManySessions if the list
// is full and is no longer the one that v was chosen from.
func (i *Issuer) addSession(d decision, f *family, v eviction, setAside func(error)) error {
	list, err := sessionlist.Read(d.tx, f.rec.user, f.terms.Client)
	if err != nil {
		return err
	}
	if len(list.Open) >= sessionlist.Max {
		if !slices.Equal(list.Open, v.seen) {
			return errTooManySessions
		}
		list.Open, list.Ended = v.keep, append(list.Ended, v.ended...)
		if err := i.evict(d, v.victim); err != nil {
			return err
		}
	}
	for n := 0; n < endedAtOnce && len(list.Ended) > sessionlist.MaxEnded; n++ {
		if err := i.deleteEnded(d.tx, list.Ended[0], setAside); err != nil {
			return err
		}
		list.Ended = list.Ended[1:]
	}
	list.Open = append(slices.Clip(list.Open), f.id)
	return list.Put(d.tx, f.rec.user, f.terms.Client)
}

// deleteEnded deletes a family that has ended. Its tokens stay refused, as those of an unknown family. A
// damaged record stays as it is, and must not keep the user from logging in.
func (i *Issuer) deleteEnded(tx storage.Tx, id familyID, setAside func(error)) error {
	rec, err := i.readFamily(tx, id)
	if record.Unreadable(err) {
		setAside(err)
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
	err := record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		found = eviction{}
		var damage error
		list, err := sessionlist.Read(r, req.User, req.Client)
		if err != nil {
			return err
		}
		found.seen = list.Open
		ahead := record.NewAhead(r)
		if err := i.fetchFamilies(ahead, list.Open); err != nil {
			return err
		}
		var staying []*family // also those that expired by idle time: a longer idle lifetime makes them live again
		for _, id := range found.seen {
			f, err := i.familyWithClient(ahead, id)
			if record.Unreadable(err) {
				setAside(err)
				damage = err
				found.keep = append(found.keep, id) // it is a session again once its record is restored
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
		if len(found.keep) < sessionlist.Max {
			return nil
		}
		if len(staying) == 0 {
			return damage
		}
		found.victim = slices.MinFunc(staying, func(a, b *family) int { return a.rec.lastUsed.Compare(b.rec.lastUsed) })
		found.keep = slices.DeleteFunc(found.keep, func(id familyID) bool { return id == found.victim.id })
		found.ended = append(found.ended, found.victim.id)
		return nil
	})
	return found, err
}
