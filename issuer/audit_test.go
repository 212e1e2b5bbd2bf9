package issuer

import (
	"cmp"
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

// TestEveryRecordOfAChangeSaysWhatWasChanged: the id of a user and the name of an audience can be used again, so
// a record without the name of the user, or the settings of the audience, cannot be understood later.
func TestEveryRecordOfAChangeSaysWhatWasChanged(t *testing.T) {
	w := newWorld(t)
	ctx, yes, no, name, five := t.Context(), true, false, "alice@example.com", "5m"
	w.audience("orders", "read")
	must[api.Audience](t)(w.SetAudience(ctx, "orders", api.AudienceChange{TTL: &five}, "uid:0"))
	if err := w.RemoveAudience(ctx, "orders", "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.withPassword("bob", "8", "", "pbkdf2_sha1$1000$seasalt$9iRYj0as1r5j+cCBxB+HMlxkyr4=")
	w.user("alice", "7")
	must[api.User](t)(w.SetUser(ctx, "7", api.UserChange{Claims: &api.Claims{"role": []byte(`"admin"`)}}, "uid:0"))
	must[api.User](t)(w.SetUser(ctx, "7", api.UserChange{Disabled: &yes}, "uid:0"))
	must[api.User](t)(w.SetUser(ctx, "7", api.UserChange{Disabled: &no}, "uid:0"))
	must[api.User](t)(w.SetPassword(ctx, "7", testPassword, "uid:0"))
	must[api.User](t)(w.LogoutUser(ctx, "7", "uid:0"))
	must[api.User](t)(w.UnblockUser(ctx, "7", "uid:0"))
	must[api.User](t)(w.SetUser(ctx, "7", api.UserChange{Name: &name}, "uid:0"))
	if err := w.RemoveUser(ctx, "7", "uid:0"); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, r := range must[api.AuditRecords](t)(w.Audit(ctx, audit.Query{Limit: 100})).Records {
		said[r.Action] = cmp.Or(r.Detail["name"], r.Detail["alg"])
	}
	for action, want := range map[string]string{
		"audience.add": "EdDSA", "audience.set": "EdDSA", "audience.remove": "EdDSA",
		"user.add": "alice", "user.import": "bob", "user.set": "alice", "user.disable": "alice", "user.enable": "alice", "user.passwd": "alice",
		"user.logout": "alice", "user.unblock": "alice", "user.rename": name, "user.remove": name,
	} {
		if said[action] != want {
			t.Errorf("%s says %q, want %q", action, said[action], want)
		}
	}
}
