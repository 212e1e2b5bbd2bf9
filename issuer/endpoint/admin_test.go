package endpoint

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
)

// expect sends a request and fails unless the answer has the status.
func (w *world) expect(status int, method, path, body string) answer {
	w.t.Helper()
	a := w.askAdmin(method, path, body)
	if a.status != status {
		w.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, a.status, a.body, status)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		w.t.Errorf("%s %s: Cache-Control %q", method, path, a.header.Get("Cache-Control"))
	}
	return a
}

func TestAnAudiencesLifeThroughTheAdminAPI(t *testing.T) {
	w := newWorld(t)
	created := w.expect(201, "POST", "/admin/v1/audiences", `{"audience":"https://a.example/?x=1&y","alg":"RS256","ttl":"5m","scopes":["b","a"],"profile":"simplejwt"}`)
	if want := `{"audience":"https://a.example/?x=1\u0026y","alg":"RS256","ttl":"5m0s","scopes":["a","b"],"profile":"simplejwt","type":"at+jwt"}`; created.body != want {
		t.Errorf("got %s", created.body)
	}
	const one = "/admin/v1/audience?name=https%3A%2F%2Fa.example%2F%3Fx%3D1%26y"
	if a := w.expect(200, "GET", one, ""); a.body != created.body {
		t.Errorf("got %s", a.body)
	}
	a := w.expect(200, "PATCH", one, `{"ttl":"1h","profile":"rfc9068"}`)
	if m := a.json(t); m["ttl"] != "1h0m0s" || m["profile"] != "rfc9068" || len(m["scopes"].([]any)) != 2 {
		t.Errorf("got %s", a.body)
	}
	if got := w.expect(409, "POST", "/admin/v1/audiences", `{"audience":"orders","alg":"EdDSA"}`).code(t); got != "already_exists" {
		t.Error(got)
	}
	if got := w.expect(409, "DELETE", "/admin/v1/audience?name=orders", "").code(t); got != "in_use" {
		t.Error(got)
	}
	if a := w.expect(204, "DELETE", one, ""); a.body != "" {
		t.Error(a.body)
	}
	if got := w.expect(404, "GET", one, "").code(t); got != "not_found" {
		t.Error(got)
	}
	var names []string
	for after := ""; len(names) <= 2; {
		var page []struct{ Audience string }
		body := w.expect(200, "GET", "/admin/v1/audiences?limit=1&after="+after, "").body
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		after = page[0].Audience
		names = append(names, after)
	}
	if !reflect.DeepEqual(names, []string{"orders", "shop"}) {
		t.Errorf("got %q", names)
	}
}

func TestAClientsLifeThroughTheAdminAPI(t *testing.T) {
	w := newWorld(t)
	a := w.expect(201, "POST", "/admin/v1/clients",
		`{"client_id":"a b","public":false,"grants":["client_credentials"],"audiences":["orders"],"scopes":["read"],"origins":["https://app.example"]}`)
	secret, _ := a.json(t)["client_secret"].(string)
	if !strings.HasPrefix(a.body, `{"client_id":"a b","client_secret":"kms_`) {
		t.Fatalf("got %s", a.body)
	}
	works := func(secret string) bool {
		return w.post("grant_type=client_credentials", basic("a b", secret)).status == 200
	}
	if !works(secret) {
		t.Error("the secret does not work")
	}
	shown := w.expect(200, "GET", "/admin/v1/client?id=a+b", "")
	if m := shown.json(t); m["client_secret"] != nil || m["old_secret_until"] != nil || m["disabled"] != false || !strings.HasSuffix(m["created"].(string), "Z") {
		t.Errorf("got %s", shown.body)
	}
	if !strings.Contains(shown.body, `"old_secret_until":null`) {
		t.Errorf("got %s", shown.body)
	}
	rotated := w.expect(200, "POST", "/admin/v1/client/secret?id=a+b", `{"old_for":"24h"}`).json(t)
	until, err := time.Parse(time.RFC3339, rotated["old_secret_until"].(string))
	if err != nil || time.Until(until) < 23*time.Hour || !works(secret) || !works(rotated["client_secret"].(string)) {
		t.Errorf("got %v, %v", rotated, err)
	}
	now := w.expect(200, "POST", "/admin/v1/client/secret?id=a+b", `{}`).json(t)["client_secret"].(string)
	if works(secret) || !works(now) {
		t.Error("the old secret still works")
	}
	w.expect(200, "PATCH", "/admin/v1/client?id=a+b", `{"disabled":true}`)
	if works(now) {
		t.Error("a disabled client gets tokens")
	}
	w.expect(200, "PATCH", "/admin/v1/client?id=a+b", `{"disabled":false,"scopes":[]}`)
	if !works(now) {
		t.Error("an enabled client gets no tokens")
	}
	w.expect(204, "DELETE", "/admin/v1/client?id=a+b", "")
	w.expect(404, "DELETE", "/admin/v1/client?id=a+b", "")
	if body := w.expect(200, "GET", "/admin/v1/clients?after=billing", "").body; body != "[]" {
		t.Errorf("got %s", body)
	}
}

