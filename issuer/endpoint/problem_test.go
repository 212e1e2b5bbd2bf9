package endpoint

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
)

// TestEveryErrorOfTheAdminAPIIsAProblem as RFC 9457 describes it, also those that no handler makes. The
// public API keeps the form of RFC 6749.
func TestEveryErrorOfTheAdminAPIIsAProblem(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) {
		c.Warnings = func(context.Context) []api.Warning { panic("something private") }
	})
	check := func(status int, code, method, path, body string) {
		t.Helper()
		a := w.expect(status, method, path, body)
		var p api.Problem
		if err := json.Unmarshal([]byte(a.body), &p); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		want := api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: p.Detail, Code: code}
		if p != want || p.Detail == "" || a.header.Get("Content-Type") != "application/problem+json" || strings.Contains(a.body, "private") {
			t.Errorf("%s %s: %s %s", method, path, a.header.Get("Content-Type"), a.body)
		}
	}
	check(400, "invalid_request", "GET", "/admin/v1/client", "")
	check(404, "not_found", "GET", "/admin/v1/client?id=x", "")
	check(404, "not_found", "GET", "/admin/v1/nothing", "")
	check(404, "not_found", "GET", "/token", "")
	check(405, "invalid_request", "DELETE", "/admin/v1/clients", "")
	check(409, "already_exists", "POST", "/admin/v1/clients", `{"client_id":"billing"}`)
	check(409, "in_use", "DELETE", "/admin/v1/audience?name=orders", "")
	check(409, "not_ready", "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA"}`)
	check(413, "invalid_request", "POST", "/admin/v1/clients", `{"client_id":"`+strings.Repeat("x", admin.MaxBodyBytes)+`"}`)
	check(500, "server_error", "GET", "/admin/v1/status", "")
	w.store.Close()
	check(503, "unavailable", "GET", "/admin/v1/clients", "")

	if a := w.post("grant_type=x"); a.header.Get("Content-Type") != "application/json" || a.code(t) == "" {
		t.Errorf("the public API answers %s %s", a.header.Get("Content-Type"), a.body)
	}
}
