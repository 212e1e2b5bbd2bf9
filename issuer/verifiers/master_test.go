package verifiers

import (
	"testing"

	"keymill/keystore"
)

// TestAChangeOfTheMasterKeyKeepsTheCredentials, so that no URL of a verifier has to change.
func TestAChangeOfTheMasterKeyKeepsTheCredentials(t *testing.T) {
	w := newWorld(t)
	before := w.add("orders-api")
	w.fetch("orders-api")
	if err := w.write(t.Context(), (*pinned).unsaved); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		next, _ := keystore.NewMasterKey()
		w.keys.Close()
		if err := keystore.ChangeMasterKey(t.Context(), w.file, keystore.MasterKeyChange{Old: w.keysOf.Master, Next: next, By: "uid:0"}); err != nil {
			t.Fatal(err)
		}
		w.keysOf.Master = next
		w.file.Close()
		w.reopen()
		if after := w.verifier("orders-api"); after.URL != before.URL || after.Last == nil || w.identify(before.Credential) != "orders-api" {
			t.Errorf("after the change: %+v, before: %+v", after, before)
		}
	}
	if w.add("another").Credential == "" || len(w.damaged) > 0 {
		t.Errorf("damaged: %v", w.damaged)
	}
}