func TestKeysThroughTheAdminAPI(t *testing.T) {
	w := newWorld(t)
	var keys []api.Key
	list := w.expect(200, "GET", "/admin/v1/keys", "").body
	if err := json.Unmarshal([]byte(list), &keys); err != nil || len(keys) < 4 || !strings.Contains(list, `"drop":null`) {
		t.Fatalf("%v %s", err, list)
	}
	a := w.expect(409, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA"}`)
	if at, err := time.Parse(time.RFC3339, fmt.Sprint(a.json(t)["at"])); a.code(t) != "not_ready" || err != nil || time.Until(at) < time.Minute {
		t.Errorf("got %s", a.body)
	}
	for _, flush := range []struct{ route, body string }{
		{"rotate", `{"alg":"EdDSA","flush":true}`}, {"revoke", fmt.Sprintf(`{"kid":%q,"flush":true}`, keys[0].KID)},
	} {
		// No reserve was made yet.
		a := w.expect(409, "POST", "/admin/v1/keys/"+flush.route, flush.body)
		if a.code(t) != "no_reserve" || !strings.Contains(a.body, "some seconds") || w.expect(200, "GET", "/admin/v1/keys", "").body != list {
			t.Errorf("%s: got %s", flush.route, a.body)
		}
	}
	w.expect(400, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA","flush":true,"force":true}`)
	w.expect(400, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA","flush":"yes"}`)
	w.expect(404, "POST", "/admin/v1/keys/revoke", `{"kid":"unknown","flush":true}`)
	m := w.expect(200, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA","force":true}`).json(t)
	if m["note"] != "" || m["alg"] != "EdDSA" || m["kid"] == m["previous"] || m["kid"] == "" || m["sign"] == nil || m["unknown_until"] == nil {
		t.Errorf("got %v", m)
	}
	w.expect(400, "POST", "/admin/v1/keys/rotate", `{}`)
	w.expect(400, "POST", "/admin/v1/keys/revoke", `{}`)
	w.expect(400, "POST", "/admin/v1/keys/import", `{"alg":"EdDSA"}`)
	w.expect(400, "POST", "/admin/v1/keys/import", `{"key":"garbage"}`)
	w.expect(404, "POST", "/admin/v1/keys/revoke", `{"kid":"unknown"}`)
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	// A key that only verifies must never become one that signs.
	for _, until := range []string{"0001-01-01T00:00:00Z", "0001-01-01T02:00:00+02:00", "1970-01-01T00:00:00Z"} {
		if got := w.expect(400, "POST", "/admin/v1/keys/import", fmt.Sprintf(`{"key":%s,"until":%q}`, text, until)).code(t); got != "invalid_request" {
			t.Errorf("until %s: %s", until, got)
		}
	}
	body := fmt.Sprintf(`{"key":%s,"alg":"EdDSA","kid":"mine","until":null,"sign_now":true}`, text)
	if m := w.expect(200, "POST", "/admin/v1/keys/import", body).json(t); m["kid"] != "mine" || m["stage"] != "active" {
		t.Errorf("got %v", m)
	}
	if kid := segment(t, w.token(w.post(w.good())), 0)["kid"]; kid != "mine" {
		t.Errorf("signed by %v", kid)
	}
	if got := w.expect(409, "POST", "/admin/v1/keys/import", body).code(t); got != "already_exists" {
		t.Error(got)
	}
	if m := w.expect(200, "POST", "/admin/v1/keys/revoke", `{"kid":"mine"}`).json(t); m["kid"] != "mine" || m["was"] != "active" {
		t.Errorf("got %v", m)
	}
}

func TestStatusAndAuditThroughTheAdminAPI(t *testing.T) {
	w := newWorld(t)
	a := w.expect(200, "GET", "/admin/v1/status", "")
	m := a.json(t)
	if m["version"] != "test" || m["issuer"] != testIssuer || m["clock_frozen"] != false || m["store_bytes"].(float64) <= 0 || m["now"] == nil || m["issues"] == nil {
		t.Errorf("got %s", a.body)
	}
	for _, setting := range []string{"rotate_every", "propagation", "max_age"} {
		text, _ := m[setting].(string)
		if d, err := time.ParseDuration(text); err != nil || d <= 0 {
			t.Errorf("%s is %q", setting, text)
		}
	}
	w.expect(201, "POST", "/admin/v1/clients", `{"client_id":"audited"}`)
	type records struct {
		Records []struct {
			Seq        uint64
			Action, By string
			Target     string
		}
	}
	read := func(query string) (r records) {
		if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/audit"+query, "").body), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	newest := read("?limit=1").Records
	if len(newest) != 1 || newest[0].Action != "client.add" || newest[0].Target != "audited" || newest[0].By != fmt.Sprintf("uid:%d", os.Getuid()) {
		t.Fatalf("got %+v", newest)
	}
	if after := read(fmt.Sprintf("?after=%d", newest[0].Seq-1)).Records; len(after) != 1 || after[0] != newest[0] {
		t.Errorf("got %+v", after)
	}
	if first := read("?after=0&limit=2").Records; len(first) != 2 || first[0].Seq != 1 {
		t.Errorf("got %+v", first)
	}
	if body := w.expect(200, "GET", "/admin/v1/audit?after=1000000", "").body; body != fmt.Sprintf(`{"records":[],"next":"1000000","more":false,"last":%d}`, newest[0].Seq) {
		t.Errorf("got %s", body)
	}
	w.expect(201, "POST", "/admin/v1/users", `{"username":"alice","user_id":"7"}`)
	w.expect(201, "POST", "/admin/v1/users", `{"username":"7","user_id":"8"}`)
	w.expect(201, "POST", "/admin/v1/users", `{"username":"bob","user_id":"9"}`)
	w.expect(204, "DELETE", "/admin/v1/user?user=bob", "")
	for query, want := range map[string]string{
		"?user=alice":                  "user.add 7",
		"?user=id:7":                   "user.add 7",
		"?user=8":                      "user.add 8",
		"?user=bob":                    "user.add 9 user.remove 9", // who was removed
		"?user=9&action=user.remove":   "user.remove 9",
		"?client=audited":              "client.add audited",
		"?action=user&limit=2":         "user.add 9 user.remove 9",
		"?action=user&limit=2&after=0": "user.add 7 user.add 8",
		"?since=2999-01-31T00:00:00Z":  "",
		"?action=user.add&since=2020-01-31T00:00:00Z&until=2999-01-31T00:00:00%2B01:00&limit=1": "user.add 9",
	} {
		got := ""
		for _, r := range read(query).Records {
			got += r.Action + " " + r.Target + " "
		}
		if strings.TrimSpace(got) != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	for _, query := range []string{
		"?limit=0", "?limit=1001", "?limit=x", "?after=-1", "?after=x", "?before=x", "?after=1&before=2", "?after=",
		"?user=", "?client=", "?action=", "?since=", "?since=2h", "?until=yesterday", "?user=a&user=b", "?user=7",
	} {
		w.expect(400, "GET", "/admin/v1/audit"+query, "")
	}
}

// TestWarningsAreInTheStatusAndNoReasonToBeUnready. Changed is called after each change and after
// nothing else.
func TestWarningsAreInTheStatusAndNoReasonToBeUnready(t *testing.T) {
	warnings := []api.Warning{{Check: "login endpoint", Detail: "the client does not exist"}, {Check: "audit", Detail: "damaged"}}
	var warned atomic.Bool
	var changes atomic.Int64
	w := newWorldAt(t, testIssuer, func(c *Config) {
		c.Warnings = func(context.Context) []api.Warning {
			if warned.Load() {
				return warnings
			}
			return nil
		}
		c.Changed = func(context.Context) { changes.Add(1) }
	})
	read := func() (s api.Status) {
		if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/status", "").body), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := changes.Load()
	if s := read(); s.Warnings == nil || len(s.Warnings) != 0 || !s.Ready {
		t.Errorf("without warnings: %+v", s)
	}
	warned.Store(true)
	if s := read(); !slices.Equal(s.Warnings, warnings) || !s.Ready || len(s.Issues) != 0 {
		t.Errorf("with warnings: %+v", s)
	}
	if a := w.send("GET", "/readyz", ""); a.status != 200 {
		t.Errorf("readyz answers %d", a.status)
	}
	w.expect(409, "POST", "/admin/v1/clients", `{"client_id":"billing"}`)
	if n := changes.Load() - before; n != 0 {
		t.Errorf("Changed was called %d times without a change", n)
	}
	w.expect(201, "POST", "/admin/v1/clients", `{"client_id":"another"}`)
	w.expect(204, "DELETE", "/admin/v1/client?id=another", "")
	if n := changes.Load() - before; n != 2 {
		t.Errorf("Changed was called %d times for two changes", n)
	}
}

func TestTheAdminAPIReadsStrictly(t *testing.T) {
	w := newWorld(t)
	for body, hint := range map[string]string{
		`{"audience":"x","alg":"EdDSA","color":"red"}`: "color", // unknown
		`{"audience":"x","Alg":"EdDSA"}`:               "Alg",   // wrong case
		`{"audience":"x","audience":"y"}`:              "audience",
		`{"audience":"x","\u0061udience":"y"}`:         "audience", // the same name, escaped
		`{"audience":7}`:                               "audience",
		`{"audience":"x","scopes":"read"}`:             "scopes",
		`{"audience":"x"} {}`:                          "more than one",
		`{"audience":"x"}x`:                            "more than one",
		`{"audience":"x",}`:                            "JSON",
		`{"audience":"x"`:                              "JSON",
		``:                                             "JSON object",
		`[]`:                                           "JSON object",
		`null`:                                         "JSON object",
		"{\"audience\":\"\xff\"}":                      "UTF-8",
	} {
		a := w.expect(400, "POST", "/admin/v1/audiences", body)
		if got := fmt.Sprint(a.json(t)["detail"]); a.code(t) != "invalid_request" || !strings.Contains(got, hint) {
			t.Errorf("%s: %s does not mention %s", body, a.body, hint)
		}
	}
	large := w.expect(413, "POST", "/admin/v1/audiences", `{"audience":"`+strings.Repeat("x", admin.MaxBodyBytes)+`"}`)
	if large.header.Get("Connection") != "close" {
		t.Error("the server keeps the connection and reads the rest of a body that is too large")
	}
	for _, path := range []string{"/admin/v1/audience", "/admin/v1/audience?name=", "/admin/v1/audience?name=a&name=b", "/admin/v1/client", "/admin/v1/clients?limit=1001", "/admin/v1/clients?after=%00"} {
		w.expect(400, "GET", path, "")
	}
	w.expect(404, "GET", "/admin/v1/nothing", "")
	w.expect(404, "GET", "/token", "")
	if a := w.expect(405, "POST", "/admin/v1/status", ""); a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", a.header.Get("Allow"))
	}
}

func TestTheAdminAPIIsServedOnlyToPeersOfTheSocket(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/admin/v1/status", "/admin/v1/clients", "/admin/v1/keys"} {
		if a := w.send("GET", path, ""); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	// Over TCP there is no identity of the peer, so the connection is closed.
	server := &http.Server{Handler: w.server.Admin(), ConnContext: admin.ConnContext}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	if response, err := http.Get("http://" + l.Addr().String() + "/admin/v1/status"); err == nil {
		response.Body.Close()
		t.Errorf("answered with %d", response.StatusCode)
	}
}

// TestConnectionsOfOtherUsersAreClosed connects as another user. SO_PEERCRED has the identity of the
// thread that connected.
func TestConnectionsOfOtherUsersAreClosed(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test must run as root in CI")
		}
		t.Skip("only root can become another user")
	}
	w := newWorld(t)
	name := fmt.Sprintf("@keymill-test-%d", os.Getpid()) // abstract, so that no directory restricts it
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: w.server.Admin(), ConnContext: admin.ConnContext}
	go server.Serve(l)
	defer server.Close()
	ask := func(uid int) string {
		conns := make(chan net.Conn)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
			if uid != 0 {
				if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
					t.Error(errno)
				}
			}
			c, err := net.Dial("unix", name)
			if err != nil {
				t.Error(err)
			}
			conns <- c
		}()
		c := <-conns
		if c == nil {
			return ""
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		io.WriteString(c, "GET /admin/v1/status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		var b bytes.Buffer
		io.Copy(&b, c)
		return b.String()
	}
	if got := ask(0); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("root got %q", got)
	}
	if got := ask(65534); got != "" {
		t.Errorf("another user got %q", got)
	}
}
