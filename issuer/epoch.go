package issuer

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"keymill/issuer/outbox"
	"keymill/issuer/record"
	"keymill/storage"
)

// Users, clients and the store each have an epoch, a counter. A family stores the current three
// when it begins and is live only while all three are unchanged, so one write ends any number of
// sessions. The values are times in Unix nanoseconds. So a record that is removed and added again
// never gets an earlier epoch, and an access token without a session can be compared with an epoch
// by its iat.

const epochKey = "epoch"

const storeRevoked = "store.revoked" // the event of the webhook

// firstEpoch is that of a store until it is raised. No token is older.
var firstEpoch = newEpoch(time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC))

// maxClockStep is how far the wall clock may be set back without being distrusted, see package keystore.
const maxClockStep = 2 * time.Minute

func newEpoch(now time.Time) uint64 { return uint64(now.UnixNano()) }

// epochAfter returns an epoch that is later than every iat of a token so far, also if the wall clock
// was set back by up to maxClockStep since. decision is the time of decisions, wall the wall time. iat
// has no fractions, so the epoch lies in the next second. The fraction is that of now, so that two
// instants give two epochs. The price: after such a step /introspect finds new tokens without a session
// inactive until the wall clock has caught up. The time of decisions alone would make that hours after a
// wall clock that was hours ahead.
func epochAfter(epoch uint64, decision, wall time.Time) uint64 {
	now := earliest(decision, wall.Add(maxClockStep))
	return max(epoch+1, newEpoch(now.Add(time.Second)))
}

func (i *Issuer) nextEpoch(epoch uint64) uint64 {
	return epochAfter(epoch, i.keys.Now(), i.keys.WallTime())
}

// issuedBefore reports whether a token with that iat is older than the epoch.
func issuedBefore(iat time.Time, epoch uint64) bool {
	return iat.Add(backdate).Unix() < int64(epoch/uint64(time.Second))
}

// readStoreEpoch returns the epoch of the store. The first Open writes it, so a missing one is damage and
// not one that was never raised.
func readStoreEpoch(r storage.Reader) (uint64, error) {
	raw, err := r.Get(epochKey)
	if err != nil {
		return 0, record.Missing(err, epochKey, "every store that was served has one")
	}
	return record.DecodeEpoch(epochKey, raw)
}

// StoreEpoch returns the epoch of the store, or 0 before the first Open.
func StoreEpoch(r storage.Reader) (uint64, error) {
	if _, err := r.Get(epochKey); errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	return readStoreEpoch(r)
}

// CheckEpoch returns an error if the epoch of the store, which every session needs, cannot be read.
func (i *Issuer) CheckEpoch(ctx context.Context) error {
	return i.store.View(ctx, func(r storage.Reader) error { _, err := readStoreEpoch(r); return err })
}

// EndAllSessions ends every session of the store in the caller's transaction, with one write, and
// leaves the event "store.revoked" if there is a webhook. decision is the time of decisions, wall the wall
// time. The new epoch is later than that of the store and than known, which is 0 if no other is known. It is
// for a start and a restore; RevokeAllSessions is for a running Issuer.
func EndAllSessions(tx storage.Tx, decision, wall time.Time, known uint64, webhook bool) error {
	epoch, err := StoreEpoch(tx)
	if err != nil {
		return err
	}
	if err := putStoreEpoch(tx, epochAfter(max(epoch, firstEpoch, known), decision, wall)); err != nil || !webhook {
		return err
	}
	return outbox.Write(tx, decision, storeRevoked, nil)
}

// makeStoreEpoch writes the first epoch, unless EndAllSessions has written one.
func makeStoreEpoch(tx storage.Tx) error {
	_, err := tx.Get(epochKey)
	if errors.Is(err, storage.ErrNotFound) {
		return putStoreEpoch(tx, firstEpoch)
	}
	return err
}

func putStoreEpoch(tx storage.Tx, epoch uint64) error {
	return tx.Put(epochKey, binary.BigEndian.AppendUint64(nil, epoch))
}
