// Package epoch reads and raises the epochs that end sessions. Users, clients and the store each have one,
// a counter. A session stores the current three when it begins and is live only while all three are
// unchanged, so one write ends any number of sessions. The values are times in Unix nanoseconds. So a
// record that is removed and added again never gets an earlier epoch, and an access token without a session
// can be compared with an epoch by its iat.
//
// Those of users and clients are in their records. That of the store has its own:
//
//	epoch   eight bytes
package epoch

import (
	"encoding/binary"
	"errors"
	"time"

	"keymill/issuer/outbox"
	"keymill/issuer/record"
	"keymill/storage"
)

// Key is the key of the epoch of the store.
const Key = "epoch"

// StoreRevoked is the event of the webhook when the epoch of the store is raised.
const StoreRevoked = "store.revoked"

// First is the epoch of a store until it is raised. No token is older.
var First = Of(time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC))

// MaxClockStep is how far the wall clock may be set back without being distrusted, see package keystore.
const MaxClockStep = 2 * time.Minute

// Of returns the epoch of a time.
func Of(now time.Time) uint64 { return uint64(now.UnixNano()) }

// After returns an epoch that is later than every iat of a token so far, also if the wall clock
// was set back by up to MaxClockStep since. decision is the time of decisions, wall the wall time. iat
// has no fractions, so the epoch lies in the next second. The fraction is that of now, so that two
// instants give two epochs. The price: after such a step /introspect finds new tokens without a session
// inactive until the wall clock has caught up. The time of decisions alone would make that hours after a
// wall clock that was hours ahead.
func After(epoch uint64, decision, wall time.Time) uint64 {
	now := wall.Add(MaxClockStep)
	if decision.Before(now) {
		now = decision
	}
	return max(epoch+1, Of(now.Add(time.Second)))
}

// IsAfter reports whether the epoch is later than a token that was made at that time, which has no fractions.
func IsAfter(epoch uint64, made time.Time) bool {
	return made.Unix() < int64(epoch/uint64(time.Second))
}

// Read returns the epoch of the store. The first start writes it, so a missing one is damage and
// not one that was never raised.
func Read(r storage.Reader) (uint64, error) {
	raw, err := r.Get(Key)
	if err != nil {
		return 0, record.Missing(err, Key, "every store that was served has one")
	}
	return record.DecodeEpoch(Key, raw)
}

// Find returns the epoch of the store, or 0 before the first start.
func Find(r storage.Reader) (uint64, error) {
	if _, err := r.Get(Key); errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	return Read(r)
}

// Put writes the epoch of the store.
func Put(tx storage.Tx, epoch uint64) error {
	return tx.Put(Key, binary.BigEndian.AppendUint64(nil, epoch))
}

// Make writes the first epoch, unless EndAllSessions has written one.
func Make(tx storage.Tx) error {
	_, err := tx.Get(Key)
	if errors.Is(err, storage.ErrNotFound) {
		return Put(tx, First)
	}
	return err
}

// EndAllSessions ends every session of the store in the caller's transaction, with one write, and
// leaves the event StoreRevoked if there is a webhook. decision is the time of decisions, wall the wall
// time. The new epoch is later than that of the store and than known, which is 0 if no other is known. It is
// for a start and a restore; RevokeAllSessions of package issuer is for a running server.
func EndAllSessions(tx storage.Tx, decision, wall time.Time, known uint64, webhook bool) error {
	epoch, err := Find(tx)
	if err != nil {
		return err
	}
	if err := Put(tx, After(max(epoch, First, known), decision, wall)); err != nil || !webhook {
		return err
	}
	return outbox.Write(tx, decision, StoreRevoked, nil)
}
