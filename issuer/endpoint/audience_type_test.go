package endpoint

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestTheAdminAPITakesExactlyTwoTypes: each other value is refused in one sentence that names both, however the
// audience is sent, and changes nothing.
func TestTheAdminAPITakesExactlyTwoTypes(t *testing.T) {
	w := newWorld(t)
	const orders = "/admin/v1/audience?name=orders"
	tag := w.etag(orders)
	for _, typ := range []string{"jwt", "at+JWT", "ID", " ", "JWT ", "application/at+jwt", "at+jwt,JWT", "\x00", strings.Repeat("J", 10_000)} {
		value, _ := json.Marshal(typ)
		for what, body := range map[string][3]string{
			"new":     {"POST", "/admin/v1/audiences", `{"audience":"typed","alg":"EdDSA","type":` + string(value) + `}`},
			"changed": {"PATCH", orders, `{"type":` + string(value) + `}`},
			"put":     {"PUT", orders, `{"alg":"EdDSA","type":` + string(value) + `}`},
		} {
			a := w.expect(400, body[0], body[1], body[2])
			if m := a.json(t); m["code"] != "invalid_request" || !strings.HasSuffix(m["detail"].(string), "is neither at+jwt nor JWT") || len(a.body) > 1000 {
				t.Errorf("%s, type %.20q: %.1000s", what, typ, a.body)
			}
		}
	}
	if a := w.expect(400, "PATCH", orders, `{"type":""}`); !strings.Contains(a.body, "type '' is neither at+jwt nor JWT") {
		t.Errorf("an empty type in a change: %s", a.body)
	}
	for _, more := range []string{`"former_type_until":"2026-01-01T00:00:00Z"`, `"warnings":["x"]`} {
		if a := w.expect(400, "POST", "/admin/v1/audiences", `{"audience":"typed","alg":"EdDSA",`+more+`}`); !strings.Contains(a.body, "only in answers") {
			t.Errorf("%s: %s", more, a.body)
		}
	}
	if got := w.etag(orders); got != tag {
		t.Error("a refused type has changed the audience")
	}
	w.expect(404, "GET", "/admin/v1/audience?name=typed", "")
}

// TestATypeIsAnsweredWithItsWarning, by each request that chooses it. A PUT without a type means that of the
// profile.
func TestATypeIsAnsweredWithItsWarning(t *testing.T) {
	w := newWorld(t)
	const one = "/admin/v1/audience?name=typed"
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string // a part of the answer
		warnings           int
	}{
		{"POST", "/admin/v1/audiences", `{"audience":"typed","alg":"RS256","profile":"spring"}`, 201, `"profile":"spring","type":"JWT"`, 1},
		{"GET", one, "", 200, `"type":"JWT"`, 0},
		{"PUT", one, `{"alg":"RS256","profile":"spring"}`, 200, `"type":"JWT"`, 0},
		{"PUT", one, `{"alg":"RS256"}`, 200, `"profile":"rfc9068","type":"at+jwt","former_type_until":"`, 1},
		{"GET", one, "", 200, `"former_type_until":"`, 0},
		{"PATCH", one, `{"type":"at+jwt"}`, 200, `"type":"at+jwt","former_type_until":"`, 0},
		{"PATCH", one, `{"type":"JWT"}`, 200, `"type":"JWT","former_type_until":"`, 2},
		{"PUT", "/admin/v1/audience?name=other", `{"alg":"EdDSA","type":"JWT"}`, 201, `"type":"JWT"`, 1},
	} {
		a := w.expect(tt.status, tt.method, tt.path, tt.body)
		warnings, _ := a.json(t)["warnings"].([]any)
		if !strings.Contains(a.body, tt.want) || len(warnings) != tt.warnings {
			t.Errorf("%s %s %s: %s, want %s and %d warnings", tt.method, tt.path, tt.body, a.body, tt.want, tt.warnings)
		}
	}
}
