package endpoint

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"keymill/issuer"
	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/refusal"
)

// web adds the public client "web" of audience orders, through which users log in.
func (w *world) web() {
	w.t.Helper()
	w.expect(201, "POST", "/admin/v1/clients", `{"client_id":"web","public":true,"grants":["refresh_token"],"audiences":["orders"],"scopes":["read"]}`)
}

// sessionOf starts a session of a user as a login does after the password.
func (w *world) sessionOf(user string) issuer.Grant {
	w.t.Helper()
	g, err := w.issuer.StartSession(w.t.Context(), issuer.SessionRequest{
		User: user, Client: "web", Endpoint: issuer.LoginBrowser, From: netip.MustParseAddr("192.0.2.1"),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *world) redeem(token refusal.Secret) answer {
	w.t.Helper()
	return w.post("grant_type=refresh_token&client_id=web&refresh_token=" + string(token))
}

func TestAUsersLifeThroughTheAdminAPI(t *testing.T) {
	w := newWorld(t)
	w.web()
	a := w.expect(201, "POST", "/admin/v1/users",
		`{"username":"alice","user_id":"7","password":"correct horse battery","claims":{"role":"admin","teams":["a","b"]},"disabled":false}`)
	m := a.json(t)
	if m["user_id"] != "7" || m["username"] != "alice" || m["disabled"] != false || m["password_changed"] == nil || m["password_scheme"] == "none" {
		t.Errorf("got %s", a.body)
	}
	if strings.Contains(a.body+w.log.String(), "horse") {
		t.Error("the password is shown")
	}
	for _, path := range []string{"/admin/v1/user?user=alice", "/admin/v1/user?user=7"} {
		if got := w.expect(200, "GET", path, ""); !strings.HasPrefix(got.body, strings.TrimSuffix(a.body, "}")) {
			t.Errorf("%s: got %s", path, got.body)
		}
	}
	if m := w.expect(201, "POST", "/admin/v1/users", `{"username":"bob"}`).json(t); m["password_scheme"] != "none" || m["user_id"] == "" {
		t.Errorf("got %v", m)
	}
	first := w.sessionOf("7")
	m = w.expect(200, "PATCH", "/admin/v1/user?user=alice", `{"claims":{"role":"boss"}}`).json(t)
	if fmt.Sprint(m["claims"]) != "map[role:boss]" || m["disabled"] != false {
		t.Errorf("got %v", m)
	}
	second := w.redeem(first.Refresh)
	if claims := w.verify(w.token(second), "orders"); !strings.Contains(string(claims.Raw), `"role":"boss"`) {
		t.Errorf("got %s", claims.Raw)
	}
	for n, ending := range [][3]string{
		{"POST", "/admin/v1/user/password?user=alice", `{"password":"another horse battery"}`},
		{"POST", "/admin/v1/user/logout?user=7", ""},
		{"PATCH", "/admin/v1/user?user=alice", `{"disabled":true}`},
		{"DELETE", "/admin/v1/user?user=alice", ""},
	} {
		session := w.sessionOf("7")
		if n == 3 { // enabled again: sessions from before stay ended
			w.expect(200, "PATCH", "/admin/v1/user?user=alice", `{"disabled":false}`)
			session = w.sessionOf("7")
		}
		if status := w.askAdmin(ending[0], ending[1], ending[2]).status; status != 200 && status != 204 {
			t.Fatalf("%v: %d", ending, status)
		}
		refusedToken(t, fmt.Sprint(ending), w.redeem(session.Refresh), 400, "invalid_grant")
		if n == 2 {
			w.expect(200, "PATCH", "/admin/v1/user?user=alice", `{"disabled":false}`)
			refusedToken(t, "enabled again", w.redeem(session.Refresh), 400, "invalid_grant")
		}
	}
	w.expect(404, "GET", "/admin/v1/user?user=alice", "")
	w.expect(201, "POST", "/admin/v1/users", `{"username":"alice","user_id":"7"}`)
	if strings.Contains(w.log.String(), "horse") {
		t.Error("a password is logged")
	}
}

func TestUsersAreListedPageByPage(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.expect(201, "POST", "/admin/v1/users", fmt.Sprintf(`{"username":"user %d","user_id":"id-%d"}`, n, n))
	}
	var ids []string
	for after := ""; ; {
		var page []api.User
		if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/users?limit=2&after="+after, "").body), &page); err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, u := range page {
			after = u.ID
			ids = append(ids, u.ID)
		}
	}
	if got := strings.Join(ids, " "); got != "id-0 id-1 id-2 id-3 id-4" {
		t.Errorf("got %s", got)
	}
}

func TestTheAdminAPIReadsUsersStrictly(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		`{"username":"x","claims":{"a":1,"a":2}}`,
		`{"username":"x","claims":{"a":{"b":[{"c":1,"\u0063":2}]}}}`, // the same name, escaped, deep inside
		`{"username":"x","claims":[]}`,
		`{"username":"x","claims":"role"}`,
		`{"username":"x","claims":{"sub":"root"}}`,
		`{"username":"x","password":7}`,
		`{"username":"x","email":"x@example.com"}`,
		`{"username":""}`,
		`{}`,
	} {
		if a := w.askAdmin("POST", "/admin/v1/users", body); a.status != 400 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	w.expect(201, "POST", "/admin/v1/users", `{"username":"x","claims":{"a":{"b":1},"c":[{"b":1},{"b":2}],"d":null},"password":null}`)
	if got := w.expect(409, "POST", "/admin/v1/users", `{"username":"x"}`).code(t); got != "already_exists" {
		t.Error(got)
	}
	for _, path := range []string{"/admin/v1/user", "/admin/v1/user?user=", "/admin/v1/user?user=a&user=b", "/admin/v1/users?limit=0"} {
		w.expect(400, "GET", path, "")
	}
	w.expect(404, "PATCH", "/admin/v1/user?user=unknown", `{"disabled":true}`)
	w.expect(400, "POST", "/admin/v1/user/password?user=x", `{}`)
	w.expect(400, "PATCH", "/admin/v1/user?user=x", `{"claims":{"a":1,"a":2}}`)
}

