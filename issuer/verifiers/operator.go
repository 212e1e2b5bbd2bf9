package verifiers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/applied"
	"keymill/issuer/refusal"
	"keymill/keystore"
	"keymill/storage"
	"keymill/storage/audit"
)

// Add pins a verifier. by names the operator in the audit log.
func (r *Registry) Add(ctx context.Context, v api.NewVerifier, by string) (api.Verifier, error) {
	if err := checkName(v.Name); err != nil {
		return api.Verifier{}, err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	if err := r.refresh(ctx); err != nil {
		return api.Verifier{}, err
	}
	r.mu.Lock()
	count, known := len(r.pinned), r.pinned[v.Name] != nil
	r.mu.Unlock()
	if known {
		return api.Verifier{}, refusal.New("already_exists", "verifier %s already exists", v.Name)
	}
	if count >= MaxPinned {
		return api.Verifier{}, refusal.New("invalid_request", "%d verifiers are pinned, which is the limit; remove one that is gone first", count)
	}
	p := &pinned{name: v.Name}
	tags := r.tags
	err := r.cfg.Store.Update(ctx, func(tx storage.Tx) (err error) {
		now := r.cfg.Keys.Now()
		p.added = now.UTC().Truncate(time.Second)
		if tags, err = r.secret(tx); err != nil {
			return err
		}
		if _, err := tx.Get(nameKey(p.name)); !errors.Is(err, storage.ErrNotFound) {
			return cmp.Or(err, storage.Damaged(nameKey(p.name), "it was written after the server had started"))
		}
		return errors.Join(
			putJSON(tx, nameKey(p.name), nameRecord{Added: p.added, By: by}),
			tx.Delete(servedKey(p.name)), // nothing of an earlier verifier of that name sticks to it
			audit.Append(tx, now, audit.Event{Action: "verifier.add", By: by, Target: p.name}),
		)
	})
	if err != nil {
		return api.Verifier{}, err
	}
	r.tags, p.tag = tags, (*tags)(p.name)
	keys := r.published()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pinned[p.name] = p
	return p.show(r.cfg.URL, r.cfg.MaxAge, keys), nil
}

// secret returns the tagger of the secret, which the first Add makes. changing is held.
func (r *Registry) secret(tx storage.Tx) (*tagger, error) {
	if r.tags != nil {
		return r.tags, nil
	}
	if _, err := tx.Get(secretKey); !errors.Is(err, storage.ErrNotFound) {
		return nil, cmp.Or(err, storage.Damaged(secretKey, "it was written after the server had started"))
	}
	secret := newSecret()
	sealed, err := r.cfg.Keys.Vault().Seal(secretKey, secret)
	if err != nil {
		return nil, err
	}
	return newTagger(secret, r.cfg.Keys.DatabaseID()), tx.Put(secretKey, sealed)
}

// Remove forgets a pinned verifier. Its credential is of no verifier from then on.
func (r *Registry) Remove(ctx context.Context, name, by string) error {
	r.changing.Lock()
	defer r.changing.Unlock()
	if err := r.refresh(ctx); err != nil {
		return err
	}
	if _, err := r.find(name); err != nil {
		return err
	}
	err := r.cfg.Store.Update(ctx, func(tx storage.Tx) error {
		return errors.Join(
			tx.Delete(nameKey(name)),
			tx.Delete(servedKey(name)), // also if it is damaged
			applied.Forget(tx, "verifier", name),
			audit.Append(tx, r.cfg.Keys.Now(), audit.Event{Action: "verifier.remove", By: by, Target: name}),
		)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pinned, name)
	return nil
}

// find returns a pinned verifier, or refuses with not_found.
func (r *Registry) find(name string) (*pinned, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.pinned[name]; p != nil {
		return p, nil
	}
	return nil, refusal.New("not_found", "verifier %s does not exist", refusal.Quoted(cut(name, 100)))
}

// sorted returns all, by name. mu is held.
func (r *Registry) sorted() []*pinned {
	all := make([]*pinned, 0, len(r.pinned))
	for _, p := range r.pinned {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pinned) int { return cmp.Compare(a.name, b.name) })
	return all
}

// published reads the keys, without a lock of keystore.
func (r *Registry) published() published {
	keys := published{now: r.now()}
	for _, k := range r.cfg.Keys.Published() {
		keys.kids = append(keys.kids, k.KID)
	}
	slices.Sort(keys.kids)
	for _, k := range r.spares() {
		keys.spares = append(keys.spares, k.KID)
	}
	return keys
}

func (r *Registry) spares() []keystore.KeyInfo {
	all, err := r.cfg.Keys.List(context.Background())
	if err != nil {
		return nil // it reads memory only, and never fails
	}
	return slices.DeleteFunc(all, func(k keystore.KeyInfo) bool { return k.Stage != keystore.Spare })
}

// List returns up to limit pinned verifiers whose names follow after, by name.
func (r *Registry) List(after string, limit int) []api.Verifier {
	keys := r.published()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []api.Verifier{}
	for _, p := range r.sorted() {
		if p.name > after && len(list) < limit {
			list = append(list, p.show(r.cfg.URL, r.cfg.MaxAge, keys))
		}
	}
	return list
}

// Verifier returns a pinned verifier, or refuses with not_found.
func (r *Registry) Verifier(name string) (api.Verifier, error) {
	keys := r.published()
	p, err := r.find(name)
	if err != nil {
		return api.Verifier{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return p.show(r.cfg.URL, r.cfg.MaxAge, keys), nil
}

// Observed returns the observed verifiers, latest first.
func (r *Registry) Observed() []api.ObservedVerifier {
	keys := r.published()
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]api.ObservedVerifier, 0, len(r.observed.callers))
	r.observed.each(func(v *Visitor) bool {
		list = append(list, v.show(keys))
		return true
	})
	return list
}

// Reach returns who was served a published key.
func (r *Registry) Reach(kid string) api.Reach {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	out := api.Reach{Pinned: len(r.pinned), Behind: []api.BehindItem{}}
	for _, p := range r.sorted() {
		if p.kids.has(kid) {
			out.Served++
			continue
		}
		until := p.waitedUntil(kid, now, r.cfg.MaxAge)
		out.Behind = append(out.Behind, api.BehindItem{Name: p.name, Last: p.lastVisit(), Waited: until != nil, WaitedUntil: until})
	}
	return out
}

// waitedFor returns the names of the pinned verifiers for which a rotation to the key waits, and until when at most. Of keystore
// it uses Times only.
func (r *Registry) waitedFor(kid string) (names []string, until time.Time) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.sorted() {
		if end := p.waitedUntil(kid, now, r.cfg.MaxAge); end != nil {
			names = append(names, p.name)
			if end.After(until) {
				until = *end
			}
		}
	}
	return names, until
}

