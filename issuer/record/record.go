// Package record reads stored records: strictly, in two versions while a store is upgraded, from memory
// if their bytes have not changed, and in lists that no damaged record ends.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"keymill/storage"
)

// ErrNewer is for a record that is not damaged: it has a later version than this program knows.
var ErrNewer = errors.New("written by a newer version of Keymill; use that version")

// Unreadable reports whether err is about a record that cannot be read, and not about the store.
func Unreadable(err error) bool {
	return errors.Is(err, storage.ErrDamaged) || errors.Is(err, ErrNewer)
}

// Decode reads a record strictly: it is exactly what this program writes, and possible accepts its
// values.
func Decode[T any](key string, raw []byte, possible func(*T) bool) (*T, error) {
	value := new(T)
	if err := storage.DecodeJSON(key, raw, value); err != nil {
		return nil, err
	}
	if !possible(value) {
		return nil, storage.Damaged(key, "a value in it is impossible")
	}
	return value, nil
}

// Find reads a record that Decode reads. It returns nil without an error if there is none.
func Find[T any](r storage.Reader, key string, possible func(*T) bool) (*T, error) {
	raw, err := r.Get(key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return Decode(key, raw, possible)
}

// PutJSON writes a record that Decode reads.
func PutJSON(tx storage.Tx, key string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return tx.Put(key, raw)
}

// PossibleSecond reports whether this program can have written an instant that is stored in whole seconds.
func PossibleSecond(t time.Time) bool { return storage.PossibleTime(t) && t.Nanosecond() == 0 }

// PossibleEpoch reports whether this program can have written an epoch, in Unix nanoseconds.
func PossibleEpoch(epoch uint64) bool {
	return epoch <= math.MaxInt64 && storage.PossibleTime(time.Unix(0, int64(epoch)).UTC())
}

// Distinct returns list sorted and without repetitions. It is never nil, so that JSON shows [].
func Distinct(list []string) []string {
	return slices.Compact(append([]string{}, slices.Sorted(slices.Values(list))...))
}

// PossibleList reports whether this program can have written a list that is stored sorted, without repetitions, and never as null.
func PossibleList(list []string, most int, valid func(string) bool) bool {
	for n, s := range list {
		if !valid(s) || n > 0 && s <= list[n-1] {
			return false
		}
	}
	return list != nil && len(list) <= most
}

// Missing turns storage.ErrNotFound into damage, for a record that another one needs: something other
// than this program has deleted it. It returns any other error unchanged.
func Missing(err error, key, why string) error {
	if errors.Is(err, storage.ErrNotFound) {
		return storage.Damaged(key, "it is missing, although %s", why)
	}
	return err
}

// Versions read the layouts of a binary record that begins with its version: version → decoder, which
// returns nil for an impossible record. A new layout raises storage.Schema and the version, and its
// program keeps the decoder of the version before: while it upgrades a store, records of both are there.
// It writes the newest only.
type Versions[T any] map[byte]func(key string, b []byte) *T

// Decode reads a record of any of the versions.
func (v Versions[T]) Decode(key string, b []byte) (*T, error) {
	if len(b) == 0 {
		return nil, storage.Damaged(key, "it is empty")
	}
	read, newest := v[b[0]], byte(0)
	for version := range v {
		newest = max(newest, version)
	}
	if b[0] > newest {
		return nil, fmt.Errorf("record %s has version %d, and this program knows %d: %w", key, b[0], newest, ErrNewer)
	} else if read == nil {
		return nil, storage.Damaged(key, "no version of such a record has the number %d", b[0])
	}
	if rec := read(key, b); rec != nil {
		return rec, nil
	}
	return nil, storage.Damaged(key, "its length or a value in it is impossible")
}

// Intersect returns the strings that two sorted lists have in common, sorted.
func Intersect(a, b []string) []string {
	var out []string
	for _, s := range a {
		if _, ok := slices.BinarySearch(b, s); ok {
			out = append(out, s)
		}
	}
	return out
}

// Earliest returns the earlier of two times.
func Earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Latest returns the later of two times.
func Latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
