// Package revoked keeps the kids of revoked keys, and the epoch of all sessions, in a file outside the store.
// A copy of the store does not know what was revoked later; with this file a restore does.
//
// The file is JSON, and then the HMAC-SHA256 of that JSON in hex, under a key of the store. So only a server
// of the store can write it.
package revoked

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"keymill/storage/durable"
)

// Max is how many kids a file has at most, the latest ones.
const Max = 10_000

const maxBytes = 4 << 20

// ErrNone means that there is no file, or none that the store has written.
var ErrNone = errors.New("the list of revoked keys is missing, damaged or of another store")

// A List is the content of a file.
type List struct {
	Database string    `json:"database_id"`
	Written  time.Time `json:"written"`
	KIDs     []string  `json:"revoked"`
	Epoch    uint64    `json:"epoch,omitempty"`    // of all sessions, see keystore.Config
	Left     int       `json:"left_out,omitempty"` // earlier ones beyond Max
}

// A Revocation is when a key was revoked.
type Revocation struct {
	KID string
	At  time.Time
}

// New returns the list of the latest revocations.
func New(database string, all []Revocation) List {
	slices.SortFunc(all, func(a, b Revocation) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(a.KID, b.KID)) })
	l := List{Database: database, KIDs: []string{}, Left: max(0, len(all)-Max)}
	for _, r := range all[:min(len(all), Max)] {
		l.KIDs = append(l.KIDs, r.KID)
	}
	return l
}

// With returns the list with what an earlier one has besides. It is later than that one, also if the clock
// stood still or was set back.
func (l List) With(other List) List {
	if !l.Written.After(other.Written) {
		l.Written = other.Written.Add(1)
	}
	known := map[string]bool{}
	for _, kid := range l.KIDs {
		known[kid] = true
	}
	for _, kid := range other.KIDs {
		if !known[kid] {
			l.KIDs = append(l.KIDs, kid)
		}
	}
	l.Left = max(l.Left, other.Left) + max(0, len(l.KIDs)-Max)
	l.KIDs = l.KIDs[:min(len(l.KIDs), Max)]
	l.Epoch = max(l.Epoch, other.Epoch)
	return l
}

// Write replaces the file at path, durably and in one step.
func Write(path string, key []byte, l List) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return durable.Replace(path, fmt.Appendf(text, "\n%x\n", mac(key, text)))
}

func mac(key, text []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(text)
	return m.Sum(nil)
}

// Complete reports whether no kid was left out.
func (l List) Complete() bool { return l.Left == 0 }

// Covers reports whether the list has every key that was revoked before a copy: listed is the time of the list
// that was written when the copy was begun. Without that time no list does.
func (l List) Covers(listed time.Time) bool {
	return l.Complete() && !listed.IsZero() && !l.Written.Before(listed)
}

// Read returns the list in the file at path, or ErrNone.
func Read(path string, key []byte) (List, error) {
	raw, err := read(path)
	if err != nil {
		return List{}, err
	}
	text, tag, _ := bytes.Cut(raw, []byte("\n"))
	var l List
	if !hmac.Equal(tag, fmt.Appendf(nil, "%x\n", mac(key, text))) || json.Unmarshal(text, &l) != nil {
		return List{}, ErrNone
	}
	return l, nil
}

// read reads the file, and follows no link. What cannot be such a file is ErrNone.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxBytes) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxBytes))
}
