package keystore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
	"keymill/storage/audit"
)

const keyringKey = "keyring"

// ErrMasterKey: the master key is not the one that this store was sealed with.
var ErrMasterKey = errors.New("the master key does not open this store; give the key that the store was made with")

// wrap seals a data key under the master key, for the keyring record.
func wrap(master MasterKey, database string, data [keyBytes]byte) ([]byte, error) {
	outer := &Vault{key: master.secret, database: database}
	return outer.Seal(keyringKey, data[:])
}

// unwrap opens the keyring record. It fails closed and never makes a new key.
func unwrap(master MasterKey, database string, record []byte) (*Vault, error) {
	outer := &Vault{key: master.secret, database: database}
	data, err := outer.Open(keyringKey, record)
	if err != nil {
		return nil, ErrMasterKey
	}
	if len(data) != keyBytes {
		return nil, errors.New("the keyring record holds no data key")
	}
	v := &Vault{database: database}
	copy(v.key[:], data)
	clear(data)
	return v, nil
}

// openVault reads meta and keyring, or makes them if the store is empty: transaction
// zero. A store with any record but no readable meta or keyring is refused, because to
// take it for new would bury the keys that it held.
func openVault(ctx context.Context, s storage.Store, cfg Config, now time.Time) (*Vault, error) {
	var v *Vault
	err := s.Update(ctx, func(tx storage.Tx) error {
		meta, err := storage.ReadMeta(tx)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			v, err = transactionZero(tx, cfg, now)
			return err
		case err != nil:
			return err
		case meta.Dev && !cfg.Dev:
			return errors.New("this store was made by serve --dev, whose secrets are on show; serve it with --dev, or choose another data directory")
		case !meta.Dev && cfg.Dev:
			return errors.New("this store was not made by serve --dev; serve it without --dev, or choose another data directory")
		}
		record, err := tx.Get(keyringKey)
		if errors.Is(err, storage.ErrNotFound) {
			return errors.New("the store has records but no keyring: it is damaged, not new; restore a backup")
		}
		if err != nil {
			return err
		}
		v, err = unwrap(cfg.Master, meta.DatabaseID, record)
		return err
	})
	return v, err
}

func transactionZero(tx storage.Tx, cfg Config, now time.Time) (*Vault, error) {
	for e, err := range tx.Scan(" ", "~") {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the store has records (%q) but no meta record: it is damaged, not new; restore a backup", e.Key)
	}
	meta := storage.NewMeta(now, cfg.Dev)
	v := &Vault{database: meta.DatabaseID}
	rand.Read(v.key[:])
	record, err := wrap(cfg.Master, meta.DatabaseID, v.key)
	if err != nil {
		return nil, err
	}
	for _, alg := range cfg.Algorithms {
		// The first key of a new store has no verifier that could have cached a set without
		// it. The mark is durable with meta, so that a crash before the keys changes nothing.
		if err := putRing(tx, ring{Alg: alg, AtOnce: true}); err != nil {
			return nil, err
		}
	}
	return v, errors.Join(
		storage.PutMeta(tx, meta),
		tx.Put(keyringKey, record),
		audit.Append(tx, now, audit.Event{Action: "store.create", By: "system", Target: meta.DatabaseID}),
	)
}

// ChangeMasterKey wraps the keyring of a store that nobody serves under another master
// key, in one transaction: afterwards only that key opens the store.
func ChangeMasterKey(ctx context.Context, s storage.Store, old, next MasterKey, by string) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		meta, err := storage.ReadMeta(tx)
		if err != nil {
			return fmt.Errorf("read meta: %w", err)
		}
		record, err := tx.Get(keyringKey)
		if err != nil {
			return fmt.Errorf("read keyring: %w", err)
		}
		v, err := unwrap(old, meta.DatabaseID, record)
		if err != nil {
			return err
		}
		if record, err = wrap(next, meta.DatabaseID, v.key); err != nil {
			return err
		}
		return errors.Join(
			tx.Put(keyringKey, record),
			audit.Append(tx, time.Now(), audit.Event{Action: "masterkey.change", By: by, Target: meta.DatabaseID}),
		)
	})
}
