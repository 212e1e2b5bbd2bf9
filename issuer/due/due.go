// Package due is the index of the clean-up. It says when to check a session next, when the record of a denied
// token or of a removed id can be deleted, and when the counts of a tally are written:
//
//	due/<Unix seconds, 8 hex digits>/f/<family>
//	due/<Unix seconds, 8 hex digits>/j/<jti>
//	due/<Unix seconds, 8 hex digits>/g/<id>
//	due/<Unix seconds, 8 hex digits>/t/<name of a tally>
//
// A rotation does not write it. If the family was used after the entry was written, the clean-up
// replaces the entry by one at the new end of the family. Time is Rings.ErasureTime, so that a wall
// clock that jumps deletes nothing.
package due

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"keymill/issuer/accesstoken"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/issuer/tally"
	"keymill/storage"
)

// Prefix is that of the keys of all entries.
const Prefix = "due/"

// The kinds of entries.
const (
	Family = "f"
	Token  = "j"
	Gone   = "g"
	Tally  = "t"
)

// Key returns the key of an entry. It bounds the time: the token of another program can expire in the year 9999,
// and with nine digits it would be the first of the index.
func Key(at time.Time, kind, id string) string {
	return fmt.Sprintf("%s%08x/%s/%s", Prefix, min(max(at.Unix(), 0), math.MaxUint32), kind, id)
}

// An Entry is a key of the index.
type Entry struct {
	Key  string
	At   time.Time
	Kind string
	ID   string
}

// Parse returns the entry with that key.
func Parse(key string) (e Entry, err error) {
	parts := strings.SplitN(key, "/", 4)
	if len(parts) == 4 {
		seconds, _ := strconv.ParseInt(parts[1], 16, 64)
		e = Entry{key, time.Unix(seconds, 0), parts[2], parts[3]}
	}
	if len(parts) != 4 || Key(e.At, e.Kind, e.ID) != key || !storage.PossibleTime(e.At.UTC()) || !e.named() {
		return e, storage.Damaged(key, "it is not an entry that this program writes")
	}
	return e, nil
}

// leadsTo has the prefix of the records of each kind.
var leadsTo = map[string]string{Family: "family/", Token: "denied/", Gone: "gone/", Tally: "tally/"}

// Leads returns the key of the record that the entry leads to.
func (e Entry) Leads() string { return leadsTo[e.Kind] + e.ID }

// named reports whether the id is one of its kind.
func (e Entry) named() bool {
	switch e.Kind {
	case Family:
		_, ok := record.ParseID(e.ID)
		return ok
	case Token:
		return accesstoken.IsName(e.ID)
	case Gone:
		return names.IsClient(e.ID)
	case Tally:
		return IsTally(e.ID)
	}
	return false
}

// IsTally reports whether a tally has the name.
func IsTally(name string) bool {
	of, ok := tally.Parse(name)
	return ok && (of.User == "" || names.IsUser(of.User)) && names.IsClient(of.Client)
}
