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

// ErrNoRecords means that a store is empty. Only Create makes something of it: a server that took
// every empty store for a new one would become another issuer if it opened the wrong file.
var ErrNoRecords = errors.New("the store has no records")

// ErrExists means that Create found a store that has been created already.
var ErrExists = errors.New("the store exists already")

// openVault opens the data key. A store that has records but no readable meta or keyring is
// refused as damaged.
func openVault(ctx context.Context, s storage.Store, cfg Config) (*Vault, error) {
	var v *Vault
	err := s.View(ctx, func(r storage.Reader) error {
		meta, err := storage.ReadMeta(r)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			if err := checkEmpty(r); err != nil {
				return err
			}
			return ErrNoRecords
		case err != nil:
			return err
		case meta.Dev && !cfg.Dev:
			return errors.New("this store was created by serve --dev, so its secrets are not protected; serve it with --dev, or choose another data directory")
		case !meta.Dev && cfg.Dev:
			return errors.New("this store was not created by serve --dev; serve it without --dev, or choose another data directory")
		}
		record, err := r.Get(dataKeyRecord)
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

// checkEmpty returns an error if a store without meta has other records. If it were taken for a
// new one, a new data key would make all its private keys unreadable.
func checkEmpty(r storage.Reader) error {
	for e, err := range r.Scan(" ", "~") {
		if err != nil {
			return err
		}
		return fmt.Errorf("the store has records (%q) but no meta record, so it is damaged; restore a backup", e.Key)
	}
	return nil
}

// Create makes a store of s, which must be empty, and returns its database id. by and version say
// in the audit log who created it and with which version of the program. If s has been created
// before, Create writes nothing and returns the id that it has, with ErrExists.
//
// It is the first transaction of a store. A crash before its commit leaves an empty store, and
// Create can be called again. After it the store has an identity and a data key; the first Open
// makes its signing keys.
func Create(ctx context.Context, s storage.Store, cfg Config, by, version string) (databaseID string, err error) {
	now := time.Now()
	exists := false
	err = s.Update(ctx, func(tx storage.Tx) error {
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
		return errors.Join(storage.PutMeta(tx, meta), createKeyring(tx, cfg, databaseID), audit.Append(tx, now, audit.Event{
			Action: "store.create", By: by, Target: databaseID, Detail: map[string]string{"version": version},
		}))
	})
	if err == nil && exists {
		err = ErrExists
	}
	return databaseID, err
}

// createKeyring writes a new data key and the rings, which have no keys yet.
func createKeyring(tx storage.Tx, cfg Config, databaseID string) error {
	var data [keyBytes]byte
	rand.Read(data[:])
	defer clear(data[:])
	record, err := sealDataKey(cfg.Master, databaseID, data)
	if err != nil {
		return err
	}
	for _, alg := range cfg.Algorithms {
		// The first key of a new store may sign at once, because no verifier has cached a
		// set without it. This is stored with meta, so that the first Open knows it, also
		// after a crash before the first key.
		if err := putRing(tx, ring{Alg: alg, MustSignNow: true}); err != nil {
			return err
		}
	}
	return tx.Put(dataKeyRecord, record)
}

// CheckMasterKey returns nil if the master key opens the store, and ErrMasterKey if it does not. It
// only reads.
func CheckMasterKey(ctx context.Context, s storage.Store, key MasterKey) error {
	return s.View(ctx, func(r storage.Reader) error {
		_, _, err := readDataKey(r, key)
		return err
	})
}

// readDataKey opens the data key of a store, and returns the database id too.
func readDataKey(r storage.Reader, key MasterKey) (v *Vault, databaseID string, err error) {
	meta, err := storage.ReadMeta(r)
	if err != nil {
		return nil, "", fmt.Errorf("read meta: %w", err)
	}
	record, err := r.Get(dataKeyRecord)
	if err != nil {
		return nil, "", fmt.Errorf("read keyring: %w", err)
	}
	v, err = openDataKey(key, meta.DatabaseID, record)
	return v, meta.DatabaseID, err
}

// ChangeMasterKey seals the data key under another master key, in one transaction.
// Afterwards only next opens the store. No server may use the store at that time. by names
// the operator in the audit log.
func ChangeMasterKey(ctx context.Context, s storage.Store, old, next MasterKey, by string) error {
	return s.Update(ctx, func(tx storage.Tx) error {
		v, databaseID, err := readDataKey(tx, old)
		if err != nil {
			return err
		}
		record, err := sealDataKey(next, databaseID, v.key)
		if err != nil {
			return err
		}
		return errors.Join(
			tx.Put(dataKeyRecord, record),
			audit.Append(tx, time.Now(), audit.Event{Action: "masterkey.change", By: by, Target: databaseID}),
		)
	})
}
