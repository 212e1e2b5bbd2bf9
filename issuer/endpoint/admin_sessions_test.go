package endpoint

import (
	"encoding/json"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

func (w *world) sessions(query string) []api.Session {
	w.t.Helper()
	var page api.SessionPage
	if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/sessions?"+query, "").body), &page); err != nil {
		w.t.Fatal(err)
	}
	return page.Sessions
}

func (w *world) why(token refusal.Secret) (e api.Explanation) {
	w.t.Helper()
	body, err := json.Marshal(map[string]string{"token": string(token)})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(w.expect(200, "POST", "/admin/v1/session/why", string(body)).body), &e); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func TestSessionsAreListedEndedAndExplained(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.expect(201, "POST", "/admin/v1/users", `{"username":"alice","user_id":"7"}`)
	if body := w.expect(200, "GET", "/admin/v1/sessions?user=alice", "").body; body != `{"sessions":[],"more":false,"next":""}` {
		t.Errorf("got %s", body)
	}
	w.expect(404, "GET", "/admin/v1/sessions?user=unknown", "")
	one, two := w.sessionOf("7"), w.sessionOf("7")
	list := w.sessions("user=alice&client=web")
	if len(list) != 2 || list[0].User != "7" || list[0].State != "live" || list[0].Endpoint != "browser" {
		t.Fatalf("got %+v", list)
	}
	if other := w.sessions("user=7&client=billing"); len(other) != 0 {
		t.Errorf("got %+v", other)
	}
	if all := w.sessions(""); len(all) != 2 || all[0].ID != list[0].ID || all[1].ID != list[1].ID {
		t.Errorf("got %+v", all)
	}
	if next := w.sessions("limit=1&after=" + list[0].ID); len(next) != 1 || next[0].ID != list[1].ID {
		t.Errorf("got %+v", next)
	}
	for _, query := range []string{"limit=0", "limit=1001", "after=x", "user=", "client=", "after=", "user=a&user=b"} {
		w.expect(400, "GET", "/admin/v1/sessions?"+query, "")
	}
	w.expect(404, "GET", "/admin/v1/sessions?client=unknown", "")
	for token, verdict := range map[refusal.Secret]string{one.Refresh: "current", "kmr_x": "malformed", refusal.Secret(one.AccessToken): "malformed"} {
		if e := w.why(token); e.State != verdict || e.Why == "" || e.Accepted != (verdict == "current") {
			t.Errorf("got %+v, want %s", e, verdict)
		}
	}
	session := w.why(one.Refresh).Session.ID
	var ended api.Session
	if err := json.Unmarshal([]byte(w.expect(200, "DELETE", "/admin/v1/session?id="+session, "").body), &ended); err != nil || ended.State != "revoked" || ended.ID != session {
		t.Errorf("%v: got %+v", err, ended)
	}
	refusedToken(t, "revoked", w.redeem(one.Refresh), 400, "invalid_grant")
	if e := w.why(one.Refresh); e.State != "revoked" || e.Session.ID != session {
		t.Errorf("got %+v", e)
	}
	w.token(w.redeem(two.Refresh)) // untouched
	w.expect(404, "DELETE", "/admin/v1/session?id=00000000000000000000000000", "")
	w.expect(400, "DELETE", "/admin/v1/session", "")
	if strings.Contains(w.log.String(), "kmr_") {
		t.Error("a token is logged")
	}
}

// TestNoSessionEndsWhenASecretIsRotated: the answer says when the new one is used, and another one has to wait.
func TestNoSessionEndsWhenASecretIsRotated(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.expect(201, "POST", "/admin/v1/users", `{"username":"alice","user_id":"7"}`)
	before := w.sessionOf("7")
	got := w.expect(200, "POST", "/admin/v1/sessions/rotate-secret", "").json(t)
	if got["number"] != 2.0 || got["used_from"] == nil {
		t.Errorf("the answer is %v", got)
	}
	w.expect(409, "POST", "/admin/v1/sessions/rotate-secret", "")
	w.token(w.redeem(before.Refresh))
}

// TestSessionsOfAClientOrOfAllAreEndedTogether: the request must say which.
func TestSessionsOfAClientOrOfAllAreEndedTogether(t *testing.T) {
	w := newWorld(t)
	w.web()
	w.expect(201, "POST", "/admin/v1/users", `{"username":"alice","user_id":"7"}`)
	before := w.sessionOf("7")
	for _, body := range []string{"", "{}", `{"all":false}`, `{"client":""}`, `{"client":"web","all":true}`, `{"all":"true"}`, `{"user":"7"}`} {
		w.expect(400, "POST", "/admin/v1/sessions/revoke", body)
	}
	w.expect(404, "POST", "/admin/v1/sessions/revoke", `{"client":"unknown"}`)
	w.expect(204, "POST", "/admin/v1/sessions/revoke", `{"client":"billing"}`)
	before.Refresh = refusal.Secret(w.redeem(before.Refresh).json(t)["refresh_token"].(string))
	for _, body := range []string{`{"client":"web"}`, `{"all":true}`} {
		session := w.sessionOf("7")
		w.expect(204, "POST", "/admin/v1/sessions/revoke", body)
		refusedToken(t, body, w.redeem(session.Refresh), 400, "invalid_grant")
		refusedToken(t, body, w.redeem(before.Refresh), 400, "invalid_grant")
	}
	w.token(w.redeem(w.sessionOf("7").Refresh))
	for _, body := range []string{"", "{}", `{"token":""}`, `{"token":7}`} {
		w.expect(400, "POST", "/admin/v1/session/why", body)
	}
}

// TestAClientsLifetimesReplaceTheDefaults checks that a grace of 0s is a value and "" is the default.
func TestAClientsLifetimesReplaceTheDefaults(t *testing.T) {
	w := newWorld(t)
	lifetimes := func(a answer) string {
		m := a.json(t)
		return m["grace"].(string) + " " + m["idle"].(string) + " " + m["absolute"].(string)
	}
	a := w.expect(201, "POST", "/admin/v1/clients",
		`{"client_id":"web","public":true,"grants":["refresh_token"],"audiences":["orders"],"grace":"0s","idle":"12h"}`)
	if got := lifetimes(a); got != "0s 12h0m0s " {
		t.Errorf("got %s", a.body)
	}
	a = w.expect(201, "POST", "/admin/v1/clients", `{"client_id":"api","introspect":["orders"]}`)
	if !strings.Contains(a.body, `"introspect":["orders"]`) || lifetimes(a) != "  " {
		t.Errorf("got %s", a.body)
	}
	if a := w.expect(200, "PATCH", "/admin/v1/client?id=api", `{"introspect":[]}`); !strings.Contains(a.body, `"introspect":[]`) {
		t.Errorf("got %s", a.body)
	}
	for _, step := range [][2]string{
		{`{"grace":"10s","absolute":"48h"}`, "10s 12h0m0s 48h0m0s"},
		{`{"grace":"","idle":""}`, "  48h0m0s"},
		{`{"scopes":["read"]}`, "  48h0m0s"},
		{`{"grace":"0s"}`, "0s  48h0m0s"},
	} {
		if got := lifetimes(w.expect(200, "PATCH", "/admin/v1/client?id=web", step[0])); got != step[1] {
			t.Errorf("%s: got %q, want %q", step[0], got, step[1])
		}
	}
	for _, body := range []string{`{"grace":"11m"}`, `{"grace":"-1s"}`, `{"idle":"0s"}`, `{"idle":"soon"}`, `{"introspect":["nowhere"]}`, `{"grace":30}`} {
		w.expect(400, "PATCH", "/admin/v1/client?id=web", body)
	}
}
