package verifiers

import (
	"errors"
	"strings"
	"testing"

	"keymill/issuer/record"
	"keymill/storage"
)

// FuzzCredential: nothing but the credential itself is one, whatever a client sends.
func FuzzCredential(f *testing.F) {
	w := newWorld(f)
	credential := w.add("orders-api").Credential
	for _, s := range []string{"", ".", "orders-api", credential, credential + "=", strings.ToUpper(credential), "orders-api." + strings.Repeat("a", 16)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := w.identify(s); (got == "orders-api") != (s == credential) || got != "" && got != "orders-api" {
			t.Errorf("%q is taken for %q", s, got)
		}
	})
}

// FuzzServedRecord: a record is refused as damage, or gives an interval that this program can have measured.
func FuzzServedRecord(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"last":"2026-01-01T00:00:00Z","kids":["a"],"intervals":[{"seconds":300,"visits":1}]}`,
		`{"last":"2026-01-01T00:00:00Z","up":3600000000000,"kids":["a"],"intervals":[]}`,
		`{"last":"2026-01-01T00:00:00Z","kids":[],"intervals":[{"seconds":1e+300,"visits":0.001}]}`,
		`{"last":"2026-01-01T00:00:00Z","kids":["b","a"],"intervals":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		rec, err := record.Decode(servedKey("a"), raw, (*servedRecord).possible)
		if err != nil {
			if !errors.Is(err, storage.ErrDamaged) {
				t.Error(err)
			}
			return
		}
		if h := rec.habit(); h.usual() < 0 || h.usual() > maxInterval {
			t.Errorf("%s gives %s", raw, h.usual())
		}
	})
}
