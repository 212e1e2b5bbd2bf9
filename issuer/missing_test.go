package issuer

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/epoch"
	"keymill/issuer/loginname"
	"keymill/issuer/refusal"
	"keymill/storage"
)

// TestALostIndexEntryNeverLetsARecordBeReplaced: a client or user whose entry in the index of ids is
// missing stays as it is.
//
// I23.
func TestALostIndexEntryNeverLetsARecordBeReplaced(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.service("billing", "stock")
	w.user("alice", "7")
	for _, id := range []string{"7", "billing"} {
		before := w.all()
		if err := w.file.Update(t.Context(), func(tx storage.Tx) error { return errors.Join(tx.Delete(idKey(id)), tx.Delete(loginname.Key("alice"))) }); err != nil {
			t.Fatal(err)
		}
		_, asUser := w.AddUser(t.Context(), api.NewUser{ID: id, Name: "alice"}, "uid:0")
		_, asImported := w.ImportUser(t.Context(), api.ImportedUser{ID: id, Name: "alice"}, "uid:0")
		_, asClient := w.AddClient(t.Context(), api.NewClient{ID: id, Grants: []string{"client_credentials"}, Audiences: []string{"stock"}}, "uid:0")
		for what, err := range map[string]error{"user": asUser, "imported user": asImported, "client": asClient} {
			if !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), idKey(id)) {
				t.Errorf("%s as a new %s: %v", id, what, err)
			}
		}
		for _, key := range []string{userKey("7"), clientKey("billing")} {
			if !bytes.Equal(w.all()[key], before[key]) {
				t.Errorf("%s was changed", key)
			}
		}
	}
}

// TestAMissingEpochRevivesNoToken: a store without its epoch gives no answer about tokens.
//
// I24.
func TestAMissingEpochRevivesNoToken(t *testing.T) {
	w := newWorld(t)
	w.web()
	secret := w.service("billing", "stock")
	w.user("alice", "7")
	session := w.begin("7")
	asker := w.asker("api", "stock")
	g, err := w.token("billing", secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.RevokeAllSessions(t.Context(), "uid:0"); err != nil {
		t.Fatal(err)
	}
	if err := w.file.Update(t.Context(), func(tx storage.Tx) error { return tx.Delete(epoch.Key) }); err != nil {
		t.Fatal(err)
	}
	_, err = w.Introspect(t.Context(), Credentials{"api", asker, "client_secret_basic"}, refusal.Secret(g.AccessToken))
	if !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("introspection: %v", err)
	}
	if _, err := w.refresh(session.grant.Refresh); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("refresh: %v", err)
	}
	if err := w.RevokeAllSessions(t.Context(), "uid:0"); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("the next revocation: %v", err)
	}
}
