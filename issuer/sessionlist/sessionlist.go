// Package sessionlist reads and writes the list of sessions of one user and one client.
package sessionlist

import (
	"errors"
	"slices"

	"keymill/issuer/record"
	"keymill/issuer/tally"
	"keymill/storage"
)

// Max is the limit of open sessions for one user and client. MaxEnded is how many that have ended are
// kept to explain them: a user who logs in and out without an end would fill the disk otherwise.
const (
	Max      = 100
	MaxEnded = 100
)

// A List is one small record that logins write and refreshes do not:
//
//	how many have ended 1 ‖ their ids, 16 each ‖ the ids of the others, 16 each
type List struct {
	Ended []record.ID // in a permanent state, in the order in which they are deleted
	Open  []record.ID // all others, and some that have ended since, oldest first
}

// Prefix is the prefix of all lists.
const Prefix = "sessions/"

// Key is the key of a list. It holds the length of the user id, so that an id with a slash cannot be read
// as that of another user.
func Key(user, client string) string { return Prefix + tally.Of{User: user, Client: client}.Name() }

// PrefixOf is the prefix of the lists of one user.
func PrefixOf(user string) string { return Key(user, "") }

// Read returns a list. A missing record is an empty list.
func Read(r storage.Reader, user, client string) (List, error) {
	raw, err := r.Get(Key(user, client))
	if errors.Is(err, storage.ErrNotFound) {
		return List{}, nil
	} else if err != nil {
		return List{}, err
	}
	return Decode(Key(user, client), raw)
}

// Decode reads the record under key.
func Decode(key string, raw []byte) (List, error) {
	ids, ok := record.DecodeIDs(raw)
	if !ok || int(raw[0]) > min(len(ids), MaxEnded+Max) || len(ids)-int(raw[0]) > Max {
		return List{}, storage.Damaged(key, "a list of sessions cannot have these %d bytes, or so many that have ended", len(raw))
	}
	ended := int(raw[0])
	return List{Ended: ids[:ended:ended], Open: ids[ended:]}, nil
}

// Put writes a list, or deletes its record if the list is empty.
func (l List) Put(tx storage.Tx, user, client string) error {
	ids := slices.Concat(l.Ended, l.Open)
	if len(ids) == 0 {
		return tx.Delete(Key(user, client))
	}
	raw := append(make([]byte, 0, 1+len(ids)*record.IDBytes), byte(len(l.Ended)))
	for _, id := range ids {
		raw = append(raw, id[:]...)
	}
	return tx.Put(Key(user, client), raw)
}

// Remove removes a session and reports whether it was in the list.
func (l *List) Remove(id record.ID) bool {
	before := len(l.Ended) + len(l.Open)
	other := func(o record.ID) bool { return o == id }
	l.Ended, l.Open = slices.DeleteFunc(l.Ended, other), slices.DeleteFunc(l.Open, other)
	return len(l.Ended)+len(l.Open) < before
}
