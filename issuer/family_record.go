package issuer

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"

	"keymill/issuer/record"
	"keymill/storage"
)

// A familyRecord is all that the store has of one login, however often it rotates. A rotation
// overwrites it and keeps its length:
//
//	version 1 (the third) ‖ end 1 ‖ login endpoint 1 ‖ secret number 1 ‖ terms 16
//	epochs of store, user and client, 8 each
//	created 6 ‖ last used 6 (Unix ms) ‖ rotated at 6 (ms of Rings.ServedTime)
//	generation 4 ‖ retries 2 ‖ shared 1 ‖ address 4 ‖ ended 6 (Unix ms, 0 if not) ‖ scopes 7
//	due 4 ‖ denied until 4 (Unix seconds) ‖ user
type familyRecord struct {
	end             ending        // the decision that ended it; epochs and time end it without a write
	endpoint        LoginEndpoint // where the user logged in
	secret          byte          // number of the one in the MAC of the current token
	terms           termsID       // client, audiences, scopes
	epochs          epochs        // at the login
	created         time.Time
	lastUsed        time.Time     // the time of the login or of the last rotation
	rotatedAtServed time.Duration // the same as served time, which stands still while the server is down
	generation      uint32        // the current generation
	retries         uint16        // answers within a grace, before the last rotation
	shared          uint8         // generations in a row that were answered to two addresses within the grace
	address         [4]byte       // fingerprint of the address that got the current token first
	endedAt         time.Time
	scopes          scopeSet  // that the login asked for, of the terms'
	due             time.Time // of its entry in the index of the clean-up
	deniedUntil     time.Time // access tokens with this iat or an earlier one are denied; zero if none are
	user            string
}

// epochs are the counters at the login. The family is live only while they are equal to the current ones.
type epochs struct{ store, user, client uint64 }

const (
	familyVersion    = 3
	familyFixedBytes = 94
	maxUserIDBytes   = 64 // so that a record stays within 160 bytes
)

func familyKey(id familyID) string { return "family/" + id.String() }

func (rec *familyRecord) encode() []byte {
	b := make([]byte, familyFixedBytes, familyFixedBytes+len(rec.user))
	b[0], b[1], b[2], b[3] = familyVersion, byte(rec.end), byte(rec.endpoint), rec.secret
	copy(b[4:20], rec.terms[:])
	binary.BigEndian.PutUint64(b[20:], rec.epochs.store)
	binary.BigEndian.PutUint64(b[28:], rec.epochs.user)
	binary.BigEndian.PutUint64(b[36:], rec.epochs.client)
	record.PutUint48(b[44:], uint64(rec.created.UnixMilli()))
	record.PutUint48(b[50:], uint64(rec.lastUsed.UnixMilli()))
	record.PutUint48(b[56:], uint64(rec.rotatedAtServed.Milliseconds()))
	binary.BigEndian.PutUint32(b[62:], rec.generation)
	binary.BigEndian.PutUint16(b[66:], rec.retries)
	b[68] = rec.shared
	copy(b[69:73], rec.address[:])
	if !rec.endedAt.IsZero() {
		record.PutUint48(b[73:], uint64(rec.endedAt.UnixMilli()))
	}
	b[79] = byte(rec.scopes >> 48)
	record.PutUint48(b[80:], uint64(rec.scopes))
	binary.BigEndian.PutUint32(b[86:], uint32(max(rec.due.Unix(), 0)))
	binary.BigEndian.PutUint32(b[90:], uint32(max(rec.deniedUntil.Unix(), 0)))
	return append(b, rec.user...)
}

// knownFamilies are the versions that this program reads. It writes the newest.
var knownFamilies = record.Versions[familyRecord]{familyVersion: decodeNewestFamily}

func decodeFamily(key string, b []byte) (*familyRecord, error) { return knownFamilies.Decode(key, b) }

// decodeNewestFamily returns nil for a record that is impossible under its key.
func decodeNewestFamily(key string, b []byte) *familyRecord {
	if len(b) <= familyFixedBytes || len(b) > familyFixedBytes+maxUserIDBytes || record.Uint48(b[56:]) > uint64(math.MaxInt64/time.Millisecond) {
		return nil
	}
	rec := &familyRecord{
		end: ending(b[1]), endpoint: LoginEndpoint(b[2]), secret: b[3], terms: termsID(b[4:20]),
		epochs: epochs{
			store: binary.BigEndian.Uint64(b[20:]), user: binary.BigEndian.Uint64(b[28:]), client: binary.BigEndian.Uint64(b[36:]),
		},
		created: milliseconds(b[44:]), lastUsed: milliseconds(b[50:]), rotatedAtServed: time.Duration(record.Uint48(b[56:])) * time.Millisecond,
		generation: binary.BigEndian.Uint32(b[62:]), retries: binary.BigEndian.Uint16(b[66:]), shared: b[68], address: [4]byte(b[69:73]),
		scopes: scopeSet(b[79])<<48 | scopeSet(record.Uint48(b[80:])), user: string(b[familyFixedBytes:]),
	}
	if record.Uint48(b[73:]) > 0 {
		rec.endedAt = milliseconds(b[73:])
	}
	rec.due = time.Unix(int64(binary.BigEndian.Uint32(b[86:])), 0).UTC()
	if until := binary.BigEndian.Uint32(b[90:]); until > 0 {
		rec.deniedUntil = time.Unix(int64(until), 0).UTC()
	}
	// A session begins at the time in its id.
	if id, ok := record.ParseID(strings.TrimPrefix(key, "family/")); !ok || !id.Time().Equal(rec.created) || !rec.possible() {
		return nil
	}
	return rec
}

func milliseconds(b []byte) time.Time { return time.UnixMilli(int64(record.Uint48(b))).UTC() }

// readFamily returns nil without an error if the family does not exist.
func (i *Issuer) readFamily(r storage.Reader, id familyID) (*familyRecord, error) {
	raw, err := r.Get(familyKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return i.families.Decode(familyKey(id), raw)
}
