package diagnose

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/datadir"
	"keymill/issuer/api"
)

// TestDoctorSaysWhyTheServerIsNotReady: /readyz does not, so the operator asks doctor.
func TestDoctorSaysWhyTheServerIsNotReady(t *testing.T) {
	for _, issues := range [][]string{
		nil, {"the store has failed and accepts no more requests"}, {"EdDSA: no key can sign"},
		{"the wall clock jumped", "RS256: no spare key is published", "key odd is not published"},
	} {
		d := &Doctor{AskServer: func(context.Context) (api.Status, error) {
			return api.Status{Version: "1", Issuer: "https://id.example.com", Ready: len(issues) == 0, Issues: issues}, nil
		}}
		if err := d.askServer(t.Context(), &datadir.InUseError{PID: 1}); err != nil {
			t.Fatal(err)
		}
		found := d.findings
		found.OK = len(found.failed()) == 0
		var out bytes.Buffer
		failed := found.Print(&out, false) != nil
		if failed != (issues != nil) || found.OK == failed || !strings.Contains(out.String(), strings.Join(issues, "; ")) {
			t.Errorf("%q: failed %v\n%s", issues, failed, out.String())
		}
	}
}
