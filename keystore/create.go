package keystore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"keymill/keystore/internal/keyring"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/sealed"
)

// ErrNoRecords means that a store is empty. Only Create makes something of it: a server that took
// every empty store for a new one would become another issuer if it opened the wrong file.
var ErrNoRecords = errors.New("the store has no records")

// ErrExists means that Create found a store that has been created already.
var ErrExists = errors.New("the store exists already")

// Create makes a store of s, which must be empty, and returns its database id. by and version say
// in the audit log who created it and with which version of the program. If s has been created
// before, Create writes nothing and returns the id that it has, with ErrExists.
//
// It is the first transaction of a store. A crash before its commit leaves an empty store, and
// Create can be called again. After it the store has an identity and a data key; the first Open
// makes its signing keys.
func Create(ctx context.Context, s storage.Store, cfg Config, by, version string) (databaseID string, err error) {
	now := time.Now()
	if err := checkWallClock(now); err != nil {
		return "", err
	}
	exists := false
	err = s.Update(ctx, func(tx storage.Tx) error {
		exists = false
		meta, err := storage.ReadMeta(tx)
		if err == nil {
			databaseID, exists = meta.DatabaseID, true
			return nil
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
		if err := checkEmpty(tx); err != nil {
			return err
		}
		meta = storage.NewMeta(now, cfg.Dev)
		databaseID = meta.DatabaseID
		event := audit.Event{Action: "store.create", By: by, Target: databaseID, Detail: map[string]string{"version": version}}
		return createStore(tx, meta, cfg, now, event)
	})
	if err == nil && exists {
		err = ErrExists
	}
	return databaseID, err
}

// createStore writes meta, a new data key, and the rings, which have no keys yet.
func createStore(tx storage.Tx, meta storage.Meta, cfg Config, now time.Time, event audit.Event) error {
	if err := storage.PutMeta(tx, meta); err != nil {
		return err
	}
	b, err := tx.Get(keyring.MetaRecord)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	k := keyring.Keyring{Schema: storage.Schema, Meta: sum[:], Keys: []keyring.DataKey{keyring.NewDataKey(1)}}
	if err := keyring.Put(tx, k, cfg.Master, meta.DatabaseID); err != nil {
		return err
	}
	return sealed.Create(tx, k.TagKeys(meta.DatabaseID), func(tx storage.Tx) error {
		errs := []error{audit.Append(tx, now, event)}
		for _, alg := range cfg.Algorithms {
			// The first key of a new store may sign at once, because no verifier has cached a
			// set without it. This is stored with meta, so that the first Open knows it, also
			// after a crash before the first key.
			errs = append(errs, putRing(tx, ring{Alg: alg, MustSignNow: true}))
		}
		return errors.Join(errs...)
	})
}

// checkEmpty returns an error if a store without meta has other records. If it were taken for a
// new one, a new data key would make all its private keys unreadable.
func checkEmpty(r storage.Reader) error {
	if _, err := r.Get(storage.RestoreKey); err == nil {
		return errors.New("a restore into the database has begun and has not ended; wait for its end, or run it again if it was interrupted")
	}
	for e, err := range r.Scan("", "") {
		if err != nil {
			return err
		}
		return fmt.Errorf("the store has records (%s) but no meta record, so it is damaged; restore a backup", storage.QuoteKey(e.Key))
	}
	return nil
}

// unlockFor unlocks the store of a server. A store that has records but no readable meta or keyring
// is refused as damaged.
func unlockFor(ctx context.Context, s storage.Store, cfg Config) (*keyring.Unlocked, error) {
	u, err := keyring.Unlock(ctx, s, cfg.Master, func(meta storage.Meta) error { return checkDev(meta, cfg) })
	if errors.Is(err, storage.ErrNotFound) {
		err = s.View(ctx, func(r storage.Reader) error { return cmp.Or(checkEmpty(r), ErrNoRecords) })
	}
	if err != nil {
		return nil, err
	}
	return u, nil
}

// checkDev returns an error if only one of the store and its server is for trials.
func checkDev(meta storage.Meta, cfg Config) error {
	switch {
	case meta.Dev && !cfg.Dev:
		return errors.New("this store was created by serve --dev, so its secrets are not protected; serve it with --dev, or choose another data directory")
	case !meta.Dev && cfg.Dev:
		return errors.New("this store was not created by serve --dev; serve it without --dev, or choose another data directory")
	}
	return nil
}
