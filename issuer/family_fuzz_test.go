package issuer

import (
	"bytes"
	"testing"
	"time"

	"keymill/issuer/epoch"
	"keymill/issuer/names"
	"keymill/issuer/record"
)

// FuzzFamilyRecord checks that a record that can be read is encoded to the same bytes.
func FuzzFamilyRecord(f *testing.F) {
	id := record.NewID(time.Now())
	rec := familyRecord{
		endpoint: LoginBrowser, secret: 1, generation: 9, user: "7", created: id.Time(), lastUsed: id.Time(), due: id.Time(),
		epochs: epochs{epoch.First, epoch.Of(id.Time()), epoch.Of(id.Time())},
	}
	if _, err := decodeFamily(familyKey(id), rec.encode()); err != nil {
		f.Fatal(err)
	}
	f.Add(rec.encode())
	rec.retries, rec.shared, rec.end, rec.endedAt, rec.deniedUntil = 1, 1, endedByLimit, id.Time(), id.Time()
	f.Add(rec.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		rec, err := decodeFamily(familyKey(id), raw)
		if err == nil && !bytes.Equal(rec.encode(), raw) {
			t.Errorf("%x was read as %+v", raw, rec)
		}
	})
}

// FuzzFamilyID checks that every id has one spelling.
func FuzzFamilyID(f *testing.F) {
	f.Add(record.ID{1, 2, 3}.String())
	f.Add("vvvvvvvvvvvvvvvvvvvvvvvvvv")
	f.Fuzz(func(t *testing.T, text string) {
		if id, ok := record.ParseID(text); ok && id.String() != text {
			t.Errorf("%q is another spelling of %s", text, id)
		}
	})
}

func TestAFamilyRecordHasAtMost160Bytes(t *testing.T) {
	rec := familyRecord{user: string(bytes.Repeat([]byte{'u'}, names.MaxUserBytes))}
	if n := len(rec.encode()); n > 160 {
		t.Errorf("%d bytes", n)
	}
}
