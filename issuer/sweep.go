package issuer

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/due"
	"keymill/issuer/gone"
	"keymill/issuer/record"
	"keymill/issuer/sessionlist"
	"keymill/issuer/tally"
	"keymill/issuer/unblocked"
	"keymill/storage"
)

const (
	sweepEvery = 10 * time.Second
	// sweepBatch entries fit into one transaction: each needs at most nine keys.
	sweepBatch = 7
)

// Run deletes sessions, denied tokens and records of removed ids that have expired, writes the counts of
// tallies, measures new password schemes and reads new refresh secrets, until ctx ends. Then it returns nil. It returns an
// error when the store has failed. Of the servers that share a store, one cleans up.
func (i *Issuer) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	if i.keys.Poll() > 0 {
		var watch sync.WaitGroup
		defer watch.Wait()
		watch.Go(func() { i.pauses.Run(ctx) })
	}
	defer cancel() // before the wait
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	failing := false
	for {
		err := storage.Join(i.passwords.SyncClasses(ctx, i.store), i.refreshSecrets.Reload(ctx), i.sweep(ctx), i.sweepUnblocked(ctx))
		if storage.Ended(i.store, err) {
			return err
		}
		if err != nil && ctx.Err() == nil && !failing && !errors.Is(err, storage.ErrMoved) {
			i.log.Error("cannot clean up sessions, measure password schemes or read refresh secrets; trying again", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep handles every entry that is due, while this server holds the lease. After a crash the next sweep handles the
// rest, as another server does. Each entry is handled in a transaction that reads what it leads to, so two servers that
// sweep at once do no harm.
func (i *Issuer) sweep(ctx context.Context) error {
	for start := due.Prefix; ctx.Err() == nil; {
		if held, err := i.hold(ctx); err != nil || !held {
			return err
		}
		now := i.keys.ErasureTime()
		entries, err := i.dueEntries(ctx, start, now)
		if err != nil || len(entries) == 0 {
			return err
		}
		start = entries[len(entries)-1].Key + " " // damaged entries before it are read once
		err = record.Update(ctx, i.store, i.damaged, func(below storage.Tx, setAside func(error)) error {
			tx := record.NewWriter(below)
			if err := i.fetchDue(tx, entries); err != nil {
				return err
			}
			for _, e := range entries {
				err := i.processDue(tx, e, now)
				if record.Unreadable(err) { // it must not block the others
					setAside(err)
					err = postpone(tx, e, now)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepUnblocked deletes what says that users were unblocked, while this server holds the lease.
func (i *Issuer) sweepUnblocked(ctx context.Context) error {
	if held, err := i.hold(ctx); err != nil || !held {
		return err
	}
	return unblocked.Sweep(ctx, i.store, i.keys.ErasureTime(), i.damaged)
}

// dueEntries returns some entries of the index whose time has come, oldest first. Damaged ones stay as they are.
func (i *Issuer) dueEntries(ctx context.Context, start string, now time.Time) (entries []due.Entry, err error) {
	err = record.View(ctx, i.store, i.damaged, func(r storage.Reader, setAside func(error)) error {
		entries = nil
		for e, err := range r.Scan(start, due.Key(now.Add(time.Second), "", "")) {
			var entry due.Entry
			if err == nil {
				err = record.CheckPresent(e.Key, e.Value)
			}
			if err == nil {
				entry, err = due.Parse(e.Key)
			}
			if record.Unreadable(err) {
				setAside(err)
				continue
			} else if err != nil {
				return err
			}
			if entries = append(entries, entry); len(entries) == sweepBatch {
				break
			}
		}
		return nil
	})
	return entries, err
}

func (i *Issuer) processDue(tx storage.Tx, e due.Entry, now time.Time) error {
	if _, err := tx.Get(e.Key); errors.Is(err, storage.ErrNotFound) {
		return nil // another server has handled it
	} else if err = cmp.Or(err, tx.Delete(e.Key)); err != nil {
		return err
	}
	switch e.Kind {
	case due.Token:
		if denied, err := accesstoken.IsDenied(tx, e.ID); !denied || err != nil {
			return err
		}
		return tx.Delete(accesstoken.DeniedKey(e.ID))
	case due.Gone:
		return gone.Sweep(tx, e.ID, now)
	case due.Tally:
		return i.processDueTally(tx, e.ID, now)
	}
	id, _ := record.ParseID(e.ID)
	next, f, err := i.processDueFamily(tx, id, now)
	if err != nil || next.IsZero() {
		return err
	}
	// The next entry must be at least a second later, or the loop would not end.
	f.rec.due = record.Latest(next, e.At.Add(time.Second))
	return putFamily(tx, f)
}

// putFamily writes the record of a family and its entry in the index of the clean-up.
func putFamily(tx storage.Tx, f *family) error {
	return errors.Join(tx.Put(familyKey(f.id), f.rec.encode()), tx.Put(due.Key(f.rec.due, due.Family, f.id.String()), record.Present()))
}

// deleteFamily deletes the record of a family and its entry in the index of the clean-up.
func deleteFamily(tx storage.Tx, id familyID, rec *familyRecord) error {
	return errors.Join(tx.Delete(familyKey(id)), tx.Delete(due.Key(rec.due, due.Family, id.String())))
}

// postpone puts an entry back, a day later.
func postpone(tx storage.Tx, e due.Entry, now time.Time) error {
	return tx.Put(due.Key(now.Add(24*time.Hour), e.Kind, e.ID), record.Present())
}

// processDueFamily deletes a family that is over and returns zero, or returns when to check it again.
// One in a permanent state stays until its absolute end, so that it can be explained.
func (i *Issuer) processDueFamily(tx storage.Tx, id familyID, now time.Time) (next time.Time, f *family, err error) {
	f, err = i.familyWithClient(tx, id)
	if f == nil || err != nil {
		return next, nil, err
	}
	client := f.client
	if client == nil {
		client = &clientRecord{} // it was removed; the configured lifetimes count
	}
	limits := i.lifetimes(client, f.rec.endpoint)
	switch f.state(now, limits) {
	case stateLive:
		return f.rec.expires(limits), f, nil
	case stateEnded, stateOutdated, stateExhausted:
		end := f.rec.absolute(limits)
		if f.rec.end == endedByLimit {
			end = record.Earliest(end, f.rec.endedAt.Add(keepEvicted))
		}
		if now.Before(end) {
			return end, f, nil
		}
	}
	list, err := sessionlist.Read(tx, f.rec.user, f.terms.Client)
	if err != nil {
		return next, nil, err
	}
	if err := deleteFamily(tx, id, f.rec); err != nil || !list.Remove(id) {
		return next, nil, err
	}
	return next, nil, list.Put(tx, f.rec.user, f.terms.Client)
}

// processDueTally writes the record of events that have none of their own.
func (i *Issuer) processDueTally(tx storage.Tx, name string, now time.Time) error {
	next, err := tally.Check(tx, tally.Times{Decision: i.keys.Now(), Cleanup: now}, name)
	if err != nil || next.IsZero() {
		return err
	}
	return tx.Put(due.Key(next, due.Tally, name), record.Present())
}
