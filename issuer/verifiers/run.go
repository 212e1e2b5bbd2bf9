package verifiers

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
)

const (
	pageRecords = 30 // of one Update, in most cases far below its limits
	lastWrites  = 2 * time.Second
	namesBytes  = 250 // of the names in an event and in an audit record
)

// Run writes what changed, at most once a minute for each verifier, and warns of pinned verifiers that
// were not served a spare that signs within max-age, until ctx ends. Then it writes what is not written
// yet. It returns an error when the store has failed; after any other error it tries again.
func (r *Registry) Run(ctx context.Context) error {
	// A spare is published for at least twice max-age, so a tick sees it before it is to warn of it.
	// On a shared store the others learn within p what was served here.
	every := min(time.Minute, max(time.Second, r.cfg.MaxAge/2))
	if p := r.cfg.Keys.Poll(); p > 0 {
		every = min(every, p)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	fault := ""
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrites)
			defer cancel()
			if err := r.write(last, (*pinned).unsaved); err != nil && !storage.Ended(r.cfg.Store, err) {
				r.cfg.Log.Warn("what verifiers were served last was not written; rotations by hand may wait for them longer", "error", err)
			}
			return nil
		case <-tick.C:
		}
		now := r.cfg.Keys.Now()
		err := storage.Join(r.write(ctx, func(p *pinned) bool { return p.due(now, r.writeEvery(), r.cfg.MaxAge) }), r.Refresh(ctx), r.warn(ctx))
		if storage.Ended(r.cfg.Store, err) {
			return err
		}
		if ctx.Err() == nil && !errors.Is(err, storage.ErrMoved) {
			fault = r.report(fault, err)
		}
	}
}

// report logs err if it is not the fault that was logged last. It returns the fault of now.
func (r *Registry) report(last string, err error) string {
	if err == nil {
		if last != "" {
			r.cfg.Log.Info("what verifiers were served is written again")
		}
		return ""
	}
	if err.Error() != last {
		r.cfg.Log.Error("what verifiers were served cannot be written; it stays in memory and is tried again", "error", err)
	}
	return err.Error()
}

// A draft is a record that is to be written, and what it was made of.
type draft struct {
	of     *pinned
	kids   *kidList
	record servedRecord
}

// write writes the records of the verifiers that which selects.
func (r *Registry) write(ctx context.Context, which func(*pinned) bool) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	var drafts []draft
	r.mu.Lock()
	for _, p := range r.sorted() {
		if which(p) {
			drafts = append(drafts, draft{p, p.kids, p.record()})
		}
	}
	r.mu.Unlock()
	for len(drafts) > 0 {
		n := min(len(drafts), pageRecords)
		if err := r.writePage(ctx, drafts[:n]); err != nil {
			return err
		}
		drafts = drafts[n:]
	}
	return nil
}

// writePage writes records in one Update, or half of them if they are too large for it.
func (r *Registry) writePage(ctx context.Context, page []draft) error {
	var damaged []error
	err := r.cfg.Store.Update(ctx, func(tx storage.Tx) error {
		damaged = make([]error, len(page))
		for n, d := range page {
			over, err := d.isOver(tx)
			if errors.Is(err, storage.ErrDamaged) {
				damaged[n] = err
				continue
			}
			if err == nil && !over {
				err = putJSON(tx, servedKey(d.of.name), d.record)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, storage.ErrLimit) && len(page) > 1 {
		return errors.Join(r.writePage(ctx, page[:len(page)/2]), r.writePage(ctx, page[len(page)/2:]))
	}
	if err != nil {
		return err
	}
	r.noteWritten(page, damaged)
	for _, err := range damaged {
		if err != nil {
			r.cfg.Damaged(err)
		}
	}
	return nil
}

func (r *Registry) noteWritten(page []draft, damaged []error) {
	now := r.cfg.Keys.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, d := range page {
		if damaged[n] != nil {
			d.of.damaged = true
			continue
		}
		d.of.stored, d.of.written = d.record.Last, now
		if d.of.kids == d.kids {
			d.of.changed = false
		}
	}
}

// warn warns of each spare once that signs within max-age and was not served to all that came lately.
func (r *Registry) warn(ctx context.Context) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	now := r.cfg.Keys.Now()
	var errs []error
	for _, k := range r.spares() {
		if k.Sign.IsZero() || now.Before(k.Sign.Add(-r.cfg.MaxAge)) || r.warned[k.Alg] == k.KID {
			continue
		}
		if names, _ := r.waitedFor(k.KID); len(names) > 0 {
			errs = append(errs, r.warnOf(ctx, k, names))
		}
	}
	return errors.Join(errs...)
}

// warnOf writes the warning into the audit log and to the webhook, and then into the log.
func (r *Registry) warnOf(ctx context.Context, k keystore.KeyInfo, names []string) error {
	warned := maps.Clone(r.warned)
	warned[k.Alg] = k.KID
	facts := map[string]string{
		"alg": k.Alg, "sign": k.Sign.UTC().Truncate(time.Second).Format(time.RFC3339),
		"count": strconv.Itoa(len(names)), "verifiers": enumerate(names, namesBytes),
	}
	done := false
	err := r.cfg.Outbox.Over(r.cfg.Store).Update(ctx, func(tx storage.Tx) (err error) {
		if done, err = isWarned(tx, k.Alg, k.KID); done || err != nil {
			return err
		}
		now := r.cfg.Keys.Now()
		errs := []error{audit.Append(tx, now, audit.Event{Action: "verifier.behind", By: "system", Target: k.KID, Detail: facts})}
		if !r.noBehind { // otherwise the next process warns again
			errs = append(errs, putJSON(tx, behindKey, warned))
		}
		if r.cfg.Outbox != nil {
			event := maps.Clone(facts)
			event["kid"] = k.KID
			errs = append(errs, r.cfg.Outbox.Add(tx, now, "verifier.behind", event))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	if r.warned = warned; done {
		return nil
	}
	r.cfg.Log.Warn("pinned verifiers were not served a key that signs soon; they may refuse its tokens until they fetch the key set",
		"kid", k.KID, "alg", k.Alg, "sign", facts["sign"], "count", len(names), "verifiers", facts["verifiers"])
	return nil
}