// TestAnImportReportsAResultForEachUser and continues after one that is refused.
func TestAnImportReportsAResultForEachUser(t *testing.T) {
	w := newWorld(t)
	w.expect(201, "POST", "/admin/v1/users", `{"username":"bob","user_id":"2"}`)
	const hash = "pbkdf2_sha256$1000$salt$kqUq9zBmNRNTtRwQXnqOHBcDoBnJJhAhfA0jjbRC5Hc="
	entries := []string{
		`{"user_id":"1","username":"alice","hash":"` + hash + `","claims":{"email":"a@example.com"}}`,
		`{"user_id":"2","username":"bob"}`,
		`{"user_id":"3","username":"bob"}`,
		`{"user_id":"2","username":"carol"}`,
		`{"user_id":"4","username":"dave","claims":{"sub":"root"}}`,
		`{"user_id":"5","username":"eve","admin":true}`,
		`{"user_id":"6","username":"frank","claims":{"a":{"b":1,"b":2}}}`,
		`{"user_id":"7","username":"grace","disabled":true}`,
		`{"user_id":"billing","username":"heidi"}`, // a client's id
		`7`,
	}
	var got struct{ Results []api.ImportResult }
	body := w.expect(200, "POST", "/admin/v1/users/import", `{"users":[`+strings.Join(entries, ",")+`]}`).body
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{"", "already_exists", "conflict", "conflict", "invalid_request", "invalid_request", "invalid_request", "", "conflict", "invalid_request"}
	if len(got.Results) != len(want) {
		t.Fatalf("got %s", body)
	}
	for n, r := range got.Results {
		if r.Code != want[n] || (r.Code == "") != (r.Description == "") {
			t.Errorf("%s: got %+v, want %q", entries[n], r, want[n])
		}
	}
	alice := w.expect(200, "GET", "/admin/v1/user?user=1", "").json(t)
	if alice["username"] != "alice" || fmt.Sprint(alice["claims"]) != "map[email:a@example.com]" || alice["password_scheme"] == "none" {
		t.Errorf("got %v", alice)
	}
	if m := w.expect(200, "GET", "/admin/v1/user?user=grace", "").json(t); m["disabled"] != true || m["password_scheme"] != "none" {
		t.Errorf("got %v", m)
	}
	many := strings.Repeat(`{"username":"x"},`, admin.MaxImported) + `{"username":"x"}`
	for _, body := range []string{`{"users":[]}`, `{}`, `{"users":{}}`, `{"users":[` + many + `]}`} {
		w.expect(400, "POST", "/admin/v1/users/import", body)
	}
}

// TestAnImportSaysWhoHasNoPassword, also if it only checks.
func TestAnImportSaysWhoHasNoPassword(t *testing.T) {
	w := newWorld(t)
	const weak = `"hash":"md5$salt$cf1f9350d5d0958050c8f199e2878b44"`
	users := `"users":[{"user_id":"1","username":"alice",` + weak + `,"without_password":true},
		{"user_id":"2","username":"bob",` + weak + `,"without_password":false}, {"user_id":"3","username":"carol",` + weak + `},
		{"user_id":"4","username":"dave","hash":"` + string(cheapHash) + `","without_password":true}]`
	for _, mode := range []string{`"dry_run":true,`, ``} {
		var got struct{ Results []api.ImportResult }
		body := w.expect(200, "POST", "/admin/v1/users/import", `{`+mode+users+`}`).body
		if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Results) != 4 {
			t.Fatalf("%v: %s", err, body)
		}
		for n, want := range []string{"none", "", "", "pbkdf2_sha256"} {
			r := got.Results[n]
			if r.Scheme != want || (r.Code == "") != (want != "") || want == "" && !strings.Contains(r.Description, "md5") {
				t.Errorf("%q: user %d: %+v", mode, n+1, r)
			}
		}
	}
}

// TestAParallelImportAddsEachUserOnce when sixteen are added at a time.
func TestAParallelImportAddsEachUserOnce(t *testing.T) {
	w := newWorld(t)
	var entries []string
	for n := range admin.MaxImported {
		entries = append(entries, fmt.Sprintf(`{"user_id":"%d","username":"user %d"}`, n, n), fmt.Sprintf(`{"user_id":"%d","username":"user %d"}`, n, n))
	}
	made := 0
	for _, half := range [][]string{entries[:admin.MaxImported], entries[admin.MaxImported:]} {
		body := w.expect(200, "POST", "/admin/v1/users/import", `{"users":[`+strings.Join(half, ",")+`]}`).body
		made += strings.Count(body, `"error":""`)
		if strings.Count(body, `"error":"already_exists"`) != admin.MaxImported/2 {
			t.Errorf("got %s", body)
		}
	}
	if made != admin.MaxImported {
		t.Errorf("%d users were added", made)
	}
}
