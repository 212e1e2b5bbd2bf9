package endpoint

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"keymill/issuer/api"
)

// auditActions returns the actions of the records after a number, sorted, and the last number.
func (w *world) auditActions(after uint64) (actions string, last uint64) {
	w.t.Helper()
	var page api.AuditRecords
	if err := json.Unmarshal([]byte(w.expect(200, "GET", fmt.Sprintf("/admin/v1/audit?limit=1000&after=%d", after), "").body), &page); err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for _, r := range page.Records {
		list = append(list, r.Action)
	}
	slices.Sort(list) // records of one time have no order
	return strings.Join(list, " "), page.Last
}

// TestAPutMakesTheWholeState: it adds, replaces, and does nothing if it is repeated. What the body does not
// have becomes the default.
func TestAPutMakesTheWholeState(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		path, first, second string
		actions             string // of the second
		shown               string // a part of the answer to the second
	}{
		{
			"/admin/v1/audience?name=stock", `{"alg":"EdDSA","ttl":"5m","scopes":["b","a","a"],"profile":"rfc9068","type":"JWT"}`, `{"alg":"EdDSA"}`,
			"audience.set", `"ttl":"15m0s","scopes":[],"profile":"rfc9068","type":"at+jwt"`,
		},
		{
			"/admin/v1/client?id=app", `{"grants":["client_credentials"],"audiences":["orders"],"scopes":["read"],"idle":"1h","disabled":true}`,
			`{"grants":["client_credentials"],"audiences":["orders"]}`, "client.enable client.set", `"scopes":[],`,
		},
		{
			"/admin/v1/user?user=id:9", `{"username":"bob","claims":{"b":1,"a":[2]},"disabled":true}`, `{"username":"bob"}`,
			"user.enable user.set", `"disabled":false,"claims":{}`,
		},
	} {
		if a := w.askIf("PUT", tt.path, tt.first, "If-None-Match: *"); a.status != 201 || a.header.Get("ETag") != w.etag(tt.path) {
			t.Fatalf("%s: %d %s", tt.path, a.status, a.body)
		}
		_, last := w.auditActions(0)
		tag := w.etag(tt.path)
		for range 2 {
			if a := w.expect(200, "PUT", tt.path, tt.first); a.header.Get("ETag") != tag || strings.Contains(a.body, "client_secret") {
				t.Errorf("%s again: %s, tag %s", tt.path, a.body, a.header.Get("ETag"))
			}
		}
		if actions, _ := w.auditActions(last); actions != "" {
			t.Errorf("%s again wrote %s", tt.path, actions)
		}
		w.refusedIf("precondition_failed", "PUT", tt.path, tt.second, "If-None-Match: *")
		w.refusedIf("precondition_failed", "PUT", tt.path, tt.second, `If-Match: "x"`)
		a := w.askIf("PUT", tt.path, tt.second, "If-Match: "+tag)
		if a.status != 200 || !strings.Contains(a.body, tt.shown) || a.header.Get("ETag") == tag {
			t.Errorf("%s replaced: %d %s", tt.path, a.status, a.body)
		}
		if actions, _ := w.auditActions(last); actions != tt.actions {
			t.Errorf("%s replaced: wrote %q, want %q", tt.path, actions, tt.actions)
		}
		w.refusedIf("invalid_request", "PUT", tt.path, `{"unknown":1}`)
		w.refusedIf("precondition_failed", "PUT", strings.NewReplacer("stock", "x", "app", "x", "id:9", "id:x").Replace(tt.path), tt.first, "If-Match: *")
	}
	for path, body := range map[string]string{
		"/admin/v1/audience?name=stock": `{"alg":"RS256"}`,
		"/admin/v1/client?id=app":       `{"public":true}`,
		"/admin/v1/user?user=bob":       `{"username":"bob"}`,
		"/admin/v1/user?user=id:9":      `{}`,
		"/admin/v1/user?user=id:":       `{"username":"bob"}`,
	} {
		w.refusedIf("invalid_request", "PUT", path, body)
	}
	if a := w.expect(409, "PUT", "/admin/v1/user?user=id:10", `{"username":"bob"}`); a.code(t) != "already_exists" {
		t.Errorf("a name that is taken: %s", a.body)
	}
	if a := w.expect(409, "PUT", "/admin/v1/user?user=id:app", `{"username":"carol"}`); a.code(t) != "already_exists" {
		t.Errorf("the id of a client: %s", a.body)
	}
}

