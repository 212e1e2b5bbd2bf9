package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"keymill/keystore/internal/keyring"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/sealed"
)

// A RenewRequest says which keys stay trusted.
type RenewRequest struct {
	TrustAll bool     // all keys of the copy
	Set      [][]byte // also the keys of these JWKs (RFC 7517), which may be later than the copy
	// RevokedFile is the file that a server of the store has written. Keys that it lists are revoked in any
	// case. If it fits, and is not older than the copy, the other keys of the copy are trusted.
	RevokedFile string
	Listed      time.Time // what WriteRevoked returned when the copy was begun; no file is trusted without it
	By          string    // names the operator in the audit log
	Replaced    uint64    // Life of the store that the copy replaces; 0 if there is none
}

// A Renewal is the result of Renew.
type Renewal struct {
	Dropped      []string          `json:"revoked"`       // kids of the copy that are revoked
	Kept         []string          `json:"verify_only"`   // kids that verify until the last token that they can have signed has expired
	Added        []string          `json:"added"`         // kids of later keys, which verify only too
	Listed       bool              `json:"revoked_file"`  // the file of revoked keys was there, fits, and is not older than the copy
	ListedAt     *time.Time        `json:"revoked_at"`    // when that file was written; nil if there is none that fits
	Epoch        uint64            `json:"-"`             // in that file
	Signing      map[string]string `json:"signing"`       // algorithm → the new kid that signs
	UnknownUntil time.Time         `json:"unknown_until"` // until when caches may not know the new keys
}

// Renew is for a store that was made of a copy, before it is served. It begins another life of the store. The keys of the copy may have been
// revoked since, or have stopped signing, so new keys sign from now on. Keys that stay trusted stay
// published until the last token that they can have signed has expired; the others are revoked.
//
// It is several transactions. A crash between two of them leaves a store that must not be served.
func (r *Rings) Renew(ctx context.Context, req RenewRequest) (Renewal, error) {
	out := Renewal{Dropped: []string{}, Kept: []string{}, Added: []string{}, Signing: map[string]string{}}
	set := make([]importedKey, len(req.Set))
	for n, jwk := range req.Set {
		var err error
		if set[n], err = r.readImport(ImportRequest{Key: jwk, Until: r.Now().Add(time.Hour)}); err != nil {
			return out, fmt.Errorf("key %d of the set: %w", n+1, err)
		}
	}
	listed, err := r.readRevoked(req.RevokedFile)
	if err != nil && !errors.Is(err, ErrNoRevoked) {
		return out, err
	}
	if err == nil {
		out.Listed = listed.Covers(req.Listed) && r.CheckRevoked(ctx, req.RevokedFile) == nil
		out.ListedAt, out.Epoch = &listed.Written, listed.Epoch
	}
	trusted := func(k Key) bool {
		return !slices.Contains(listed.KIDs, k.KID) &&
			(out.Listed || req.TrustAll || slices.ContainsFunc(set, func(s importedKey) bool { return bytes.Equal(s.public, k.Public) }))
	}
	copied := r.allKeys()
	known := func(s importedKey) bool {
		return slices.ContainsFunc(copied, func(k Key) bool { return bytes.Equal(s.public, k.Public) })
	}
	var revoke []Key
	for _, k := range copied {
		// Reserves count too: since the copy they can have been published and have signed.
		if trusted(k) {
			out.Kept = append(out.Kept, k.KID)
			continue
		}
		out.Dropped = append(out.Dropped, k.KID)
		revoke = append(revoke, k)
	}
	if err := r.unlocked.BeginLife(ctx, req.Replaced, r.wallClock()); err != nil {
		return out, err
	}
	if err := r.revokeAll(ctx, revoke, req.By); err != nil {
		return out, err
	}
	if err := r.stopRings(ctx, req.By); err != nil {
		return out, err
	}
	if err := r.rememberRevoked(ctx, listed); err != nil {
		return out, err
	}
	for n, s := range set {
		gone, err := r.isRevoked(ctx, s.kid, s.thumbprint)
		if err != nil {
			return out, err
		}
		if known(s) || gone {
			continue // a revoked key of the set stays revoked
		}
		until := r.Now().Add(r.snapshot.Load().rings[s.alg].MaxLifetime + r.policy().Linger() + time.Second)
		k, err := r.Import(ctx, ImportRequest{Key: req.Set[n], Until: until}, req.By)
		if err != nil {
			return out, err
		}
		out.Added = append(out.Added, k.KID)
	}
	err = r.signAgain(ctx, &out)
	return out, err
}

