package endpoint

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// askIf sends a request to the admin socket with headers "Name: value".
func (w *world) askIf(method, path, body string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://admin"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return do(w.t, w.admin, r)
}

// etag returns the entity tag of an entry.
func (w *world) etag(path string) string {
	w.t.Helper()
	tag := w.expect(200, "GET", path, "").header.Get("ETag")
	if len(tag) != 24 || tag[0] != '"' || tag[23] != '"' {
		w.t.Fatalf("%s has the tag %q", path, tag)
	}
	return tag
}

func (w *world) refusedIf(code, method, path, body string, headers ...string) {
	w.t.Helper()
	status := map[string]int{"invalid_request": 400, "not_found": 404, "precondition_failed": 412}[code]
	if a := w.askIf(method, path, body, headers...); a.status != status || a.code(w.t) != code {
		w.t.Errorf("%s %s %q: %d %s, want %d %s", method, path, headers, a.status, a.body, status, code)
	}
}

// TestAChangeCanNeedTheETagThatWasRead: of each kind of entry.
func TestAChangeCanNeedTheETagThatWasRead(t *testing.T) {
	w := newWorld(t)
	w.expect(201, "POST", "/admin/v1/users", `{"username":"alice","user_id":"7"}`)
	for _, tt := range []struct{ path, change, other string }{
		{"/admin/v1/audience?name=shop", `{"ttl":"5m"}`, `{"ttl":"6m"}`},
		{"/admin/v1/client?id=billing", `{"scopes":["read"]}`, `{"disabled":true}`},
		{"/admin/v1/user?user=id:7", `{"disabled":true}`, `{"claims":{"a":1}}`},
	} {
		first := w.etag(tt.path)
		a := w.askIf("PATCH", tt.path, tt.change, "If-Match: "+first)
		second := a.header.Get("ETag")
		if a.status != 200 || second == "" || second == first || w.etag(tt.path) != second {
			t.Fatalf("%s: %d %s, tag %s after %s", tt.path, a.status, a.body, second, first)
		}
		if a := w.askIf("PATCH", tt.path, tt.change, "If-Match: "+second); a.status != 200 || a.header.Get("ETag") != second {
			t.Errorf("%s: the same change again: %d, tag %s", tt.path, a.status, a.header.Get("ETag"))
		}
		for _, stale := range []string{"If-Match: " + first, "If-Match: W/" + second, `If-Match: "x", "y"`, "If-None-Match: *", "If-None-Match: " + second, "If-None-Match: W/" + second} {
			w.refusedIf("precondition_failed", "PATCH", tt.path, tt.other, stale)
			w.refusedIf("precondition_failed", "PATCH", tt.path, tt.change, stale) // although it changes nothing
		}
		w.refusedIf("invalid_request", "PATCH", tt.path, tt.other, "If-Match: "+strings.Trim(second, `"`))
		w.refusedIf("invalid_request", "PATCH", tt.path, `{"unknown":1}`, "If-Match: "+first) // RFC 9110, section 13.2.1
		w.refusedIf("not_found", "PATCH", strings.NewReplacer("shop", "x", "billing", "x", "id:7", "x").Replace(tt.path), tt.other, "If-Match: *")
		if w.etag(tt.path) != second {
			t.Errorf("%s: a refused change has changed it", tt.path)
		}
		if a := w.askIf("PATCH", tt.path, tt.other, "If-Match: "+first+", "+second); a.status != 200 {
			t.Errorf("%s: with a list: %d %s", tt.path, a.status, a.body)
		}
		if a := w.askIf("PATCH", tt.path, tt.change, "If-Match: *"); a.status != 200 {
			t.Errorf("%s: with *: %d %s", tt.path, a.status, a.body)
		}
		third := w.etag(tt.path)
		w.refusedIf("precondition_failed", "DELETE", tt.path, "", "If-Match: "+first)
		if a := w.askIf("DELETE", tt.path, "", "If-Match: "+third); a.status != 204 {
			t.Errorf("%s: remove: %d %s", tt.path, a.status, a.body)
		}
	}
	w.refusedIf("invalid_request", "POST", "/admin/v1/clients", `{"client_id":"new"}`, "If-None-Match: *")
	w.expect(404, "GET", "/admin/v1/client?id=new", "")
}

// TestAnETagIsOfWhatAdministratorsDecide: a login does not change it, and a new secret does.
func TestAnETagIsOfWhatAdministratorsDecide(t *testing.T) {
	w := newWorld(t).withAlice()
	user, client := w.etag("/admin/v1/user?user=alice"), w.etag("/admin/v1/client?id=billing")
	w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword)))
	w.token(w.post(w.good()))
	if w.etag("/admin/v1/user?user=alice") != user || w.etag("/admin/v1/client?id=billing") != client {
		t.Error("a login or a token has changed the tag")
	}
	w.expect(200, "POST", "/admin/v1/client/secret?id=billing", `{}`)
	if w.etag("/admin/v1/client?id=billing") == client {
		t.Error("a new secret has not changed the tag")
	}
	w.expect(204, "DELETE", "/admin/v1/client?id=billing", "")
	w.expect(201, "POST", "/admin/v1/clients", `{"client_id":"billing","grants":["client_credentials"],"audiences":["orders"],"scopes":["read","write"]}`)
	if w.etag("/admin/v1/client?id=billing") == client {
		t.Error("another client has the same tag")
	}
}

// TestOfManyChangesWithOneETagOneWins: all others get 412, and the winner's change stays.
func TestOfManyChangesWithOneETagOneWins(t *testing.T) {
	w := newWorld(t)
	tag := w.etag("/admin/v1/client?id=billing")
	const changes = 50
	answers := make([]answer, changes)
	var all sync.WaitGroup
	for n := range changes {
		all.Go(func() {
			answers[n] = w.askIf("PATCH", "/admin/v1/client?id=billing", fmt.Sprintf(`{"idle":"%dh"}`, n+1), "If-Match: "+tag)
		})
	}
	all.Wait()
	won := ""
	for n, a := range answers {
		switch {
		case a.status == 200 && won == "":
			won = fmt.Sprintf("%dh0m0s", n+1)
		case a.status != 412 || a.code(t) != "precondition_failed":
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if got := w.expect(200, "GET", "/admin/v1/client?id=billing", "").json(t)["idle"]; won == "" || got != won {
		t.Errorf("idle is %v, and the winner set %q", got, won)
	}
}
