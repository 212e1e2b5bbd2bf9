// Package backup copies a store while it is in use, and reads such a copy.
//
// A copy is made in two parts. Write first reads all records in key order, in pages of 1,000, each in
// a View of its own. In the meantime the store hands over each write that it commits. Write appends
// these changes after the pages:
//
//	records  a b c … z        each as it was when its page was read
//	changes  b' d deleted m'  each write since before the first page, in the order of commits
//
// Applied in this order they give the store as it was at one moment: after the last change. A record
// that was not changed has not been written since its page was read, so its page is right; for any
// other record the last change wins. The trailer has a time shortly before that moment, when all pages had
// been read: every change that was acknowledged before that time is in the copy.
//
// A store on the network is changed by other servers too, which hand over nothing. It shows one instant for as long as
// the copy takes, so WriteSnapshot writes records and no changes.
//
// # Format
//
//	"keymill backup\n"
//	header                            the length (uvarint) and JSON, see Header
//	'P' key value | 'D' key …         a record that was read or put, or a deleted one; the lengths of key
//	                                  and value are uvarints
//	'F' text                          instead of all that follows: why the copy ends before it is whole
//	'E' trailer                       as header, see Trailer
//	SHA-256 of all before it          32 bytes
//	HMAC-SHA256 of that sum           32 bytes
//
// The record of package moved, which a store has while it is moved to another place, is not in a copy.
//
// Values are copied as they are stored, with their tags and seals: a copy reveals what the store file
// reveals, and no one without the master key can change a record in it. The MAC under a key of the store
// shows that the copy is whole, and that its header and trailer are genuine. The checksum shows damage
// to those who have no key.
package backup

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"keymill/storage"
)

// Magic begins a copy.
const Magic = "keymill backup\n"

const (
	version     = 1
	maxJSON     = 64 << 10 // bytes of header or trailer
	maxReason   = 1 << 10
	sumBytes    = sha256.Size
	opPut       = 'P'
	opDelete    = 'D'
	opEnd       = 'E'
	opFail      = 'F'
	pageRecords = 1000
	pageBytes   = 4 << 20 // a page ends early when its values have as many bytes
)

// Errors of a Reader, for errors.Is.
var (
	// ErrNotBackup means that the input is something else.
	ErrNotBackup = errors.New("it is not a backup of Keymill")
	// ErrTruncated means that the end is missing.
	ErrTruncated = errors.New("the backup is cut off: its end is missing")
	// ErrDamaged means that the input was changed.
	ErrDamaged = errors.New("the backup is damaged")
)

// A FailedError means that the server could not make the whole copy.
type FailedError struct{ Reason string }

// Error quotes the server.
func (e *FailedError) Error() string {
	return "the server ended the backup before it was whole: " + e.Reason
}

// A VersionError means that another version of Keymill wrote the copy.
type VersionError struct {
	Format, Schema int
	Program        string
}

// Error says which version can read it.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the backup has format %d and schema %d, but this program reads format %d and schema %d; use Keymill %s, which wrote it",
		e.Format, e.Schema, version, storage.Schema, e.Program)
}

// A Header begins a copy.
type Header struct {
	Format   int       `json:"format"` // of the copy
	Schema   int       `json:"schema"` // of the records, see storage.Schema
	Database string    `json:"database_id"`
	Program  string    `json:"program"` // the version of Keymill
	Begun    time.Time `json:"begun"`
	Listed   time.Time `json:"listed,omitzero"` // of the list of revoked keys that was written at the begin, see package keystore
	Bytes    int64     `json:"store_bytes"`     // size of the store's file, about that of the copy; 0 if it is not known
}

// A Trailer ends a copy.
type Trailer struct {
	Ended   time.Time `json:"ended"` // the copy has every change that was acknowledged before
	Records int       `json:"records"`
	Changes int       `json:"changes"`
	LeftOut int       `json:"left_out,omitempty"` // records that no program of this module can have written
}

// mac authenticates the checksum of a copy.
func mac(key, sum []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(sum)
	return m.Sum(nil)
}
