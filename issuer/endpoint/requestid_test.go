package endpoint

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"keymill/issuer/endpoint/requestid"
)

// TestEveryLineOfARequestHasItsIDs, and no answer, no audit record and no other line has them.
func TestEveryLineOfARequestHasItsIDs(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.Log = slog.New(requestid.NewHandler(c.Log.Handler())) })
	w.withAlice()
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	number := 0
	send := func(method, path, body string, header ...string) {
		t.Helper()
		number++
		a := w.send(method, path, body, append(header, fmt.Sprintf("X-Request-Id: request-%d", number), "traceparent: 00-"+trace+"-00f067aa0ba902b7-01")...)
		if all := fmt.Sprint(a.status, a.header, a.body); strings.Contains(all, "request-") || strings.Contains(all, trace) {
			t.Errorf("%s %s is answered with an id: %s", method, path, all)
		}
	}
	const form, js = "Content-Type: application/x-www-form-urlencoded", "Content-Type: application/json"
	send("POST", "/token", w.good(), form)                                                                            // token issued
	send("POST", "/token", "grant_type=client_credentials", form, basic("billing", "kms_wrong"))                      // request refused
	send("GET", "/nowhere", "")                                                                                       // the same, at level DEBUG
	send("POST", "/api/token/", `{"username":"alice","password":"`+alicesPassword+`"}`, js)                           // logged in
	send("POST", "/api/token/", `{"username":"alice","password":"wrong"}`, js)                                        // login refused, in another goroutine
	send("POST", "/session/login", `{"username":"alice","password":"wrong"}`, js, "Origin: https://evil.example.com") // the origin is refused
	send("GET", "/healthz", "")                                                                                       // no line
	w.file.Close()
	send("POST", "/token", w.good(), form) // request failed
	lines := map[string]int{}
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["request_id"] == nil || m["trace_id"] != trace {
			if m["path"] != nil || m["grant"] != nil {
				t.Errorf("a line without ids: %s", line)
			}
			continue
		}
		lines[fmt.Sprint(m["request_id"], " ", m["msg"])]++
	}
	for n, message := range []string{"token issued", "request refused", "request refused", "logged in", "login refused", "request refused", "", "request failed"} {
		if message != "" && lines[fmt.Sprintf("request-%d %s", n+1, message)] != 1 {
			t.Errorf("request %d has not one line %q: %v", n+1, message, lines)
		}
	}
	if len(lines) != 7 {
		t.Errorf("lines with ids: %v", lines)
	}
}

// TestIDsOfAdministratorsAreLogged, and no id is part of what is remembered about the request.
func TestIDsOfAdministratorsAreLogged(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.Log = slog.New(requestid.NewHandler(c.Log.Handler())) })
	req, err := http.NewRequest("POST", "http://admin/admin/v1/clients", strings.NewReader(`{"client_id":"fresh"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Request-Id", "change-4711")
	res, err := w.admin.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if log := w.log.String(); res.StatusCode != http.StatusCreated || strings.Count(log, `"request_id":"change-4711"`) != 1 {
		t.Errorf("status %d, and the log is %s", res.StatusCode, log)
	}
	if records := w.askAdmin("GET", "/admin/v1/audit", ""); strings.Contains(records.body, "change-4711") {
		t.Errorf("the audit log has the id: %s", records.body)
	}
}
