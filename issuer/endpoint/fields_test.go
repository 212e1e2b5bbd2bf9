package endpoint

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFields checks that every body gives clean texts, or an error that becomes a status 4xx
// with well-formed JSON.
func FuzzFields(f *testing.F) {
	for _, body := range []string{
		"", "{}", "[]", "null", `{"username":"a","password":"b"}`, `{"username":"a","username":"b"}`, `{"username":"\ud800"}`,
		`{"username":"\\ud800\ud83d\ude00"}`, `{"username":1e5,"password":-0}`, "username=a&password=b", "username=%ff", "{\"username\":\"\xff\"}",
		"--B\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\nx\r\n--B--\r\n", `{"username":{"a":[1]},"x":null}`,
	} {
		for media := range 4 {
			f.Add(body, media)
		}
	}
	media := []string{"application/json", formType, "multipart/form-data; boundary=B", "text/plain"}
	f.Fuzz(func(t *testing.T, body string, n int) {
		r := httptest.NewRequest("POST", "/api/token/", strings.NewReader(body))
		r.Header.Set("Content-Type", media[(n%4+4)%4])
		fields, err := readFields(httptest.NewRecorder(), r, "username", "password")
		if err != nil {
			a := formatSimpleJWT(r, replyTo(err, unavailable{}), err)
			b, failed := json.Marshal(a.body)
			if fields != nil || failed != nil || !json.Valid(b) || a.status < 400 || a.status > 499 {
				t.Fatalf("%v: %d %s %v", err, a.status, b, failed)
			}
			return
		}
		for _, f := range fields {
			text := f.text
			if text == "" || !utf8.ValidString(f.typed) || text != strings.TrimSpace(text) || strings.ContainsRune(f.typed, 0) || trimSpace(f.typed) != text {
				t.Fatalf("accepted %q", f)
			}
		}
		if r.Header.Get("Content-Type") == media[0] && !json.Valid([]byte(body)) {
			t.Fatalf("accepted as JSON: %q", body)
		}
	})
}

// FuzzBrowserBody checks that an accepted body is one object that has only known members, and
// that they have the values that encoding/json reads.
func FuzzBrowserBody(f *testing.F) {
	for _, body := range []string{"{}", `{"audience":"a"}`, `{"audience":"a","audience":"b"}`, `{"Audience":"a"}`, `{"scope":null}`, `{"scope":"\udc00"}`, `{"scope":"\\u"}`, `[`} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/session/refresh", strings.NewReader(body))
		r.Header = http.Header{"Content-Type": {"application/json"}}
		var got struct {
			Audience string `json:"audience"`
			Scope    string `json:"scope"`
		}
		if readBrowserBody(httptest.NewRecorder(), r, &got) != nil || body == "" {
			return
		}
		var want map[string]*string
		if err := json.Unmarshal([]byte(body), &want); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
		for name, got := range map[string]string{"audience": got.Audience, "scope": got.Scope} {
			if p := want[name]; p != nil && *p != got || p == nil && got != "" {
				t.Fatalf("%s is %q in %q", name, got, body)
			}
			delete(want, name)
		}
		if len(want) > 0 || !utf8.ValidString(body) {
			t.Fatalf("accepted %q", body)
		}
	})
}
