package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"keymill/storage"
)

// CheckRecord returns an error that matches storage.ErrDamaged unless this package writes such a
// record under key.
func CheckRecord(key string, value []byte) (err error) {
	switch {
	case key == headKey:
		_, err = decodeHead(value)
	case key == writtenKey:
		_, err = decodeWritten(value)
	case strings.HasPrefix(key, newPrefix):
		_, err = decodeNew(key, value)
	default:
		_, err = decodeChained(key, value)
	}
	return err
}

func decodeHead(value []byte) (h head, err error) {
	if err := storage.DecodeJSON(headKey, value, &h); err != nil {
		return head{}, err
	}
	if h.Seq == 0 || h.Seq > maxSeq || !isHash(h.Hash) {
		return head{}, storage.Damaged(headKey, "its number or its hash is impossible")
	}
	return h, nil
}

// decodeNew reads a record that waits for the chain.
func decodeNew(key string, value []byte) (Record, error) {
	r, err := decodeStrictly(key, value)
	if err != nil {
		return r, err
	}
	stamp, random, _ := strings.Cut(strings.TrimPrefix(key, newPrefix), "-")
	at, timeErr := time.Parse(timeLayout, stamp)
	_, hexErr := hex.DecodeString(random)
	if timeErr != nil || hexErr != nil || len(random) != randomDigits || r.Seq != 0 || r.Previous != "" || !r.Time.Equal(at.Truncate(time.Second)) {
		return r, storage.Damaged(key, "its key, its time or its place in the chain is impossible")
	}
	return r, nil
}

// decodeChained reads a record of the chain.
func decodeChained(key string, value []byte) (Record, error) {
	r, err := decodeStrictly(key, value)
	if err == nil && (key != logKey(r.Seq) || r.Seq == 0 || r.Seq > maxSeq || !isHash(r.Previous)) {
		err = storage.Damaged(key, "it is a record with another number, or its hash is impossible")
	}
	return r, err
}

// decodeStrictly accepts exactly what encode writes.
func decodeStrictly(key string, value []byte) (r Record, err error) {
	if json.Unmarshal(value, &r) != nil {
		return r, storage.Damaged(key, "it is not the JSON of such a record")
	}
	if again, err := encode(r); err != nil || !bytes.Equal(again, value) {
		return r, storage.Damaged(key, "it has members or bytes that this program does not write")
	}
	if r.Action == "" || !storage.PossibleTime(r.Time) {
		return r, storage.Damaged(key, "its action or its time is impossible")
	}
	return r, nil
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && s == strings.ToLower(s)
}

// isFault reports whether an error of a Scan is about the store and not about one record.
func isFault(err error) bool { return err != nil && !errors.Is(err, storage.ErrDamaged) }

// decode returns the record of an entry of a Scan and its error, or for a damaged one a record that
// says so. The number is that of the key; 0 for a record that waits and for a key that is not a number.
func decode(e storage.Entry, damage error) Record {
	var r Record
	switch {
	case damage != nil:
	case strings.HasPrefix(e.Key, newPrefix):
		r, damage = decodeNew(e.Key, e.Value)
	default:
		r, damage = decodeChained(e.Key, e.Value)
	}
	if damage != nil {
		r = bounded(Event{Action: "audit.unreadable", By: system, Target: e.Key, Detail: map[string]string{"error": damage.Error()}})
	}
	if seq, isNumber := place(e.Key); isNumber {
		r.Seq = seq
	}
	return r
}
