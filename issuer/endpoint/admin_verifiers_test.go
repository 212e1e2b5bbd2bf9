package endpoint

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/keyset"
	"keymill/issuer/verifiers"
)

func TestAVerifiersLifeThroughTheAdminAPI(t *testing.T) {
	w := newWorldAt(t, testIssuer, withVerifiers(t))
	if body := w.expect(200, "GET", "/admin/v1/verifiers", "").body; body != "[]" {
		t.Errorf("before the first: %s", body)
	}
	if list := w.expect(200, "GET", "/admin/v1/keys", "").body; strings.Contains(list, `"reach":{`) || !strings.Contains(list, `"reach":null`) {
		t.Errorf("no verifier is pinned, and the keys are %s", list)
	}
	created := w.expect(201, "POST", "/admin/v1/verifiers", `{"name":"orders-api"}`)
	m := created.json(t)
	credential, _ := m["credential"].(string)
	if !strings.HasPrefix(credential, "orders-api.") || m["url"] != testIssuer+keyset.Path+"?verifier="+credential || m["last"] != nil || m["served"] == nil {
		t.Errorf("created %s", created.body)
	}
	if one := w.expect(200, "GET", "/admin/v1/verifier?name=orders-api", ""); one.body != created.body {
		t.Errorf("got %s, created %s", one.body, created.body)
	}
	if got := w.expect(409, "POST", "/admin/v1/verifiers", `{"name":"orders-api"}`).code(t); got != "already_exists" {
		t.Error(got)
	}
	w.expect(201, "POST", "/admin/v1/verifiers", `{"name":"shop"}`)
	for path, want := range map[string]string{"?limit=1": "orders-api", "?after=orders-api": "shop"} {
		var list []api.Verifier
		body := w.expect(200, "GET", "/admin/v1/verifiers"+path, "").body
		if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 1 || list[0].Name != want {
			t.Errorf("%s: %s", path, body)
		}
	}
	w.send("GET", keyset.Path, "", "User-Agent: <b>\"quoted\"")
	var seen []api.ObservedVerifier
	body := ""
	for len(seen) == 0 { // a visit counts once the answer has been written, which can be after it was read
		body = w.expect(200, "GET", "/admin/v1/verifiers/observed", "").body
		if err := json.Unmarshal([]byte(body), &seen); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 1 || seen[0].Agent != `<b>"quoted"` || strings.Contains(body, "<b>") {
		t.Errorf("observed: %s", body)
	}
	w.expect(204, "DELETE", "/admin/v1/verifier?name=orders-api", "")
	for _, method := range []string{"GET", "DELETE"} {
		if got := w.expect(404, method, "/admin/v1/verifier?name=orders-api", "").code(t); got != "not_found" {
			t.Error(got)
		}
	}
	w.expect(400, "GET", "/admin/v1/verifier", "")
	w.expect(400, "GET", "/admin/v1/verifiers?observed=true", "")
}

// TestABadNameOfAVerifierHasOneClearAnswer, which repeats nothing that a terminal or a page interprets, and
// nothing that the log shows.
func TestABadNameOfAVerifierHasOneClearAnswer(t *testing.T) {
	w := newWorldAt(t, testIssuer, withVerifiers(t))
	for what, name := range map[string]string{
		"HTML": "<script>alert(1)</script>", "ANSI": "\x1b[2Jname", "bidi": "\u202eipa-sredro", "long": strings.Repeat("a", 200), "64": strings.Repeat("a", 64),
		"empty": "", "upper": "Orders", "dots": "orders.api", "credential": "orders.abcdefghijklmnop", "dash first": "-orders", "underscore first": "_orders",
		"space": "orders api", "newline": "orders\n", "null": "orders\x00", "umlaut": "bestellungen-ä", "quote": `or"ders`, "path": "../orders", "homoglyph": "оrders",
	} {
		body, _ := json.Marshal(api.NewVerifier{Name: name})
		a := w.expect(400, "POST", "/admin/v1/verifiers", string(body))
		text, _ := a.json(t)["detail"].(string)
		if a.code(t) != "invalid_request" || !strings.Contains(text, "1 to 63 of a-z, 0-9, '-' and '_'") || strings.ContainsAny(text, "\x1b\u202e\n\x00\"") || len(text) > 400 {
			t.Errorf("%s: %s", what, a.body)
		}
	}
	for _, body := range []string{`{}`, `{"name":null}`, `{"name":["a"]}`, `{"name":"a","tag":"b"}`, `{"name":"a","name":"b"}`} {
		if got := w.expect(400, "POST", "/admin/v1/verifiers", body).code(t); got != "invalid_request" {
			t.Errorf("%s: %s", body, got)
		}
	}
	if log := w.log.String(); strings.Contains(log, "script") || strings.Contains(log, "sredro") {
		t.Errorf("the log is %s", log)
	}
	for _, name := range []string{"a", "0", strings.Repeat("a", 63), "a-b_c"} {
		w.expect(201, "POST", "/admin/v1/verifiers", fmt.Sprintf(`{"name":%q}`, name))
	}
}

// TestTheLimitOfPinnedVerifiersIsAClearRefusal.
func TestTheLimitOfPinnedVerifiersIsAClearRefusal(t *testing.T) {
	w := newWorldAt(t, testIssuer, withVerifiers(t))
	for n := range verifiers.MaxPinned {
		w.pin(fmt.Sprintf("v%d", n))
	}
	a := w.expect(400, "POST", "/admin/v1/verifiers", `{"name":"one-more"}`)
	if text := fmt.Sprint(a.json(t)["detail"]); !strings.Contains(text, "200") || !strings.Contains(text, "remove one") {
		t.Errorf("got %s", a.body)
	}
	w.expect(204, "DELETE", "/admin/v1/verifier?name=v7", "")
	w.expect(201, "POST", "/admin/v1/verifiers", `{"name":"one-more"}`)
}

// adminInBubble lets askAdmin call the handlers: a socket would stop the clock.
func (w *world) adminInBubble(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := admin.ConnContext(t.Context(), c)
	w.admin = &http.Client{Transport: directTransport{http.HandlerFunc(func(a http.ResponseWriter, r *http.Request) {
		w.server.Admin().ServeHTTP(a, r.WithContext(ctx))
	}), "127.0.0.1"}}
}

// TestARotationWaitsForPinnedVerifiersAndARevocationNamesThem: two services that come every two hours, one of which is
// late once.
func TestARotationWaitsForPinnedVerifiersAndARevocationNamesThem(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.adminInBubble(t)
		fetch := func(credential string) { w.send("GET", keyset.Path, "", "Keymill-Verifier: "+credential) }
		rotate := func(status int) answer {
			t.Helper()
			w.mint(t)
			return w.expect(status, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA"}`)
		}
		orders, late := w.pin("orders-api"), w.pin("late")
		time.Sleep(90 * time.Minute)
		if r := w.spare().Reach; r == nil || r.Pinned != 2 || r.Served != 0 || len(r.Behind) != 2 || r.Behind[0].Name != "late" || r.Behind[0].Last != nil || r.Behind[0].Waited {
			t.Errorf("before the first visit: %+v", r)
		}
		for range 5 {
			fetch(orders)
			fetch(late)
			time.Sleep(2 * time.Hour)
		}
		rotate(200)
		time.Sleep(time.Hour + time.Second)
		fetch(orders)
		spare := w.spare()
		if r := spare.Reach; r.Served != 1 || len(r.Behind) != 1 || r.Behind[0].Name != "late" || r.Behind[0].Last == nil || !r.Behind[0].Waited {
			t.Errorf("late is behind: %+v", r)
		}
		a := rotate(409)
		if text := fmt.Sprint(a.json(t)["detail"]); a.code(t) != "not_served" || !strings.Contains(text, "late") || strings.Contains(text, "orders-api") {
			t.Errorf("got %s", a.body)
		}
		if got := w.spare().KID; got != spare.KID {
			t.Errorf("a refusal made %s the spare, before it was %s", got, spare.KID)
		}
		fetch(late)
		rotate(200)
		time.Sleep(time.Hour + time.Second)
		rotate(409)
		// A flush waits for no one: the reserve signs, and the spare that late does not have stays next.
		spare, reserve := w.spare(), w.staged("reserve")
		m := w.expect(200, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA","flush":true}`).json(t)
		if m["kid"] != reserve.KID || m["spare"] != spare.KID || m["unknown_until"] == nil || !strings.Contains(fmt.Sprint(m["note"]), "max-age is over (5m0s)") {
			t.Errorf("a flush: %v, want that %s signs and %s is next", m, reserve.KID, spare.KID)
		}
		w.mint(t)
		reserve = w.staged("reserve")
		m = w.expect(200, "POST", "/admin/v1/keys/revoke", fmt.Sprintf(`{"kid":%q,"flush":true}`, m["kid"])).json(t)
		if m["successor"] != reserve.KID || m["was"] != "active" || m["note"] == "" || w.spare().KID != spare.KID {
			t.Errorf("a revocation with a flush: %v, want that %s signs and %s is next", m, reserve.KID, spare.KID)
		}
		w.mint(t)
		m = w.expect(200, "POST", "/admin/v1/keys/rotate", `{"alg":"EdDSA","force":true}`).json(t)
		fetch(orders)
		fetch(late)
		rawKeys(t, w) // a caller without a name
		var gone api.Revocation
		body := w.expect(200, "POST", "/admin/v1/keys/revoke", fmt.Sprintf(`{"kid":%q}`, m["kid"])).body
		if err := json.Unmarshal([]byte(body), &gone); err != nil || len(gone.Holders) != 2 || gone.Holders[0].Name != "late" || gone.Observed != 1 {
			t.Errorf("revoked: %s", body)
		}
		for range 10 {
			w.mint(t) // the spare first
		}
		body = w.expect(200, "POST", "/admin/v1/keys/revoke", fmt.Sprintf(`{"kid":%q}`, w.staged("reserve").KID)).body
		if err := json.Unmarshal([]byte(body), &gone); err != nil || len(gone.Holders) != 0 || gone.Observed != 0 || !strings.Contains(body, `"holders":[]`) {
			t.Errorf("a key that was never published: %s", body)
		}
	}, withVerifiers(t))
}

// mint makes the next reserve. The loop runs for a second only: its clock records of many hours take longer than the test.
func (w *world) mint(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	w.keys.Run(ctx)
}

// staged returns a key in that stage, as the admin API lists it. Only published keys have a reach.
func (w *world) staged(stage string) (found api.Key) {
	w.t.Helper()
	var keys []api.Key
	if err := json.Unmarshal([]byte(w.expect(200, "GET", "/admin/v1/keys", "").body), &keys); err != nil {
		w.t.Fatal(err)
	}
	for _, k := range keys {
		if (k.Reach == nil) != (k.Stage == "reserve") {
			w.t.Errorf("a key that is %s has reach %v", k.Stage, k.Reach)
		}
		if k.Stage == stage {
			found = k
		}
	}
	return found
}

func (w *world) spare() api.Key { return w.staged("spare") }
