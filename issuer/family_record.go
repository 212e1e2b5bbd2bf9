package issuer

import (
	"errors"
	"math"
	"math/bits"
	"strings"
	"time"

	"keymill/issuer/loginterms"
	"keymill/issuer/names"
	"keymill/issuer/record"
	"keymill/storage"
)

// A familyRecord is all that the store has of one login, however often it rotates. A rotation
// overwrites it and keeps its length, unless there were retries:
//
//	version 1 (the fourth) ‖ end 1 and flags ‖ login endpoint 1 ‖ secret number 1 ‖ terms 16
//	epochs of store, user and client, 8 each
//	last used 6 (Unix ms) ‖ rotated at 6 (ms of Rings.ServedTime)
//	generation 4 ‖ address 4 ‖ due 4 (Unix seconds) ‖ scopes 1 to 8 (how many bytes 1, a number of so many)
//	if flagged: retries 2 (the highest bit is elsewhere) ‖ shared 1
//	if it has ended: ended 6 (Unix ms)
//	if flagged: denied until 4 (Unix seconds)
//	user
//
// It was created at the time in its id.
type familyRecord struct {
	end             ending        // the decision that ended it; epochs and time end it without a write
	endpoint        LoginEndpoint // where the user logged in
	secret          byte          // number of the one in the MAC of the current token
	terms           loginterms.ID // client, audiences, scopes
	epochs          epochs        // at the login
	created         time.Time
	lastUsed        time.Time     // the time of the login or of the last rotation
	rotatedAtServed time.Duration // the same as served time, which stands still while the server is down
	generation      uint32        // the current generation
	retries         uint16        // answers within a grace: those before the last rotation, and those that went elsewhere since
	elsewhere       bool          // the current token was given out again within its grace, to another address than address
	shared          uint8         // generations in a row that were answered to two addresses within the grace
	address         [4]byte       // fingerprint of the address that got the current token first
	endedAt         time.Time
	scopes          loginterms.Set // that the login asked for, of the terms'
	due             time.Time      // of its entry in the index of the clean-up
	deniedUntil     time.Time      // access tokens with this iat or an earlier one are denied; zero if none are
	user            string
}

// epochs are the counters at the login. The family is live only while they are equal to the current ones.
type epochs struct{ store, user, client uint64 }

const (
	familyVersion = 4

	// Flags beside the ending.
	flagRetries = 1 << 7
	flagDenied  = 1 << 6

	// flagElsewhere is in the number of retries and not beside the ending: an earlier version of the program reads
	// such a record too, as one with many retries.
	flagElsewhere = 1 << 15
	maxRetries    = flagElsewhere - 1
)

// A familyID names a session.
type familyID = record.ID

func familyKey(id familyID) string { return id.Key("family/") }

func (rec *familyRecord) encode() []byte {
	end := byte(rec.end)
	if rec.retries > 0 || rec.shared > 0 || rec.elsewhere {
		end |= flagRetries
	}
	if !rec.deniedUntil.IsZero() {
		end |= flagDenied
	}
	b := append(make([]byte, 0, 160), familyVersion, end, byte(rec.endpoint), rec.secret)
	b = append(b, rec.terms[:]...)
	b = record.AppendUint(b, rec.epochs.store, 8)
	b = record.AppendUint(b, rec.epochs.user, 8)
	b = record.AppendUint(b, rec.epochs.client, 8)
	b = record.AppendUint(b, uint64(rec.lastUsed.UnixMilli()), 6)
	b = record.AppendUint(b, uint64(rec.rotatedAtServed.Milliseconds()), 6)
	b = record.AppendUint(b, uint64(rec.generation), 4)
	b = append(b, rec.address[:]...)
	b = record.AppendUint(b, uint64(max(rec.due.Unix(), 0)), 4)
	scopes := (bits.Len64(uint64(rec.scopes)) + 7) / 8
	b = record.AppendUint(append(b, byte(scopes)), uint64(rec.scopes), scopes)
	if end&flagRetries != 0 {
		retries := min(rec.retries, maxRetries)
		if rec.elsewhere {
			retries |= flagElsewhere
		}
		b = append(record.AppendUint(b, uint64(retries), 2), rec.shared)
	}
	if rec.end != notEnded {
		b = record.AppendUint(b, uint64(rec.endedAt.UnixMilli()), 6)
	}
	if end&flagDenied != 0 {
		b = record.AppendUint(b, uint64(rec.deniedUntil.Unix()), 4)
	}
	return append(b, rec.user...)
}

// knownFamilies are the versions that this program reads. It writes the newest.
var knownFamilies = record.Versions[familyRecord]{familyVersion: decodeNewestFamily}

func decodeFamily(key string, b []byte) (*familyRecord, error) { return knownFamilies.Decode(key, b) }

// decodeNewestFamily returns nil for a record that is impossible under its key.
func decodeNewestFamily(key string, b []byte) *familyRecord {
	id, ok := record.ParseID(strings.TrimPrefix(key, "family/"))
	if !ok {
		return nil
	}
	f := record.NewFields(b[1:])
	end := byte(f.Uint(1))
	rec := &familyRecord{
		end: ending(end &^ (flagRetries | flagDenied)), created: id.Time(),
		endpoint: LoginEndpoint(f.Uint(1)), secret: byte(f.Uint(1)), terms: loginterms.ID(f.Bytes(16)),
		epochs: epochs{store: f.Uint(8), user: f.Uint(8), client: f.Uint(8)}, lastUsed: milliseconds(f),
	}
	served := f.Uint(6)
	rec.rotatedAtServed = time.Duration(served) * time.Millisecond
	rec.generation, rec.address, rec.due = uint32(f.Uint(4)), [4]byte(f.Bytes(4)), seconds(f)
	scopes := int(f.Uint(1))
	rec.scopes = loginterms.Set(f.Uint(min(scopes, 8)))
	possible := served <= uint64(math.MaxInt64/time.Millisecond) && scopes == (bits.Len64(uint64(rec.scopes))+7)/8
	if end&flagRetries != 0 {
		retries := uint16(f.Uint(2))
		rec.retries, rec.elsewhere, rec.shared = retries&maxRetries, retries&flagElsewhere != 0, uint8(f.Uint(1))
		possible = possible && (retries > 0 || rec.shared > 0)
	}
	if rec.end != notEnded {
		rec.endedAt = milliseconds(f)
	}
	if end&flagDenied != 0 {
		rec.deniedUntil = seconds(f)
	}
	user, whole := f.Rest()
	if rec.user = string(user); !whole || len(user) > names.MaxUserBytes || !possible || !rec.possible() {
		return nil
	}
	return rec
}

func milliseconds(f *record.Fields) time.Time { return time.UnixMilli(int64(f.Uint(6))).UTC() }

func seconds(f *record.Fields) time.Time { return time.Unix(int64(f.Uint(4)), 0).UTC() }

// readFamily returns nil without an error if the family does not exist.
func (i *Issuer) readFamily(r storage.Reader, id familyID) (*familyRecord, error) {
	key := familyKey(id)
	raw, err := r.Get(key)
	if err == nil {
		return i.families.Decode(key, raw)
	} else if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	return nil, err
}
