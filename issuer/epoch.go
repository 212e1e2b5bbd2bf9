package issuer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// An epoch is a counter on a user, a client and the store. A family notes the three at its
// birth and lives only while they are equal, so ending any number of families is one
// write. Its values are instants in Unix nanoseconds: a record that is made anew under an
// old name never meets the epoch of its predecessor, and a token without a family can be
// compared with it by its iat.

const epochKey = "epoch"

func newEpoch(now time.Time) uint64 { return uint64(now.UnixNano()) }

// nextEpoch lies in the second after now, as iat has no fractions: of the tokens of this
// second none survives. Its fraction is now's own, so that no two instants give the same.
func nextEpoch(epoch uint64, now time.Time) uint64 {
	return max(epoch+1, newEpoch(now.Add(time.Second)))
}

// issuedBefore tells whether a token issued at iat is older than the epoch.
func issuedBefore(iat time.Time, epoch uint64) bool {
	return iat.Add(backdate).Unix() < int64(epoch/uint64(time.Second))
}

// readStoreEpoch: a store whose families were never all ended has none.
func readStoreEpoch(r storage.Reader) (uint64, error) {
	raw, err := r.Get(epochKey)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err == nil && len(raw) != 8 {
		err = fmt.Errorf("read %s: %w", epochKey, errDamaged)
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(raw), nil
}

func putStoreEpoch(tx storage.Tx, epoch uint64) error {
	return tx.Put(epochKey, binary.BigEndian.AppendUint64(nil, epoch))
}
