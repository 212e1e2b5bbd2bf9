package issuer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"keymill/storage"
)

// A familyRecord is all that is kept of one login, however often it rotates. It is
// written in place, always at the same length:
//
//	version 1 (the second) ‖ end 1 ‖ door 1 ‖ secret number of g 1 ‖ terms 16
//	epochs of store, user and client, 8 each
//	born 6 ‖ used 6 (Unix ms) ‖ made 6 (ms of Rings.ServedTime)
//	g 4 ‖ graced 2 ‖ shared 1 ‖ maker 4 ‖ ended 6 (Unix ms, 0 while it lives) ‖ scopes 7 ‖ user
type familyRecord struct {
	end      ending        // how it was ended by a decision; dead epochs and time end it without a write
	endpoint LoginEndpoint // where the user came in
	secret   byte          // that sealed token g
	terms    termsID       // client, audiences, scopes
	epochs   epochs        // at birth
	born     time.Time
	used     time.Time     // the last rotation: when g was made
	made     time.Duration // the same on the clock that knows no downtime
	g        uint32        // the current generation
	graced   uint16        // answers within a grace, as far as rotations have seen them
	shared   uint8         // graced generations in a row that came from two addresses
	address  [4]byte       // whose request made g, as a short keyed hash of the address
	endedAt  time.Time
	scopes   scopeSet // of the terms', what the login asked for
	user     string
}

// epochs are the counters that a family was born under. It lives while they are equal.
type epochs struct{ store, user, client uint64 }

const (
	familyVersion    = 2
	familyFixedBytes = 86
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
	putUint48(b[44:], uint64(rec.born.UnixMilli()))
	putUint48(b[50:], uint64(rec.used.UnixMilli()))
	putUint48(b[56:], uint64(rec.made.Milliseconds()))
	binary.BigEndian.PutUint32(b[62:], rec.g)
	binary.BigEndian.PutUint16(b[66:], rec.graced)
	b[68] = rec.shared
	copy(b[69:73], rec.address[:])
	if !rec.endedAt.IsZero() {
		putUint48(b[73:], uint64(rec.endedAt.UnixMilli()))
	}
	b[79] = byte(rec.scopes >> 48)
	putUint48(b[80:], uint64(rec.scopes))
	return append(b, rec.user...)
}

func decodeFamily(b []byte) (*familyRecord, error) {
	if len(b) <= familyFixedBytes || len(b) > familyFixedBytes+maxUserIDBytes {
		return nil, fmt.Errorf("%w: no record has %d bytes", errDamaged, len(b))
	}
	if b[0] != familyVersion {
		return nil, fmt.Errorf("%w: version %d", errDamaged, b[0])
	}
	if getUint48(b[56:]) > uint64(math.MaxInt64/time.Millisecond) {
		return nil, fmt.Errorf("%w: a time that never was", errDamaged)
	}
	rec := &familyRecord{
		end: ending(b[1]), endpoint: LoginEndpoint(b[2]), secret: b[3], terms: termsID(b[4:20]),
		epochs: epochs{
			store: binary.BigEndian.Uint64(b[20:]), user: binary.BigEndian.Uint64(b[28:]), client: binary.BigEndian.Uint64(b[36:]),
		},
		born: milliseconds(b[44:]), used: milliseconds(b[50:]), made: time.Duration(getUint48(b[56:])) * time.Millisecond,
		g: binary.BigEndian.Uint32(b[62:]), graced: binary.BigEndian.Uint16(b[66:]), shared: b[68], address: [4]byte(b[69:73]),
		scopes: scopeSet(b[79])<<48 | scopeSet(getUint48(b[80:])), user: string(b[familyFixedBytes:]),
	}
	if getUint48(b[73:]) > 0 {
		rec.endedAt = milliseconds(b[73:])
	}
	return rec, nil
}

func milliseconds(b []byte) time.Time { return time.UnixMilli(int64(getUint48(b))).UTC() }

// readFamily returns nil without an error if there is no such family.
func readFamily(r storage.Reader, id familyID) (*familyRecord, error) {
	raw, err := r.Get(familyKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	rec, err := decodeFamily(raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", familyKey(id), err)
	}
	return rec, nil
}
