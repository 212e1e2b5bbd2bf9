package readiness

import (
	"testing"

	"keymill/storage"
)

// TestReadinessNamesADamagedRecordOnce: the tags and the maintenance of the keys can both have found it.
func TestReadinessNamesADamagedRecordOnce(t *testing.T) {
	text := func(key string) string { return (&storage.DamageError{Key: key, Err: storage.ErrForged}).Error() }
	both := "look at the keys: " + text("ring/EdDSA") + "; " + text("retired/EdDSA/k") + "; write clock: " + text("clock")
	for _, tt := range []struct {
		name, key string
		keys      []string
		once      bool // the issues of the keys do not name it
	}{
		{"only its tag", "clock", nil, true},
		{"another issue", "clock", []string{"EdDSA: no key can sign"}, true},
		{"another record", "ring/EdDSA", []string{"write clock: " + text("clock")}, true},
		{"a record whose name begins like it", "ring/EdDSA", []string{text("ring/EdDSA2")}, true},
		{"the first of several", "ring/EdDSA", []string{both}, false},
		{"one of several", "retired/EdDSA/k", []string{both}, false},
		{"the last of several", "clock", []string{"EdDSA: no key can sign", both}, false},
	} {
		want := ""
		if tt.once {
			want = text(tt.key) + ": stop the server and run keymill doctor"
		}
		if got := damageIssue(tt.key, text(tt.key), tt.keys); got != want {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
	for _, key := range []string{"user/7", "client/web", "private/k", "audit/head"} {
		if got := damageIssue(key, text(key), nil); got != "" {
			t.Errorf("%s, which not every token needs: %q", key, got)
		}
	}
}