// CheckServed refuses with not_served, and names the pinned verifiers that came lately and were not
// served the key. It does not read the store.
func (r *Registry) CheckServed(kid string) error {
	names, until := r.waitedFor(kid)
	if len(names) == 0 {
		return nil
	}
	return refusal.New("not_served", "the spare %s was not served to %s yet; wait for them (at most until %s), remove those that are gone, or use force",
		cut(kid, 64), enumerate(names, 200), until.Format(time.RFC3339))
}

// enumerate joins names to a text of at most that many bytes, with the number of those that do not fit.
func enumerate(names []string, most int) string {
	for n := len(names); n > 0; n-- {
		text := strings.Join(names[:n], ", ")
		if more := len(names) - n; more == 1 {
			text += " and another one"
		} else if more > 1 {
			text += fmt.Sprintf(" and %d others", more)
		}
		if len(text) <= most {
			return text
		}
	}
	return fmt.Sprintf("%d verifiers", len(names))
}

// Holders returns the pinned verifiers whose last set has one of the keys, and how many observed ones
// came within max-age and were served one of them.
func (r *Registry) Holders(kids ...string) (pinned []api.Holder, observed int) {
	since := r.cfg.Keys.ServedTime() - r.cfg.MaxAge
	r.mu.Lock()
	defer r.mu.Unlock()
	pinned = []api.Holder{}
	for _, p := range r.sorted() {
		if p.kids.hasAny(kids) {
			pinned = append(pinned, api.Holder{Name: p.name, Last: *instant(p.last)})
		}
	}
	r.observed.each(func(v *Visitor) bool {
		if v.lastUp < since {
			return false
		}
		if v.kids.hasAny(kids) {
			observed++
		}
		return true
	})
	return pinned, observed
}

// Count returns how many verifiers are pinned, and how many of them came lately and miss a published key.
func (r *Registry) Count() (pinned, behind int) {
	keys := r.published()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pinned {
		if p.cameLately(keys.now, r.cfg.MaxAge) && len(p.kids.missing(keys.kids)) > 0 {
			behind++
		}
	}
	return len(r.pinned), behind
}
