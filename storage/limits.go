package storage

import (
	"fmt"
	"strings"
)

// Limits of one key, one value and one Update. Everything that an Update reads, scans or
// writes counts, so that every store can send it in one request of its own protocol.
const (
	MaxKeyBytes    = 256       // printable ASCII, at least one byte
	MaxValueBytes  = 64 << 10  // one value
	MaxUpdateKeys  = 64        // distinct keys that one Update touches
	MaxUpdateBytes = 512 << 10 // keys and values that one Update touches
)

// MaxTagBytes is how much longer a stored value may be than that of the caller. It is left to
// package sealed, which adds a tag to each value. A store allows values of MaxStoredBytes, and the
// first MaxTagBytes of a value do not count in MaxUpdateBytes.
const (
	MaxTagBytes    = 32
	MaxStoredBytes = MaxValueBytes + MaxTagBytes
)

// MaxManifestKeys is how many keys of the manifest of package sealed an Update may touch besides
// MaxUpdateKeys, and the record keyring is one of them. Neither they nor their values count in the limits of the caller.
const MaxManifestKeys = 48

// keyringKey is the record that package sealed reads in each Update of a shared store.
const keyringKey = "keyring"

// ManifestKey is the key of the manifest. Its other records have keys that begin with "manifest/".
const ManifestKey = "manifest"

// InManifest reports whether the record belongs to the manifest of package sealed.
func InManifest(key string) bool {
	return key == ManifestKey || strings.HasPrefix(key, ManifestKey+"/")
}

// MovedKey is the key of the record of package moved. It is read by each Update of a server, so it does not count in
// the limits of the caller.
const MovedKey = "moved"

// RestoreKey is the key of the record of a restore that fills a database, until that is a store.
const RestoreKey = "restore"

// CheckKey returns ErrLimit unless key is 1 to MaxKeyBytes bytes of printable ASCII.
// A store calls it for the keys of a View; an Overlay calls it for those of an Update.
func CheckKey(key string) error {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return fmt.Errorf("%w: the key has %d bytes, 1 to %d are allowed", ErrLimit, len(key), MaxKeyBytes)
	}
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return fmt.Errorf("%w: key %q is not printable ASCII", ErrLimit, key)
		}
	}
	return nil
}

// EndOf returns the end of a Scan of all keys below a prefix that ends in a slash: '0' follows '/'.
func EndOf(prefix string) string { return prefix[:len(prefix)-1] + "0" }

// After returns the first key that can follow key, to continue a Scan behind it. A writer of the store can put keys of any bytes.
func After(key string) string { return key + "\x00" }

// Before reports whether a key is before the end of a Scan.
func Before(key, end string) bool { return end == "" || key < end }

// clone never returns nil, because GetAll returns nil for an absent record.
func clone(b []byte) []byte {
	return append([]byte{}, b...)
}
