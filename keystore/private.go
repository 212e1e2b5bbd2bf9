package keystore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"keymill/keystore/internal/keytype"
	"keymill/keystore/internal/libcrypto"
	"keymill/keystore/internal/schedule"
	"keymill/keystore/internal/signing"
	"keymill/storage"
)

// checkPrivate opens the private halves of reserves, and of retired keys that are not erased yet. reload
// opens those of spare and active keys only, and a reserve that does not open must not become a spare.
func (r *Rings) checkPrivate(ctx context.Context, snap *snapshot) error {
	keys := slices.DeleteFunc(slices.Clone(snap.retired), func(k Key) bool { return k.Erase.Equal(schedule.Never) })
	for _, alg := range SupportedAlgorithms() {
		for _, k := range snap.rings[alg].Keys {
			if snap.signers[k.KID] == nil {
				keys = append(keys, k)
			}
		}
	}
	for _, k := range keys {
		var box []byte
		err := r.store.View(ctx, func(tx storage.Reader) (err error) {
			box, err = tx.Get(privateKey(k.KID))
			return err
		})
		if errors.Is(err, storage.ErrNotFound) && snap.rings[k.Alg].Index(k.KID) < 0 {
			continue // a retired key, which is erased in two steps
		}
		if err = missingPrivate(k, err); err == nil {
			_, err = r.openPrivate(k, box, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// missingPrivate turns storage.ErrNotFound into damage.
func missingPrivate(k Key, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return storage.Damaged(privateKey(k.KID), "it is missing, although a ring has the key")
	}
	return err
}

// openSigners opens the private halves that next does not have yet.
func (r *Rings) openSigners(next *snapshot, sealed map[string][]byte) error {
	for _, ring := range next.rings {
		for _, k := range ring.Keys {
			if sealed[k.KID] == nil {
				continue
			}
			s, err := r.openPrivate(k, sealed[k.KID], r.rsa)
			if err != nil {
				return fmt.Errorf("read the private half of %s: %w", k.KID, err)
			}
			next.signers[k.KID] = s
		}
	}
	return nil
}

// openPrivate opens a private half. rsa is nil if it is not going to sign.
func (r *Rings) openPrivate(k Key, sealed []byte, rsa *libcrypto.Chooser) (*signing.Signer, error) {
	der, err := r.vault.Open(privateKey(k.KID), sealed)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := keytype.ParsePrivate(der)
	if err != nil {
		return nil, err
	}
	public, err := keytype.ParsePublic(k.Public)
	if err != nil {
		return nil, err
	}
	if err := k.Belongs(public, key); err != nil {
		return nil, storage.Damaged(privateKey(k.KID), "%s", err)
	}
	s, err := signing.New(key, k.Alg, k.KID)
	if err == nil && rsa != nil {
		s.SignWith(rsa.Signer(k.KID, der, key)) // then Go's copy is garbage
	}
	return s, err
}
