package endpoint

import (
	"net/http"
	"strings"
	"testing"
)

// typesWithoutContent are the headers about content that libraries send without content.
var typesWithoutContent = map[string][]string{
	"fetch with body ''":       {"Content-Type: text/plain;charset=UTF-8"},
	"axios with data ''":       {formHeader},
	"sendBeacon with FormData": {"Content-Type: multipart/form-data; boundary=B"},
	"sendBeacon with a Blob":   {"Content-Type: application/octet-stream"},
	"a JSON client":            {"Content-Type: application/json; charset=utf-8"},
	"none":                     nil,
	"an empty type":            {"Content-Type: "},
	"a malformed type":         {"Content-Type: ;"},
	"two types":                {jsonHeader, formHeader},
	"a coding":                 {"Content-Type: text/plain", "Content-Encoding: gzip"},
}

// TestARequestWithoutContentHasNoMediaType also sends the empty body in chunks, where its
// length is not known before it is read.
func TestARequestWithoutContentHasNoMediaType(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := "Cookie: " + w.cookieOf(w.loginByCookie())
	for what, headers := range typesWithoutContent {
		a := w.send("POST", "/session/refresh", "", append(headers, cookie)...)
		cookie = "Cookie: " + w.cookieOf(a)
		if a := w.send("POST", "/session/logout", "", headers...); a.status != 204 {
			t.Errorf("logout, %s: %d %s", what, a.status, a.body)
		}
		a = w.sendChunks("/session/refresh", append(headers, cookie)...)
		cookie = "Cookie: " + w.cookieOf(a)
		if a := w.sendChunks("/session/logout", headers...); a.status != 204 {
			t.Errorf("logout in chunks, %s: %d %s", what, a.status, a.body)
		}
		a = w.send("POST", "/session/login", "", headers...)
		if a.status != 400 || !strings.Contains(a.body, "members 'username' and 'password' are required") {
			t.Errorf("login, %s: %d %s", what, a.status, a.body)
		}
		for _, path := range []string{"/api/token/", "/api/token/refresh/", "/api/token/verify/", "/api/token/blacklist/"} {
			if a := w.send("POST", path, "", headers...); a.status != 400 || !strings.Contains(a.body, "This field is required.") {
				t.Errorf("%s, %s: %d %s", path, what, a.status, a.body)
			}
		}
	}
}

// TestContentStillNeedsItsMediaType: one byte is content.
func TestContentStillNeedsItsMediaType(t *testing.T) {
	w := newWorld(t).withAlice()
	for what, headers := range typesWithoutContent {
		for _, path := range []string{"/session/login", "/session/refresh", "/session/logout"} {
			want := 415
			if what == "a JSON client" {
				want = 400
			}
			if a := w.send("POST", path, " ", headers...); a.status != want || a.header.Get("Set-Cookie") != "" {
				t.Errorf("%s, %s: %d %s, want %d", path, what, a.status, a.body, want)
			}
		}
	}
}

// sendChunks sends an empty body with Transfer-Encoding: chunked.
func (w *world) sendChunks(path string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest("POST", w.base+path, chunks{strings.NewReader("")})
	if err != nil {
		w.t.Fatal(err)
	}
	r.ContentLength, r.TransferEncoding = -1, []string{"chunked"}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return do(w.t, w.http, r)
}
