package issuer

import (
	"slices"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/username"
	"keymill/storage"
	"keymill/storage/audit"
)

// TestAFormerNameSelectsAllRecordsOfItsUser, who has another name now or was removed. A name that
// several users had is refused with their ids.
func TestAFormerNameSelectsAllRecordsOfItsUser(t *testing.T) {
	w := newWorld(t)
	w.web()
	for id, name := range map[string]string{"7": "alice", "8": "bob", "9": "carol", "11": "dave", "12": "9"} {
		w.user(name, id)
	}
	w.begin("7")
	w.begin("8")
	rename := func(id, name string) {
		t.Helper()
		if _, err := w.SetUser(t.Context(), username.IDPrefix+id, api.UserChange{Name: &name}, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(id string) {
		t.Helper()
		if err := w.RemoveUser(t.Context(), username.IDPrefix+id, "uid:0"); err != nil {
			t.Fatal(err)
		}
	}
	rename("7", "alicia")
	rename("11", "carla")
	rename("9", "dave")
	rename("9", "diana")
	rename("12", "twelve")
	remove("8")
	remove("9")
	for _, tt := range []struct{ word, id, refused string }{
		{word: "alice", id: "7"}, {word: "alicia", id: "7"}, {word: "ａlice", id: "7"},
		{word: "bob", id: "8"}, {word: "8", id: "8"}, {word: "id:8", id: "8"},
		{word: "carol", id: "9"}, {word: "diana", id: "9"}, {word: "twelve", id: "12"},
		{word: "dave", refused: "id:11, id:9"}, {word: "9", refused: "id:12, id:9"},
	} {
		got, err := w.Audit(t.Context(), audit.Query{Filter: audit.Filter{User: tt.word}, Limit: 100})
		if tt.refused != "" {
			if hint := refused(t, err, "invalid_request"); !strings.Contains(hint, tt.refused) {
				t.Errorf("%s: got %q", tt.word, hint)
			}
			continue
		}
		want, wantErr := w.Audit(t.Context(), audit.Query{Filter: audit.Filter{User: username.IDPrefix + tt.id}, Limit: 100})
		if err != nil || wantErr != nil {
			t.Fatal(err, wantErr)
		}
		if len(got.Records) != len(want.Records) || len(want.Records) < 2 {
			t.Errorf("%s: %d records, want those of %s: %d", tt.word, len(got.Records), tt.id, len(want.Records))
		}
		login := func(r audit.Record) bool { return r.Action == "session.login" }
		if slices.ContainsFunc(got.Records, login) != (tt.id == "7" || tt.id == "8") {
			t.Errorf("%s: the login is missing: %+v", tt.word, got.Records)
		}
	}
	got, err := w.Audit(t.Context(), audit.Query{Filter: audit.Filter{User: "nemo"}, Limit: 100})
	if err != nil || len(got.Records) != 0 {
		t.Errorf("a name that no user had: %+v, %v", got, err)
	}
	if err := w.store.Update(t.Context(), func(tx storage.Tx) error {
		return tx.Put("audit/head", []byte("{"))
	}); err != nil {
		t.Fatal(err)
	}
	if got, err = w.Audit(t.Context(), audit.Query{Filter: audit.Filter{User: "bob"}, Limit: 100}); err != nil || len(got.Records) < 2 {
		t.Errorf("with a damaged head: %+v, %v", got, err)
	}
}
