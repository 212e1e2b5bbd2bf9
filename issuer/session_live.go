package issuer

import (
	"context"
	"errors"
	"slices"

	"keymill/issuer/record"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
	"keymill/storage"
)

// listsAtOnce bounds one View: each list has up to sessionlist.Max sessions.
const listsAtOnce = 100

// HasLiveSession reports whether a session through the client is live. It reads the lists of all users,
// page by page, because an operator asks this rarely and a login should not write an index for it.
func (i *Issuer) HasLiveSession(ctx context.Context, client string) (bool, error) {
	after, live := "", false
	var damage error // no answer but true can be given over a damaged record
	damaged := func(err error) { damage = errors.Join(damage, err) }
	for lists := listsAtOnce; lists >= listsAtOnce && !live; {
		last := after
		err := record.View(ctx, i.store, damaged, func(r storage.Reader, setAside func(error)) error {
			lists, live, last = 0, false, after
			return record.Span{Prefix: sessionlist.Prefix, After: after, Limit: listsAtOnce}.Each(r, setAside, func(name string, raw []byte) error {
				lists, last = lists+1, name
				ids, err := sessionlist.Decode(sessionlist.Prefix+name, raw)
				if of, _ := tally.Parse(name); err != nil || live || of.Client != client {
					return err
				}
				some, err := i.anyLive(r, ids.Open)
				live = live || some
				return err
			})
		})
		if err != nil {
			return false, err
		}
		after = last
	}
	if live {
		damage = nil
	}
	return live, damage
}

func (i *Issuer) anyLive(r storage.Reader, ids []familyID) (bool, error) {
	now, ahead := i.keys.Now(), record.NewAhead(r)
	if err := i.fetchFamilies(ahead, ids); err != nil {
		return false, err
	}
	var damage error
	for _, id := range slices.Backward(ids) { // the newest first
		f, err := i.familyWithClient(ahead, id)
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
