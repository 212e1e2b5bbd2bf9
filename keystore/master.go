package keystore

import (
	"context"
	"time"

	"keymill/keystore/internal/keyring"
	"keymill/keystore/internal/masterkey"
	"keymill/storage"
)

// ErrMasterKey means that the store was sealed under another master key.
var ErrMasterKey = keyring.ErrMasterKey

// A MasterKey seals the data key of a store. Printing it does not show the secret.
type MasterKey = keyring.MasterKey

// A WeakKeyError refuses a master key that was not drawn at random.
type WeakKeyError = keyring.WeakKeyError

// NewMasterKey makes a random key. It also returns the line of text (base64) to keep in a
// file.
func NewMasterKey() (MasterKey, []byte) { return keyring.NewMasterKey() }

// ParseMasterKey reads 32 bytes: raw, or as hex or base64 with white space around. Two lines of hex or base64 are two
// keys, during a change of the master key. Its error never quotes the input. If it is a *WeakKeyError, the key is returned too. It must be used for
// nothing but to give a store that is sealed under it another key.
func ParseMasterKey(b []byte) (MasterKey, error) { return keyring.ParseMasterKey(b) }

// Unlock opens a store for a program that does not need its signing keys. The store checks the tag
// of each record. Unlock only reads. The error matches ErrMasterKey if master is another key.
func Unlock(ctx context.Context, s storage.Store, master MasterKey) (storage.Store, error) {
	u, err := keyring.Unlock(ctx, s, master, nil)
	if err != nil {
		return nil, err
	}
	return u.Store, nil
}

// A Progress says how far a long work is: how many records are done, and the key of the last one.
// It may be nil.
type Progress = masterkey.Progress

// A MasterKeyChange says which master key a store has, and which it gets.
type MasterKeyChange = masterkey.Change

// ChangeMasterKey seals the store under another master key. Afterwards only c.Next opens it. A server that uses the store
// at that time goes on if it has both keys; on a store in a file there is none.
func ChangeMasterKey(ctx context.Context, s storage.Store, c MasterKeyChange) error {
	if err := checkWallClock(time.Now()); err != nil {
		return err
	}
	return c.Run(ctx, s)
}
