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

// dataKeyRecord is the key of the keyring record, which holds the sealed data key.
const dataKeyRecord = "keyring"

// ErrMasterKey means that the store was sealed under another master key.
var ErrMasterKey = errors.New("the master key does not open this store; give the key that the store was last sealed under")

// sealDataKey seals a data key under the master key and returns the keyring record.
func sealDataKey(master MasterKey, database string, data [keyBytes]byte) ([]byte, error) {
	outer := &Vault{key: master.secret, database: database}
	return outer.Seal(dataKeyRecord, data[:])
}

// openDataKey opens the keyring record. It never makes a new data key, because every sealed
// record of the store would be lost.
func openDataKey(master MasterKey, database string, record []byte) (*Vault, error) {
	outer := &Vault{key: master.secret, database: database}
	data, err := outer.Open(dataKeyRecord, record)
	if err != nil {
		return nil, ErrMasterKey
	}
	if len(data) != keyBytes {
		return nil, fmt.Errorf("the keyring record holds a data key of %d bytes, expected %d", len(data), keyBytes)
	}
	v := &Vault{database: database}
	copy(v.key[:], data)
	clear(data)
	return v, nil
}

// openVault opens the data key, or creates the records meta and keyring if the store is
// empty. A store that has records but no readable meta or keyring is refused as damaged. If
// it were taken for a new one, a new data key would make all its private keys unreadable.
func openVault(ctx context.Context, s storage.Store, cfg Config, now time.Time) (*Vault, error) {
	var v *Vault
	err := s.Update(ctx, func(tx storage.Tx) error {
		meta, err := storage.ReadMeta(tx)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			v, err = createStore(tx, cfg, now)
			return err
		case err != nil:
			return err
		case meta.Dev && !cfg.Dev:
			return errors.New("this store was created by serve --dev, so its secrets are not protected; serve it with --dev, or choose another data directory")
		case !meta.Dev && cfg.Dev:
			return errors.New("this store was not created by serve --dev; serve it without --dev, or choose another data directory")
		}
		record, err := tx.Get(dataKeyRecord)
		if errors.Is(err, storage.ErrNotFound) {
			return errors.New("the store has records but no keyring, so it is damaged; restore a backup")
		}
		if err != nil {
			return err
		}
		v, err = openDataKey(cfg.Master, meta.DatabaseID, record)
		return err
	})
	return v, err
}

// createStore is the first transaction of a store. A crash before its commit leaves an
// empty store, which the next start creates again. After it the store has an identity and
// a data key; its signing keys are made next, or by the next start.
func createStore(tx storage.Tx, cfg Config, now time.Time) (*Vault, error) {
	for e, err := range tx.Scan(" ", "~") {
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the store has records (%q) but no meta record, so it is damaged; restore a backup", e.Key)
	}
	meta := storage.NewMeta(now, cfg.Dev)
	v := &Vault{database: meta.DatabaseID}
	rand.Read(v.key[:])
	record, err := sealDataKey(cfg.Master, meta.DatabaseID, v.key)
	if err != nil {
		return nil, err
	}
	for _, alg := range cfg.Algorithms {
		// The first key of a new store may sign at once, because no verifier has cached a
		// set without it. This is stored with meta, so that after a crash before the first
		// key the next start knows it too.
		if err := putRing(tx, ring{Alg: alg, MustSignNow: true}); err != nil {
			return nil, err
		}
	}
	return v, errors.Join(
		storage.PutMeta(tx, meta),
		tx.Put(dataKeyRecord, record),
		audit.Append(tx, now, audit.Event{Action: "store.create", By: system, Target: meta.DatabaseID}),
	)
}

// ChangeMasterKey seals the data key under another master key, in one transaction.
// Afterwards only next opens the store. No server may use the store at that time. by names
// the operator in the audit log.
func ChangeMasterKey(ctx context.Context, s storage.Store, old, next MasterKey, by string) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		meta, err := storage.ReadMeta(tx)
		if err != nil {
			return fmt.Errorf("read meta: %w", err)
		}
		record, err := tx.Get(dataKeyRecord)
		if err != nil {
			return fmt.Errorf("read keyring: %w", err)
		}
		v, err := openDataKey(old, meta.DatabaseID, record)
		if err != nil {
			return err
		}
		if record, err = sealDataKey(next, meta.DatabaseID, v.key); err != nil {
			return err
		}
		return errors.Join(
			tx.Put(dataKeyRecord, record),
			audit.Append(tx, time.Now(), audit.Event{Action: "masterkey.change", By: by, Target: meta.DatabaseID}),
		)
	})
}
