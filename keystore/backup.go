package keystore

import (
	"context"

	"keymill/keystore/internal/keyring"
	"keymill/storage"
)

const backupPurpose = "keymill backup v1"

// BackupKey returns the key that authenticates copies of the store, see package backup.
func (r *Rings) BackupKey() ([]byte, error) { return r.vault.Derive(backupPurpose) }

// BackupKey is Rings.BackupKey for a store that is not served. It only reads. The error matches
// ErrMasterKey if master is another key.
func BackupKey(ctx context.Context, s storage.Store, master MasterKey) ([]byte, error) {
	u, err := keyring.Unlock(ctx, s, master, nil)
	if err != nil {
		return nil, err
	}
	return u.Keyring.Vault(u.Database).Derive(backupPurpose)
}
