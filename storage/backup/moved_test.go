package backup

import (
	"bytes"
	"testing"

	"keymill/storage"
)

// TestACopyIsNotMoved: the record of a migration of the store is not in it, also if it is written in the meantime.
func TestACopyIsNotMoved(t *testing.T) {
	s := openStore(t)
	put(t, s, map[string]string{"a": "1", storage.MovedKey: "{}", "z": "2"})
	want := map[string]string{"a": "1", "z": "2"}
	var out, snapshot bytes.Buffer
	o := options(t)
	trailer, err := Write(t.Context(), pausing{&out, func() { put(t, s, map[string]string{storage.MovedKey: "again"}) }}, s, o)
	if err != nil || trailer.Records != 2 || trailer.LeftOut != 0 {
		t.Fatalf("%+v, %v", trailer, err)
	}
	if _, err := WriteSnapshot(t.Context(), &snapshot, s.View, o); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*bytes.Buffer{&out, &snapshot} {
		got, _, err := restored(b)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, want)
	}
}
