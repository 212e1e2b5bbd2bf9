package storage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// A DamageError names a damaged record.
type DamageError struct {
	Key string
	Err error // matches ErrDamaged
}

// Error names the record.
func (e *DamageError) Error() string { return fmt.Sprintf("record %s is %v", KeyText(e.Key), e.Err) }

// KeyText returns a key for a message: as it is, or quoted if it could be taken for other text or is
// longer than a key of this program. A writer of the store chooses it.
func KeyText(key string) string {
	if len(key) == 0 || len(key) > MaxKeyBytes {
		return QuoteKey(key)
	}
	for n := range len(key) {
		if key[n] <= ' ' || key[n] > '~' || key[n] == '"' {
			return QuoteKey(key)
		}
	}
	return key
}

// quotedBytes is how much of a long key is shown.
const quotedBytes = 64

// QuoteKey returns a key in quotes, as ASCII. Of a long one it shows the beginning and the length.
func QuoteKey(key string) string {
	if len(key) <= quotedBytes {
		return strconv.QuoteToASCII(key)
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.QuoteToASCII(key[:quotedBytes]), len(key))
}

// Unwrap returns Err.
func (e *DamageError) Unwrap() error { return e.Err }

// Damaged returns a *DamageError. The format says what is wrong with the record under key. It
// must not quote the value, which may be secret.
func Damaged(key, format string, args ...any) error {
	return &DamageError{key, fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))}
}

// PossibleTime reports whether a record can hold the instant. Epochs are Unix nanoseconds in 63 bits,
// which end in 2262.
func PossibleTime(t time.Time) bool {
	return t.Location() == time.UTC && t.Year() >= 1980 && t.Year() <= 2261
}

// DecodeJSON reads value, the record under key, into v. The record must be exactly what
// json.Marshal writes for v. So an unknown member, a member that is given twice or in another case,
// a trailing byte and a number in another form are a *DamageError: encoding/json accepts all of
// them, and a changed name of a member would silently become an absent one.
func DecodeJSON(key string, value []byte, v any) error {
	if err := json.Unmarshal(value, v); err != nil {
		return Damaged(key, "it is not the JSON of such a record")
	}
	again, err := json.Marshal(v)
	if err != nil {
		return Damaged(key, "a value is out of range")
	}
	if !bytes.Equal(again, value) {
		return Damaged(key, "it has members or bytes that this program does not write")
	}
	return nil
}
