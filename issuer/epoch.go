package issuer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// Users, clients and the store each have an epoch, a counter. A family stores the current three
// when it begins and is live only while all three are unchanged, so one write ends any number of
// sessions. The values are times in Unix nanoseconds. So a record that is removed and added again
// never gets an earlier epoch, and an access token without a session can be compared with an epoch
// by its iat.

const epochKey = "epoch"

func newEpoch(now time.Time) uint64 { return uint64(now.UnixNano()) }

// nextEpoch returns an epoch in the second after now. iat has no fractions, so this also revokes the
// tokens of the current second. The fraction is that of now, so that two instants give two epochs.
func nextEpoch(epoch uint64, now time.Time) uint64 {
	return max(epoch+1, newEpoch(now.Add(time.Second)))
}

// issuedBefore reports whether a token with that iat is older than the epoch.
func issuedBefore(iat time.Time, epoch uint64) bool {
	return iat.Add(backdate).Unix() < int64(epoch/uint64(time.Second))
}

// readStoreEpoch returns the epoch of the store, 0 if it was never raised.
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
