package record

import (
	"errors"
	"strconv"

	"keymill/storage"
)

// PossibleCount reports whether this program can have written the counter, which is deleted at 0.
func PossibleCount(n *int) bool { return *n > 0 }

// AddCount changes a record that is a counter, and deletes it at 0.
func AddCount(tx storage.Tx, key string, change int) error {
	n := new(int)
	raw, err := tx.Get(key)
	if err == nil {
		n, err = Decode(key, raw, PossibleCount)
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	if *n += change; *n > 0 {
		return tx.Put(key, strconv.AppendInt(nil, int64(*n), 10))
	}
	return tx.Delete(key)
}
