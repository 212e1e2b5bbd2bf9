package keystore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"keymill/keystore/internal/revoked"
	"keymill/keystore/internal/schedule"
	"keymill/storage"
)

const (
	revokedPurpose      = "keymill revoked keys v1"
	tombstonesPerUpdate = 20
)

// ErrNoRevoked means that there is no file of revoked keys, or that the store cannot have written it.
var ErrNoRevoked = revoked.ErrNone

// WriteRevoked writes the file of revoked keys. It is for a caller who has ended all sessions, or begins a
// copy of the store. It returns the time of that file. After a failure every file that is there is older.
func (r *Rings) WriteRevoked(ctx context.Context) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeRevoked(ctx)
	return r.listed
}

// writeRevoked writes the file of revoked keys, at the start and after each revocation. A failure does
// not end the server: tick tries again. The caller holds mu.
func (r *Rings) writeRevoked(ctx context.Context) {
	if r.cfg.RevokedFile == "" {
		return
	}
	err := r.tryWriteRevoked(ctx)
	if err != nil && r.revokedFault.Load() == nil && !storage.Ended(r.store, err) {
		r.log.Error("the list of revoked keys cannot be written; trying again", "error", err)
	}
	if err == nil {
		r.revokedFault.Store(nil)
		return
	}
	err = fmt.Errorf("the list of revoked keys %s cannot be written, and a restore would trust a key that is not in it: %w", r.cfg.RevokedFile, err)
	r.revokedFault.Store(&err)
}

// A listing is what the file of revoked keys was written from.
type listing struct {
	manifest   uint64 // version, which grows with each revocation and with each end of all sessions
	generation uint32 // of the data key, under which the file is
}

// othersChanged reports whether another server of the store may have revoked a key, ended all sessions or changed the data key
// since the file was written: each server has a file of its own. The caller holds mu.
func (r *Rings) othersChanged() bool {
	now := listing{r.seen.version, r.store.Generation()}
	if r.cfg.Nodes == nil || now == r.listedFrom {
		return false
	}
	r.listedFrom = now
	return true
}

// RevokedFault returns why the file of revoked keys does not have what was revoked, or nil.
func (r *Rings) RevokedFault() error {
	if err := r.revokedFault.Load(); err != nil {
		return *err
	}
	return nil
}

// CheckRevoked returns an error if the file of revoked keys does not have every key that the store knows
// as revoked. It matches ErrNoRevoked if the file is missing or does not fit the store.
func (r *Rings) CheckRevoked(ctx context.Context, path string) error {
	list, err := r.readRevoked(path)
	if err != nil {
		return err
	}
	all, err := revoked.All(ctx, r.store, tombstoneKey(""))
	if err != nil {
		return err
	}
	for _, t := range all {
		if !slices.Contains(list.KIDs, t.KID) && list.Complete() {
			return fmt.Errorf("the list of revoked keys of %s does not have the key %s, which was revoked at %s",
				list.Written.Format(time.RFC3339), t.KID, t.At.Format(time.RFC3339))
		}
	}
	return nil
}

// rememberRevoked makes a tombstone for each kid of a list that the store does not know as revoked: the
// store is a copy, and the next list is made of its tombstones.
func (r *Rings) rememberRevoked(ctx context.Context, l revoked.List) error {
	for part := range slices.Chunk(l.KIDs, tombstonesPerUpdate) {
		err := r.store.Update(ctx, func(tx storage.Tx) error {
			for _, kid := range part {
				if checkKID(kid) != nil {
					continue
				}
				var t any
				if found, err := getJSON(tx, tombstoneKey(kid), &t); found || err != nil {
					if err != nil {
						return err
					}
					continue
				}
				if err := putJSON(tx, tombstoneKey(kid), map[string]any{"alg": "", "revoked": l.Written.UTC()}); err != nil {
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

func (r *Rings) tryWriteRevoked(ctx context.Context) error {
	r.listed = schedule.Latest(r.Now().UTC(), r.listed.Add(1))
	all, err := revoked.All(ctx, r.store, tombstoneKey(""))
	if err != nil {
		return err
	}
	list := revoked.New(r.database, all)
	list.Written = r.listed
	if r.cfg.Epoch != nil {
		err := r.store.View(ctx, func(tx storage.Reader) (err error) { list.Epoch, err = r.cfg.Epoch(tx); return err })
		if err != nil {
			return err
		}
	}
	key, err := r.vault.Derive(revokedPurpose)
	if err != nil {
		return err
	}
	// The store can be an older copy that was accepted: what the file lists stays listed.
	if before, err := revoked.Read(r.cfg.RevokedFile, key); err == nil {
		list = list.With(before)
		r.listed = list.Written
	}
	return revoked.Write(r.cfg.RevokedFile, key, list)
}

// readRevoked returns the list in the file at path, or ErrNoRevoked.
func (r *Rings) readRevoked(path string) (revoked.List, error) {
	key, err := r.vault.Derive(revokedPurpose)
	if err != nil {
		return revoked.List{}, err
	}
	return revoked.Read(path, key)
}
