package issuer

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"keymill/issuer/epoch"
	"keymill/issuer/loginterms"
	"keymill/issuer/record"
)

// TestAFamilyRecordHasOneForm: what is flagged is there and not zero, so no other bytes mean the same
// family. A record that is cut off is none.
func TestAFamilyRecordHasOneForm(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	id := record.NewID(at)
	for what, change := range map[string]func(*familyRecord){
		"live":              func(*familyRecord) {},
		"retried":           func(r *familyRecord) { r.retries = 3 },
		"retried elsewhere": func(r *familyRecord) { r.retries, r.elsewhere = maxRetries, true },
		"shared":            func(r *familyRecord) { r.shared = 2 },
		"ended":             func(r *familyRecord) { r.end, r.endedAt = endedByAdmin, at.Add(time.Hour) },
		"denied":            func(r *familyRecord) { r.deniedUntil = at.Truncate(time.Second) },
		"all": func(r *familyRecord) {
			r.retries, r.shared, r.end, r.endedAt, r.deniedUntil = 1, 1, endedByLimit, at, at.Truncate(time.Second)
		},
	} {
		rec := familyRecord{
			endpoint: LoginBrowser, secret: 1, terms: loginterms.ID{7}, epochs: epochs{epoch.First, epoch.Of(at), epoch.Of(at) + 1},
			created: at, lastUsed: at.Add(time.Second), rotatedAtServed: time.Hour, generation: 4, address: [4]byte{1, 2, 3, 4},
			scopes: 1 << 49, due: at.Add(24 * time.Hour).Truncate(time.Second), user: "7",
		}
		change(&rec)
		b := rec.encode()
		got, err := decodeFamily(familyKey(id), b)
		if err != nil || !reflect.DeepEqual(*got, rec) {
			t.Fatalf("%s: %+v, %v, want %+v", what, got, err, rec)
		}
		for n := range b {
			if _, err := decodeFamily(familyKey(id), b[:n]); err == nil {
				t.Errorf("%s: %d bytes of %d are accepted", what, n, len(b))
			}
		}
		for bit := range 8 {
			other := bytes.Clone(b)
			other[1] ^= 1 << bit // the ending and the flags
			if got, err := decodeFamily(familyKey(id), other); err == nil && !bytes.Equal(got.encode(), other) {
				t.Errorf("%s with bit %d of the flags: accepted, and written as %x instead of %x", what, bit, got.encode(), other)
			}
		}
	}
}
