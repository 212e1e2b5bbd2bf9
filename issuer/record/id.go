package record

import (
	"crypto/rand"
	"encoding/base32"
	"keymill/storage"
	"slices"
	"time"
)

// IDBytes and IDLength are the lengths of an ID, in bytes and as text.
const (
	IDBytes  = 16
	IDLength = 26
)

// An ID of a session is ordered by time, so that records of the same time are adjacent in the store: six
// bytes of Unix milliseconds, then ten random bytes.
type ID [IDBytes]byte

// NewID returns an ID of that time.
func NewID(now time.Time) ID {
	var id ID
	AppendUint(id[:0], uint64(now.UnixMilli()), 6)
	rand.Read(id[6:])
	return id
}

// Encoding is base32hex, which keeps the order of the bytes.
var Encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// String returns the ID as text.
func (id ID) String() string { return id.Key("") }

// Key returns the key that ends with the ID.
func (id ID) Key(prefix string) string {
	return string(Encoding.AppendEncode(append(make([]byte, 0, 64), prefix...), id[:]))
}

// Time returns the time in an ID.
func (id ID) Time() time.Time { return time.UnixMilli(int64(NewFields(id[:]).Uint(6))).UTC() }

// ParseID returns the ID with that text. Each has only one.
func ParseID(s string) (ID, bool) {
	var id ID
	if len(s) != IDLength {
		return id, false
	}
	_, err := Encoding.Decode(id[:], []byte(s))
	var only [IDLength]byte
	Encoding.Encode(only[:], id[:])
	return id, err == nil && string(only[:]) == s
}

// DecodeIDs returns the IDs in a list, which follow one byte. ok is false for a list that is empty, has an
// ID twice, or one of an impossible time.
func DecodeIDs(raw []byte) (ids []ID, ok bool) {
	if len(raw) <= IDBytes || len(raw)%IDBytes != 1 {
		return nil, false
	}
	seen := make(map[ID]bool, len(raw)/IDBytes)
	for b := range slices.Chunk(raw[1:], IDBytes) {
		id := ID(b)
		if seen[id] || !storage.PossibleTime(id.Time()) {
			return nil, false
		}
		seen[id] = true
		ids = append(ids, id)
	}
	return ids, true
}