// Life returns the life of a store. It is 0 until the store is restored, and grows with each restore.
func Life(ctx context.Context, s storage.Store, master MasterKey) (uint64, error) {
	u, err := keyring.Unlock(ctx, s, master, nil)
	if err != nil {
		return 0, err
	}
	return u.Keyring.Life, nil
}

// isRevoked reports whether a key with one of these kids was revoked.
func (r *Rings) isRevoked(ctx context.Context, kids ...string) (gone bool, err error) {
	err = r.store.View(ctx, func(tx storage.Reader) error {
		gone = false
		for _, kid := range kids {
			var t any
			found, err := getJSON(tx, tombstoneKey(kid), &t)
			if err != nil {
				return err
			}
			gone = gone || found
		}
		return nil
	})
	return gone, err
}

// allKeys returns every key of the store.
func (r *Rings) allKeys() []Key {
	snap := r.snapshot.Load()
	all := slices.Clone(snap.retired)
	for _, alg := range SupportedAlgorithms() {
		all = append(all, snap.rings[alg].Keys...)
	}
	return all
}

// revokeAll revokes keys. Those that never signed come first, so that none of them takes the place of the
// one that signs.
func (r *Rings) revokeAll(ctx context.Context, keys []Key, by string) error {
	order, now := []Stage{Reserve, Spare, Active, Retiring, Gone}, r.Now()
	slices.SortStableFunc(keys, func(a, b Key) int {
		return slices.Index(order, a.Stage(now)) - slices.Index(order, b.Stage(now))
	})
	for _, k := range keys {
		var gone *InvalidError // it was another kid of a key that is revoked by now
		if _, err := r.Revoke(ctx, RevokeRequest{KID: k.KID}, by); err != nil && !(errors.As(err, &gone) && gone.Code == "not_found") {
			return err
		}
	}
	return nil
}

// stopRings stops the keys that are left in the rings. Since the copy was made its spares and reserves
// can have signed, so they stay published like the others.
func (r *Rings) stopRings(ctx context.Context, by string) error {
	for _, alg := range r.cfg.Algorithms {
		err := r.operate(ctx, by, nil, func(d decision) error {
			before, err := getRing(d.tx, alg)
			if err != nil {
				return err
			}
			after := before.StopAll(d.now)
			advanced, stopped := after.Advance(d.now, r.policy())
			if err := r.checkRoom(d.now, advanced, stopped...); err != nil {
				return err
			}
			return errors.Join(r.putChange(d, before, after), d.audit(audit.Event{Action: "key.renew", Target: alg}))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// signAgain makes the keys that sign now, and completes out.
func (r *Rings) signAgain(ctx context.Context, out *Renewal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.makeMissing(ctx); err != nil {
		return err
	}
	now := r.Now()
	out.UnknownUntil = schedule.Latest(now.Add(r.policy().MaxAge), r.policy().OldCachesUntil)
	for _, alg := range r.cfg.Algorithms {
		ring := r.snapshot.Load().rings[alg]
		i := ring.IndexAt(now, Active)
		if i < 0 {
			return fmt.Errorf("no %s key signs", alg)
		}
		out.Signing[alg] = ring.Keys[i].KID
	}
	return nil
}

// WriteMark makes m the mark of the store, which must not be served at the same time. It comes after
// Close, so that the store has the served time that the mark remembers.
func (r *Rings) WriteMark(m *sealed.Mark) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store.WriteMark(m, r.clockRecord.ServedTime)
}
