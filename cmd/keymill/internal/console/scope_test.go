package console

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/terminal"
)

// limited returns a visitor of a server on the network that refuses some requests for want of a scope.
func limited(t *testing.T, c *changing, refuses func(method, path string) bool) *visitor {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := strings.TrimPrefix(r.URL.Path, "/admin/v1/"); refuses(r.Method, path) {
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="scope-of-`+path+`"`)
			w.WriteHeader(http.StatusForbidden)
			json.NewEncoder(w).Encode(map[string]string{"code": "insufficient_scope", "detail": "this needs the scope scope-of-" + path})
			return
		}
		c.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return newVisitor(adminapi.NewRemote(adminapi.Remote{
		URL: server.URL, Flags: []string{"--client-id", "deployer"},
		Token:  func(context.Context) (string, error) { return "", nil },
		Advise: func(err error) error { return terminal.WithHint(err, "on the server's machine: grant it") },
	}))
}

// enter logs in without waiting for the audit log, which the token may not read.
func enter(t *testing.T, v *visitor) string {
	t.Helper()
	w := v.enter(v.site.door.code)
	if w.Code != http.StatusSeeOther {
		t.Fatalf("the login answered %d", w.Code)
	}
	return w.Header().Get("Location")
}

// TestAMissingScopeIsShownInTheServersWords, with what to do and a command line that works.
func TestAMissingScopeIsShownInTheServersWords(t *testing.T) {
	v := limited(t, &changing{admin: admin{"name"}}, func(method, _ string) bool { return method != http.MethodGet })
	base := v.login(t)
	for _, tt := range actionCases {
		w := v.send("POST", base+"do", answer(t, v, base+tt.path, tt.typed))
		refused(t, w, http.StatusBadRequest, "Nothing was done. The server says: this needs the scope scope-of-")
		for _, want := range []string{"On the server&#39;s machine: grant it.", "keymill " + tt.command + " --server " + v.site.server.Name() + " --client-id deployer<"} {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: the page does not say %q:\n%s", tt.path, want, w.Body)
			}
		}
	}
	v = limited(t, &changing{admin: admin{"name"}}, func(_, path string) bool { return path == "client" })
	refused(t, v.send("GET", enter(t, v)+"client?id=name", ""), http.StatusBadRequest, "On the server&#39;s machine: grant it.")
}

// TestAPageShowsWhatTheTokenMayRead, and says what it leaves out. A change needs no scope of its numbers.
func TestAPageShowsWhatTheTokenMayRead(t *testing.T) {
	for _, tt := range []struct {
		path  string
		may   string // beside the status; the method and the path of each request
		shown []string
	}{
		{"", "GET activity", []string{"The next rotation is not shown: it needs the scope scope-of-keys.", "The audit log is not shown: it needs the scope scope-of-audit.", "Tokens and refusals"}},
		{"", "GET activity, GET keys", []string{"Next rotation", "The audit log is not shown"}},
		{"keys", "GET keys", []string{"key-0", "key-1"}},
		{"audit", "GET audit", []string{"key.revoke"}},
		{"key/rotate?alg=EdDSA", "GET keys, POST keys/rotate", []string{"key-1"}},
		{"key/revoke?kid=key-0", "GET keys, POST keys/revoke", []string{"2 of 3"}},
		{"client/disable?id=name", "GET client, PATCH client", []string{"not known", "it needs the scope scope-of-sessions", "it needs the scope scope-of-settings"}},
		{"user/disable?user=name", "GET user, PATCH user", []string{"not known", "it needs the scope scope-of-sessions"}},
		{"verifier/add?name=fresh", "POST verifiers", []string{"not known", "it needs the scope scope-of-verifiers"}},
	} {
		c := &changing{admin: admin{"name"}}
		v := limited(t, c, func(method, path string) bool {
			allowed := strings.Split(tt.may, ", ")
			if tt.path == "" {
				allowed = append(allowed, "GET status")
			}
			for _, a := range allowed {
				if a == method+" "+path {
					return false
				}
			}
			return true
		})
		base := enter(t, v)
		page := v.send("GET", base+tt.path, "")
		if page.Code != 200 {
			t.Errorf("%s: answered %d\n%s", tt.path, page.Code, page.Body)
			continue
		}
		for _, want := range tt.shown {
			if !strings.Contains(page.Body.String(), want) {
				t.Errorf("%s does not say %q:\n%s", tt.path, want, page.Body)
			}
		}
		if token := tokenField.FindString(page.Body.String()); token == "" {
			continue
		}
		w := v.send("POST", base+"do", answer(t, v, base+tt.path, map[bool]string{true: "revoke"}[strings.HasPrefix(tt.path, "key/revoke")]))
		if w.Code != 200 && w.Code != http.StatusSeeOther || len(c.requests()) != 1 {
			t.Errorf("%s: answered %d, asked %q:\n%s", tt.path, w.Code, c.requests(), w.Body)
		}
	}
}
