package forwardauth

import (
	"net/url"
	"strings"
	"testing"

	"keymill/issuer/accesstoken"
	"keymill/jwks"
)

// FuzzQuestion checks that nothing of an accepted query was ignored.
func FuzzQuestion(f *testing.F) {
	for _, query := range []string{
		"audience=orders", "audience=orders&scope=read", "scope=read+write&audience=a&scope=x", "audience=a&audience=b", "audience=a;scope=b", "scope=%20",
		"audience=https%3A%2F%2Fapi.example.com%2F", "&&audience=a&", "=", "audience", "access_token=x&audience=a",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := readQuestion(query)
		if err != nil {
			return
		}
		if q.audience == "" || len(q.scopes) > maxScopes {
			t.Fatalf("%q: %+v", query, q)
		}
		values, err := url.ParseQuery(query)
		if err != nil || strings.Contains(query, ";") || len(values["audience"]) != 1 || values.Get("audience") != q.audience {
			t.Fatalf("%q: %+v", query, q)
		}
		if asked := strings.Join(values["scope"], " "); asked != strings.Join(q.scopes, " ") {
			t.Fatalf("%q: %+v", query, q)
		}
		delete(values, "audience")
		if delete(values, "scope"); len(values) > 0 {
			t.Fatalf("%q was accepted with %v", query, values)
		}
		for _, s := range q.scopes {
			if !jwks.IsScope(s) {
				t.Fatalf("%q: scope %q", query, s)
			}
		}
	})
}

// FuzzHeader checks that a value is visible ASCII and that only one claim has it.
func FuzzHeader(f *testing.F) {
	for _, claim := range []string{"", "-", "%2D", "a b", "Zoë", "a\r\nb", "\xff", "read  write", "%"} {
		f.Add(claim)
	}
	f.Fuzz(func(t *testing.T, claim string) {
		headers, err := headersOf(&accesstoken.Token{Subject: claim, Client: "web", Scope: claim})
		if err != nil {
			if len(claim) < 300 {
				t.Fatalf("%q: %v", claim, err)
			}
			return
		}
		if len(headers) != 4 || headers["X-Auth-Session"] != absent || headers["X-Auth-Client"] != "web" {
			t.Fatalf("%q: %v", claim, headers)
		}
		subject, scopes := headers["X-Auth-Subject"], headers["X-Auth-Scope"]
		if decoded, err := url.PathUnescape(subject); (subject == absent) != (claim == "") || subject != absent && (err != nil || decoded != claim) {
			t.Fatalf("%q: subject %q", claim, subject)
		}
		var decoded []string
		for s := range strings.SplitSeq(scopes, " ") {
			one, err := url.PathUnescape(s)
			if err != nil || s == "" {
				t.Fatalf("%q: scope %q", claim, scopes)
			}
			decoded = append(decoded, one)
		}
		want := strings.FieldsFunc(claim, func(c rune) bool { return c == ' ' })
		if (scopes == absent) != (len(want) == 0) || scopes != absent && strings.Join(decoded, " ") != strings.Join(want, " ") {
			t.Fatalf("%q: scope %q", claim, scopes)
		}
		for _, c := range []byte(subject + scopes) {
			if c < ' ' || c > '~' {
				t.Fatalf("%q: %q, %q", claim, subject, scopes)
			}
		}
		if strings.Contains(subject, " ") {
			t.Fatalf("%q: subject %q", claim, subject)
		}
	})
}
