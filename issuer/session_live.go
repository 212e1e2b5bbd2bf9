package issuer

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"keymill/issuer/record"
	"keymill/storage"
)

// listsAtOnce bounds one View: each list has up to maxSessions sessions.
const listsAtOnce = 100

// HasLiveSession reports whether a session through the client is live. It reads the lists of all users,
// page by page, because an operator asks this rarely and a login should not write an index for it.
func (i *Issuer) HasLiveSession(ctx context.Context, client string) (bool, error) {
	after, live := "", false
	var damage error // no answer but true can be given over a damaged record
	damaged := func(err error) { damage = errors.Join(damage, err) }
	for lists := listsAtOnce; lists >= listsAtOnce && !live; {
		lists = 0
		err := i.store.View(ctx, func(r storage.Reader) error {
			return record.Span{Prefix: "sessions/", After: after, Limit: listsAtOnce}.Each(r, damaged, func(name string, raw []byte) error {
				lists, after = lists+1, name
				ids, err := decodeSessionList("sessions/"+name, raw)
				if err != nil || live || clientOfList(name) != client {
					return err
				}
				some, err := i.anyLive(r, ids.open)
				live = live || some
				return err
			})
		})
		if err != nil {
			return false, err
		}
	}
	if live {
		damage = nil
	}
	return live, damage
}

// clientOfList returns the client in a key of a list, without its prefix: see sessionListPrefix.
func clientOfList(name string) string {
	length, err := strconv.Atoi(name[:min(2, len(name))])
	if start := len("07/") + length + len("/"); err == nil && start <= len(name) {
		return name[start:]
	}
	return ""
}

func (i *Issuer) anyLive(r storage.Reader, ids []familyID) (bool, error) {
	now := i.keys.Now()
	var damage error
	for _, id := range slices.Backward(ids) { // the newest first
		f, err := i.familyWithClient(r, id)
		switch {
		case record.Unreadable(err):
			damage = err
		case err != nil:
			return false, err
		case f != nil && f.client != nil && f.state(now, i.lifetimes(f.client, f.rec.endpoint)) == stateLive:
			return true, nil
		}
	}
	return false, damage
}