// TestAPutCanBringTheSecretOfAClient as a hash. Without one a new client gets a secret, and an existing one keeps it.
func TestAPutCanBringTheSecretOfAClient(t *testing.T) {
	w := newWorld(t)
	const path, state = "/admin/v1/client?id=app", `{"grants":["client_credentials"],"audiences":["orders"]%s}`
	hashOf := func(secret string) string { return fmt.Sprintf(`,"secret_sha256":"%x"`, sha256.Sum256([]byte(secret))) }
	works := func(secret string) bool {
		return w.post("grant_type=client_credentials", basic("app", secret)).status == 200
	}
	made := w.expect(201, "PUT", path, fmt.Sprintf(state, "")).json(t)["client_secret"].(string)
	if w.expect(200, "PUT", path, fmt.Sprintf(state, "")); !works(made) {
		t.Error("a PUT without a hash has changed the secret")
	}
	_, last := w.auditActions(0)
	for range 2 {
		if a := w.expect(200, "PUT", path, fmt.Sprintf(state, hashOf("first"))); strings.Contains(a.body, "secret\"") || works(made) || !works("first") {
			t.Errorf("a hash does not replace the secret: %s", a.body)
		}
	}
	if actions, _ := w.auditActions(last); actions != "client.rotate_secret" {
		t.Errorf("wrote %q", actions)
	}
	w.expect(204, "DELETE", path, "")
	if a := w.expect(201, "PUT", path, fmt.Sprintf(state, hashOf("second"))); strings.Contains(a.body, "client_secret") || !works("second") || works("first") {
		t.Errorf("a new client with a hash: %s", a.body)
	}
	for _, bad := range []string{`,"secret_sha256":"x"`, `,"secret_sha256":"ab"`, `,"public":true` + hashOf("x")} {
		w.refusedIf("invalid_request", "PUT", path, fmt.Sprintf(state, bad))
	}
}

// TestParallelPutsAreOneAfterTheOther: one adds, the others replace, and the last state is that of one of them.
func TestParallelPutsAreOneAfterTheOther(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	answers := make([]answer, 20)
	for n := range answers {
		all.Go(func() {
			answers[n] = w.askIf("PUT", "/admin/v1/client?id=app", fmt.Sprintf(`{"audiences":["orders"],"idle":"%dh","absolute":"%dh"}`, n+1, n+1))
		})
	}
	all.Wait()
	added := 0
	for _, a := range answers {
		if a.status == 201 {
			added++
		} else if a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	m := w.expect(200, "GET", "/admin/v1/client?id=app", "").json(t)
	if added != 1 || m["idle"] != m["absolute"] || m["idle"] == "" {
		t.Errorf("%d added; idle %v, absolute %v", added, m["idle"], m["absolute"])
	}
}

// TestANewUserOfAPutCanHaveAPassword, which a later PUT does not change.
func TestANewUserOfAPutCanHaveAPassword(t *testing.T) {
	w := newWorld(t).withAlice()
	const path = "/admin/v1/user?user=id:8"
	w.expect(201, "PUT", path, `{"username":"bob","password":"`+alicesPassword+`"}`)
	w.expect(200, "PUT", path, `{"username":"robert","password":"another battery staple"}`)
	w.pairOf(w.postJSON("/api/token/", credentials("robert", alicesPassword)))
}
