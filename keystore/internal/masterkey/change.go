// Package masterkey seals a store under another master key.
//
// The change is one transaction. Afterwards the other records get tags of the new data key, which a crash can
// cut short: Finish ends it.
package masterkey

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keymill/keystore/internal/keyring"
	"keymill/keystore/internal/vault"
	"keymill/storage"
	"keymill/storage/audit"
	"keymill/storage/sealed"
)

// A Progress says how far a long work is: how many records are done, and the key of the last one.
// It may be nil.
type Progress func(records int, key string)

// A Change says which master key a store has, and which it gets.
type Change struct {
	Old, Next keyring.MasterKey
	By        string       // who requested it, for the audit log
	Mark      *sealed.Mark // of the store; nil if it has none
	Progress  Progress     // of the end of the last change, if that has not ended
	// Shared gives every record a tag of the new data key at once, because other servers use the store and none
	// may start soon. Each of them needs both master keys.
	Shared bool
}

// Run seals the store under another master key, with a new data key. Afterwards only
// c.Next opens it. A server that uses the store at that time goes on if it has both keys; on a store in a file there is none.
//
// One transaction writes the keyring, the sealed secrets, the rings and the manifest under the new
// keys. A crash before its commit leaves a store that only c.Old opens, after it only c.Next does. The
// other records have tags of the old data key for some time: the next Open, or another
// change, tags them again.
func (c Change) Run(ctx context.Context, s storage.Store) error {
	u, err := keyring.Unlock(ctx, s, c.Old, nil)
	if err != nil {
		return err
	}
	u.Share()
	if u.IsOpenedBy(c.Next) {
		return errors.New("the new master key is the old one; nothing was changed")
	}
	// A keyring holds two data keys at most, so the last change has to end first.
	if err := c.Finish(ctx, u); err != nil {
		return fmt.Errorf("end the last change of the master key: %w", err)
	}
	if err := u.Store.CheckManifest(ctx); err != nil {
		return err
	}
	made := keyring.NewDataKey(u.Keyring.Keys[0].Generation + 1)
	if err := s.Update(ctx, func(tx storage.Tx) error { return c.changeKeys(tx, u, made) }); err != nil || !c.Shared {
		return err
	}
	if u, err = keyring.Unlock(ctx, s, c.Next, nil); err != nil {
		return err
	}
	u.Share()
	return c.Finish(ctx, u)
}

// changeKeys makes a new data key the current one, and seals the store under the next master key.
func (c Change) changeKeys(tx storage.Tx, u *keyring.Unlocked, made keyring.DataKey) error {
	var old, next *vault.Vault
	var keys sealed.Keys
	err := u.Change(tx, &c.Next, func(k *keyring.Keyring) (bool, error) {
		if len(k.Keys) != 1 || k.Keys[0].Generation+1 != made.Generation {
			return false, errors.New("the master key is being changed by another process; nothing was changed")
		}
		old = k.Vault(u.Database)
		k.Keys = []keyring.DataKey{made, k.Keys[0]}
		next, keys = k.Vault(u.Database), k.TagKeys(u.Database)
		return true, nil
	})
	if err != nil {
		return err
	}
	sealAgain := func(key string, box []byte) ([]byte, error) {
		plain, err := old.Open(key, box)
		if err != nil {
			return nil, err
		}
		defer clear(plain)
		return next.Seal(key, plain)
	}
	return sealed.Change(tx, keys, func(tx storage.Tx) error {
		return errors.Join(
			putAgain(tx, "private/", sealAgain),
			putAgain(tx, "refresh/secret/", sealAgain),
			putAgain(tx, "verifier/secret/", sealAgain),
			putAgain(tx, "ring/", func(_ string, value []byte) ([]byte, error) { return value, nil }),
			audit.Append(tx, time.Now(), audit.Event{Action: "masterkey.change", By: c.By, Target: u.Database}),
		)
	})
}

// putAgain writes what change makes of each record below prefix.
func putAgain(tx storage.Tx, prefix string, change func(key string, value []byte) ([]byte, error)) error {
	for e, err := range tx.Scan(prefix, storage.EndOf(prefix)) {
		if err != nil {
			return err
		}
		value, err := change(e.Key, e.Value)
		if err != nil {
			return err
		}
		if err := tx.Put(e.Key, value); err != nil {
			return err
		}
	}
	return nil
}

// Finish ends a change of the master key: it tags the remaining records again and then removes the
// old data key from the keyring. A crash in between continues at the next call. The mark, which may be
// nil, is renewed first, so that it fits at each moment.
func (c Change) Finish(ctx context.Context, u *keyring.Unlocked) error {
	if !u.Store.Retagging() {
		return nil
	}
	if c.Mark != nil {
		if err := u.Store.RenewMark(c.Mark); err != nil {
			return err
		}
	}
	if err := u.Store.Retag(ctx, c.Progress); err != nil {
		return err
	}
	err := u.File.Update(ctx, func(tx storage.Tx) error {
		return u.Change(tx, nil, func(k *keyring.Keyring) (bool, error) {
			// Otherwise another server has ended this change, and perhaps there was a later one.
			ours := len(k.Keys) == 2 && k.Keys[0].Generation == u.Keyring.Keys[0].Generation
			k.Keys = k.Keys[:1]
			return ours, nil
		})
	})
	if err != nil {
		return err
	}
	u.Store.Retagged()
	if err := u.Store.Refresh(ctx); err != nil {
		return err
	}
	u.Keyring.Keys = u.Keyring.Keys[:1]
	return nil
}
