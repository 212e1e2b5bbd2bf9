package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"keymill/storage"
)

// A roster lists the families of one user and one client, oldest first: one small record
// that logins write and rotations do not.
type roster []familyID

const maxFamilies = 100 // of one user and client, without those that ended for good

// errNoRoom: the roster is full, and what should leave it is not known yet.
var errNoRoom = errors.New("the user has as many sessions at this client as are allowed")

// rosterPrefix leads to the rosters of one user. The length keeps ids that hold a slash
// from being read as somebody else's.
func rosterPrefix(user string) string { return "sessions/" + twoDigits(len(user)) + user + "/" }

func twoDigits(n int) string { return string([]byte{'0' + byte(n/10), '0' + byte(n%10), '/'}) }

func rosterKey(user, client string) string { return rosterPrefix(user) + client }

func readRoster(r storage.Reader, user, client string) (roster, error) {
	raw, err := r.Get(rosterKey(user, client))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return decodeRoster(raw)
}

func decodeRoster(raw []byte) (roster, error) {
	if len(raw)%familyIDBytes != 0 {
		return nil, fmt.Errorf("%w: no roster has %d bytes", errDamaged, len(raw))
	}
	var list roster
	for ids := range slices.Chunk(raw, familyIDBytes) {
		list = append(list, familyID(ids))
	}
	return list, nil
}

func putRoster(tx storage.Tx, user, client string, list roster) error {
	if len(list) == 0 {
		return tx.Delete(rosterKey(user, client))
	}
	raw := make([]byte, 0, len(list)*familyIDBytes)
	for _, id := range list {
		raw = append(raw, id[:]...)
	}
	return tx.Put(rosterKey(user, client), raw)
}

// A room is how a full roster gets a free place: what it was then, who stays, and who has to
// go although it lives.
type room struct {
	seen, stay roster
	victim     *family // the longest idle one; nil if dead ones left places enough
}

// enrol puts f into the roster of its user and client.
func (i *Issuer) enrol(tx storage.Tx, f *family, room room, now time.Time) error {
	list, err := readRoster(tx, f.rec.user, f.terms.Client)
	if err != nil {
		return err
	}
	if len(list) >= maxFamilies {
		if !slices.Equal(list, room.seen) {
			return errNoRoom
		}
		list = room.stay
		if err := i.evict(tx, room.victim, now); err != nil {
			return err
		}
	}
	return putRoster(tx, f.rec.user, f.terms.Client, append(slices.Clip(list), f.id))
}

// evict ends the victim, unless it has been used since it was chosen.
func (i *Issuer) evict(tx storage.Tx, victim *family, now time.Time) error {
	if victim == nil {
		return nil
	}
	f, err := i.wholeFamily(tx, victim.id)
	if err != nil || f == nil {
		return err
	}
	if f.rec.g != victim.rec.g {
		return errNoRoom
	}
	return i.endLiving(tx, f, endedByLimit, now, "system", netip.Addr{})
}

// makeRoom looks at every family of a full roster: dead ones leave it, else the longest
// idle one does.
func (i *Issuer) makeRoom(ctx context.Context, req BeginRequest) (room, error) {
	now := i.keys.Now()
	var found room
	err := i.store.View(ctx, func(r storage.Reader) error {
		found = room{}
		var err error
		if found.seen, err = readRoster(r, req.User, req.Client); err != nil {
			return err
		}
		var places []*family // also those that have idled out: they would live under a longer idle
		for _, id := range found.seen {
			f, err := i.wholeFamily(r, id)
			if errors.Is(err, errDamaged) {
				continue
			} else if err != nil {
				return err
			}
			if f == nil || f.client == nil || f.fate(now, i.lifetimes(f.client, f.rec.endpoint)).final() {
				continue
			}
			places = append(places, f)
			found.stay = append(found.stay, id)
		}
		if len(places) < maxFamilies {
			return nil
		}
		found.victim = slices.MinFunc(places, func(a, b *family) int { return a.rec.used.Compare(b.rec.used) })
		found.stay = slices.DeleteFunc(found.stay, func(id familyID) bool { return id == found.victim.id })
		return nil
	})
	return found, err
}

// endLiving ends a family unless it has ended for good already. One whose time is over can
// live again, when its client is given a longer one, so it has to be ended as well.
func (i *Issuer) endLiving(tx storage.Tx, f *family, e ending, now time.Time, by string, from netip.Addr) error {
	if f.client == nil || f.fate(now, i.lifetimes(f.client, f.rec.endpoint)).final() {
		return nil
	}
	return i.end(tx, f, e, now, by, from)
}
