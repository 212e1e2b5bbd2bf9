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
	"time"

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
	Schema int    `json:"schema"`
	Meta   []byte `json:"meta"` // SHA-256 of the record meta
	// Life grows when a store is made of a copy, so that servers which use the store that it replaces notice it. A
	// store that was never restored has none, and its record is the same as in builds that know of no Life.
	Life uint64    `json:"life,omitempty"`
	Keys []DataKey `json:"data_keys"` // the newest first; a second one while records have its tags
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

// Seal returns the record keyring. Of two master keys the first one seals it.
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
	out := sealed.Keys{Database: database, Life: k.Life, Current: k.Keys[0].sealed()}
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
	Vault    *vault.Vault // of the newest data key, also after another server has changed it
	Database string
	Keyring  Keyring // as it was read first

	record []byte    // the record keyring as it was read first
	master MasterKey // all that were given
	opened MasterKey // the one that opened the record
}

// Unlock opens the keyring, and checks meta against it. It never makes a new data key, because
// every record of the store would be lost. The error matches storage.ErrNotFound if the store has
// neither record, and ErrMasterKey if master is another key. check, which may be nil, looks at meta once
// it is known to be whole, or that master cannot tell.
func Unlock(ctx context.Context, s storage.Store, master MasterKey, check func(storage.Meta) error) (*Unlocked, error) {
	u := &Unlocked{File: s, master: master}
	err := s.View(ctx, func(r storage.Reader) error {
		meta, err := storage.ReadMeta(r)
		if err != nil {
			return explainSchema(r, master, err)
		}
		u.Database = meta.DatabaseID
		u.record, err = readRecord(r)
		if err == nil {
			u.Keyring, u.opened, err = open(r, u.record, master, u.Database)
		}
		if check != nil && (err == nil || errors.Is(err, ErrMasterKey)) {
			err = cmp.Or(check(meta), err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	u.Vault = u.Keyring.Vault(u.Database)
	u.Store, err = sealed.New(ctx, s, u.Keyring.TagKeys(u.Database))
	return u, err
}

// Share lets other servers use the store at the same time: Store and Vault follow the keys that they change. It
// comes before the first use of both.
func (u *Unlocked) Share() {
	u.Store.Share(sealed.Shared{
		Record: u.record,
		Read: func(r storage.Reader, record []byte) (sealed.Keys, error) {
			k, _, err := open(r, record, u.master, u.Database)
			if err != nil {
				return sealed.Keys{}, err
			}
			return k.TagKeys(u.Database), nil
		},
		Changed: func(k sealed.Keys) { u.Vault.Rekey(k.Current.DataKey) },
	})
}

// Change reads the record keyring in a transaction of the store below the tags, and writes what change makes of it. Another
// server may have written it since Unlock, so nothing is decided by what was read before. change returns false to
// leave the record as it is. next seals the record if it is not nil, and else the master key that opened it.
func (u *Unlocked) Change(tx storage.Tx, next *MasterKey, change func(k *Keyring) (bool, error)) error {
	record, err := readRecord(tx)
	if err != nil {
		return err
	}
	k, opened, err := open(tx, record, u.master, u.Database)
	if err != nil {
		return err
	}
	if write, err := change(&k); err != nil || !write {
		return err
	}
	if next != nil {
		opened = *next
	}
	return Put(tx, k, opened, u.Database)
}

// IsOpenedBy reports whether the store is sealed under the first key of master.
func (u *Unlocked) IsOpenedBy(master MasterKey) bool { return master.secret == u.opened.secret }

// BeginLife raises the life of a store that was made of a copy: above that of the copy, above that of the store that it
// replaces, and to the time in milliseconds, so that two restores of one copy differ.
func (u *Unlocked) BeginLife(ctx context.Context, replaced uint64, now time.Time) error {
	var life uint64
	err := u.File.Update(ctx, func(tx storage.Tx) error {
		return u.Change(tx, nil, func(k *Keyring) (bool, error) {
			k.Life = max(k.Life+1, replaced+1, uint64(now.UnixMilli()))
			life = k.Life
			return true, nil
		})
	})
	if err == nil {
		u.Store.Restored(life)
	}
	return err
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
	_, plain, openErr := master.open(record, other.Database)
	if openErr != nil {
		return err
	}
	clear(plain)
	return storage.Damaged(MetaRecord, "it names schema %d, and the store was written with schema %d", other.Schema, storage.Schema)
}

// readRecord reads the record keyring from the store below the tags.
func readRecord(r storage.Reader) ([]byte, error) {
	record, err := r.Get(Record)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, storage.Damaged(Record, "it is missing")
	}
	if err == nil && len(record) <= MasterIDBytes {
		err = storage.Damaged(Record, "it is cut off")
	}
	return record, err
}

// open opens the record keyring and reads meta, and returns which master key opened it.
func open(r storage.Reader, record []byte, master MasterKey, database string) (k Keyring, opened MasterKey, err error) {
	opened, plain, err := master.open(record, database)
	switch known := subtle.ConstantTimeCompare(record[:MasterIDBytes], opened.id()) == 1; {
	case err != nil && !known:
		return k, opened, ErrMasterKey
	case !known:
		clear(plain)
		return k, opened, storage.Damaged(Record, "the identifier of the master key in it was changed")
	case err != nil:
		return k, opened, storage.Damaged(Record, "it does not open, so it or the record meta was changed")
	}
	defer clear(plain)
	if err := storage.DecodeJSON(Record, plain, &k); err != nil {
		return k, opened, err
	}
	meta, err := r.Get(MetaRecord)
	if err != nil {
		return k, opened, err
	}
	return k, opened, k.check(meta)
}

// open returns what the record keyring seals, and the key that opened it. With an error it is the key that is named in
// the record, if that is one of them.
func (k MasterKey) open(record []byte, database string) (opened MasterKey, plain []byte, err error) {
	for _, one := range k.each() {
		plain, openErr := vault.New(one.secret, database).Open(Record, record[MasterIDBytes:])
		if openErr == nil {
			return one, plain, nil
		}
		if err == nil || subtle.ConstantTimeCompare(record[:MasterIDBytes], one.id()) == 1 {
			opened, err = one, openErr
		}
	}
	return opened, nil, err
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
