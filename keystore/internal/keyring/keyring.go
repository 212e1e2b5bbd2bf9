// Package keyring keeps the data keys of a store, sealed under its master key.
package keyring

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"

	"keymill/keystore/internal/vault"
	"keymill/storage"
	"keymill/storage/sealed"
)

// The record keyring is the identifier of a master key (16 bytes) and a keyring, sealed under that
// master key. The identifier tells a wrong master key from a damaged record.
const (
	Record        = "keyring"
	MetaRecord    = "meta"
	MasterIDBytes = 16
)

// ErrMasterKey means that the store was sealed under another master key.
var ErrMasterKey = errors.New("the master key does not open this store; give the key that the store was last sealed under")

// A Keyring holds what the master key protects. It binds the record meta, which has no tag.
type Keyring struct {
	Schema int       `json:"schema"`
	Meta   []byte    `json:"meta"`      // SHA-256 of the record meta
	Keys   []DataKey `json:"data_keys"` // the newest first; a second one while records have its tags
}

// A DataKey is one generation of the data key.
type DataKey struct {
	Generation uint32 `json:"generation"`
	Key        []byte `json:"key"`
}

// NewDataKey makes a data key.
func NewDataKey(generation uint32) DataKey {
	key := make([]byte, keyBytes)
	rand.Read(key)
	return DataKey{generation, key}
}

// Seal returns the record keyring.
func (k Keyring) Seal(master MasterKey, database string) ([]byte, error) {
	plain, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	v := vault.New(master.secret, database)
	box, err := v.Seal(Record, plain)
	return append(master.id(), box...), err
}

// TagKeys returns the keys of the records' tags.
func (k Keyring) TagKeys(database string) sealed.Keys {
	out := sealed.Keys{Database: database, Current: k.Keys[0].sealed()}
	if len(k.Keys) > 1 {
		previous := k.Keys[1].sealed()
		out.Previous = &previous
	}
	return out
}

func (k DataKey) sealed() sealed.Generation {
	return sealed.Generation{Number: k.Generation, DataKey: [keyBytes]byte(k.Key)}
}

// Vault returns the vault of the newest data key. Every sealed record is sealed under it.
func (k Keyring) Vault(database string) *vault.Vault {
	return vault.New([keyBytes]byte(k.Keys[0].Key), database)
}

// id identifies a master key. It says nothing about the key.
func (k MasterKey) id() []byte {
	m := hmac.New(sha256.New, k.secret[:])
	m.Write([]byte("keymill master key id v1"))
	return m.Sum(nil)[:MasterIDBytes]
}

// An Unlocked store is open under its master key.
type Unlocked struct {
	File     storage.Store // below the tags
	Store    *sealed.Store
	Database string
	Keyring  Keyring
}

// Unlock opens the keyring, and checks meta against it. It never makes a new data key, because
// every record of the store would be lost. The error matches storage.ErrNotFound if the store has
// neither record, and ErrMasterKey if master is another key. check, which may be nil, looks at meta once
// it is known to be whole, or that master cannot tell.
func Unlock(ctx context.Context, s storage.Store, master MasterKey, check func(storage.Meta) error) (*Unlocked, error) {
	u := &Unlocked{File: s}
	err := s.View(ctx, func(r storage.Reader) error {
		meta, err := storage.ReadMeta(r)
		if err != nil {
			return explainSchema(r, master, err)
		}
		u.Database = meta.DatabaseID
		u.Keyring, err = read(r, master, u.Database)
		if check != nil && (err == nil || errors.Is(err, ErrMasterKey)) {
			err = cmp.Or(check(meta), err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	u.Store, err = sealed.New(ctx, s, u.Keyring.TagKeys(u.Database))
	return u, err
}

// explainSchema returns err, unless that is a *storage.SchemaError and meta was changed: the keyring of another
// schema does not open here, because the schema is part of what it is sealed for. It reads no other record,
// and of the keyring no more than its seal.
func explainSchema(r storage.Reader, master MasterKey, err error) error {
	other := new(storage.SchemaError)
	if !errors.As(err, &other) {
		return err
	}
	record, getErr := r.Get(Record)
	if getErr != nil || len(record) <= MasterIDBytes {
		return err
	}
	v := vault.New(master.secret, other.Database)
	plain, openErr := v.Open(Record, record[MasterIDBytes:])
	if openErr != nil {
		return err
	}
	clear(plain)
	return storage.Damaged(MetaRecord, "it names schema %d, and the store was written with schema %d", other.Schema, storage.Schema)
}

// read reads the records keyring and meta from the store below the tags.
func read(r storage.Reader, master MasterKey, database string) (k Keyring, err error) {
	record, err := r.Get(Record)
	if errors.Is(err, storage.ErrNotFound) {
		return k, storage.Damaged(Record, "it is missing")
	}
	if err != nil {
		return k, err
	}
	if len(record) <= MasterIDBytes {
		return k, storage.Damaged(Record, "it is cut off")
	}
	v := vault.New(master.secret, database)
	plain, err := v.Open(Record, record[MasterIDBytes:])
	switch known := subtle.ConstantTimeCompare(record[:MasterIDBytes], master.id()) == 1; {
	case err != nil && !known:
		return k, ErrMasterKey
	case !known:
		clear(plain)
		return k, storage.Damaged(Record, "the identifier of the master key in it was changed")
	case err != nil:
		return k, storage.Damaged(Record, "it does not open, so it or the record meta was changed")
	}
	defer clear(plain)
	if err := storage.DecodeJSON(Record, plain, &k); err != nil {
		return k, err
	}
	meta, err := r.Get(MetaRecord)
	if err != nil {
		return k, err
	}
	return k, k.check(meta)
}

func (k Keyring) check(meta []byte) error {
	if k.Schema != storage.Schema || len(k.Keys) < 1 || len(k.Keys) > 2 {
		return storage.Damaged(Record, "it is of another schema")
	}
	for n, key := range k.Keys {
		if len(key.Key) != keyBytes || key.Generation != k.Keys[0].Generation-uint32(n) {
			return storage.Damaged(Record, "a data key is impossible")
		}
	}
	if sum := sha256.Sum256(meta); subtle.ConstantTimeCompare(sum[:], k.Meta) != 1 {
		return storage.Damaged(MetaRecord, "it was changed")
	}
	return nil
}

// Put writes the record keyring into the store below the tags.
func Put(tx storage.Tx, k Keyring, master MasterKey, database string) error {
	record, err := k.Seal(master, database)
	if err != nil {
		return fmt.Errorf("seal the keyring: %w", err)
	}
	return tx.Put(Record, record)
}
