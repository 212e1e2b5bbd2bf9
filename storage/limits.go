package storage

import "fmt"

// Limits of one key, one value and one Update. What an Update reads and scans
// counts as well as what it writes, so that every store can keep it in one
// round of its own protocol.
const (
	MaxKeyBytes    = 256       // printable ASCII, at least one byte
	MaxValueBytes  = 64 << 10  // one value
	MaxUpdateKeys  = 64        // distinct keys that one Update touches
	MaxUpdateBytes = 512 << 10 // keys and values that one Update touches
)

// CheckKey returns ErrLimit unless key is 1 to MaxKeyBytes bytes of printable ASCII.
// A store calls it for the keys of a View; an Overlay calls it for those of an Update.
func CheckKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: key of %d bytes, 1 to %d are allowed", ErrLimit, len(key), MaxKeyBytes)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return fmt.Errorf("%w: key %q is not printable ASCII", ErrLimit, key)
		}
	}
	return nil
}

// clone never returns nil, because GetAll returns nil for an absent record.
func clone(b []byte) []byte {
	return append([]byte{}, b...)
}
