package diagnose

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"keymill/storage"
	"keymill/storage/bolt"
)

// TestDoctorNamesEveryDamagedRecord of those that issuer, outbox, audit and serve write: the count, and
// ten names. It changes none.
//
// I23.
func TestDoctorNamesEveryDamagedRecord(t *testing.T) {
	store, err := bolt.Open(filepath.Join(t.TempDir(), "keymill.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	check := func() Finding {
		d := &Doctor{records: store}
		d.checkRecords(t.Context())
		return d.findings.Checks[0]
	}
	put := func(key, value string) {
		t.Helper()
		if err := store.Update(t.Context(), func(tx storage.Tx) error { return tx.Put(key, []byte(value)) }); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 1200 {
		put("denied/"+base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%016d", n)), "1")
	}
	if got := check(); !got.OK || !strings.HasPrefix(got.Detail, "1200 records") {
		t.Errorf("without damage: %+v", got)
	}
	damaged := []string{
		"audience/a", "client/a", "user/7", "id/7", "login/x", "origin/x", "scheme/x", "family/x", "terms/x", "sessions/x", "due/x", "denied/x",
		"gone/7", "tally/x", "epoch", "issuer", "webhook/x", "audit/head", "audit/new/x", "audit/log/x", "refresh/secret/x",
		"verifier/name/x", "verifier/secret/x", "served/x", "behind", "applied/client/x", "node/X", "lease/x",
	}
	for n, key := range damaged {
		if err := checkRecord(key, []byte("\x00")); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%s: %v", key, err)
		}
		put(key, "\x00")
		if got := check(); got.OK || !strings.Contains(got.Detail, fmt.Sprintf("damaged records: %d (", n+1)) || n < maxDamaged && !strings.Contains(got.Detail, key) {
			t.Errorf("%s: %+v", key, got)
		}
	}
}
