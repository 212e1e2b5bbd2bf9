package record

import (
	"encoding/binary"

	"keymill/storage"
)

// Present returns the value of a record that only is there. It is not empty, because a store need not tell
// an empty value from a missing one.
func Present() []byte { return []byte{'1'} }

// CheckPresent returns an error for any other value.
func CheckPresent(key string, raw []byte) error {
	if string(raw) != "1" {
		return storage.Damaged(key, "it has another value than such a record")
	}
	return nil
}

// DecodeEpoch reads an epoch of eight bytes.
func DecodeEpoch(key string, raw []byte) (uint64, error) {
	if len(raw) == 8 {
		if epoch := binary.BigEndian.Uint64(raw); PossibleEpoch(epoch) {
			return epoch, nil
		}
	}
	return 0, storage.Damaged(key, "its length or its value is impossible")
}
