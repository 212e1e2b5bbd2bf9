package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"keymill/jwks"
)

// TestVerifyWithoutAKeySetJudgesNothing: exit code 3, a sentence, and what to do.
func TestVerifyWithoutAKeySetJudgesNothing(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	good := i.sign(i.claims())
	page := func(status int, kind, body string) string {
		return i.serve(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}})
	}
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	var astray string
	astray = i.serve(map[string]http.HandlerFunc{"/.well-known/openid-configuration": func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, astray, astray+"/keys")
	}})
	html := "<!doctype html><title>Log in</title>"
	for _, tt := range []struct {
		name, issuer, jwks, reason, advice string
	}{
		{"refused", closedAddress(t), "", "nothing listens at http://127.0.0.1:", "curl -v http://"},
		{"not found", page(404, "text/plain", "no"), "", "404", "--jwks URL"},
		{"no set there", "https://id.example.com/", page(404, "text/plain", "no") + "/keys", "404", "wrong address: Keymill's is https://id.example.com/.well-known/jwks.json"},
		{"no Keymill there", i.url, i.url + "/.well-known/jwks.json", "404", "is a Keymill at that address"},
		{"jwks_uri", astray, "", "404", "correct its jwks_uri"},
		{"forbidden set", i.url, page(403, "text/plain", "") + "/keys", "403", "open to all"},
		{"unauthorized set", i.url, page(401, "text/plain", "") + "/keys", "401", "open to all"},
		{"HTML", page(200, "text/html; charset=utf-8", html), "", "not a JSON", "a page for browsers"},
		{"another issuer", page(200, "application/json", `{"issuer":"https://other.example","jwks_uri":"https://other.example/keys"}`), "", `"https://other.example"`, "letter for letter"},
		{"redirect", page(302, "text/html", html), "", "302", "no redirect is followed"},
		{"not ready", page(503, "text/plain", ""), "", "503", "is not ready"},
		{"forbidden", page(403, "text/plain", ""), "", "403", "open to all"},
		{"TLS, unknown authority", secure.URL, "", "no authority known to this machine", "SSL_CERT_FILE=ca.pem"},
		{"TLS expected", strings.Replace(i.url, "http:", "https:", 1), "", "does not speak TLS", "TLS proxy"},
		{"HTTP for TLS", strings.Replace(secure.URL, "https:", "http:", 1), "", "400", "open to all"},
		{"no set", i.url, page(200, "application/json", `{}`), `no array "keys"`, "it must be a key set"},
		{"HTML set", i.url, page(200, "text/html", html), "not a JSON", "a page for browsers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--audience", "orders", "--issuer", tt.issuer}
			if tt.jwks != "" {
				args = append(args, "--jwks", tt.jwks)
			}
			out, errs, code := judge(t, good, args...)
			reason, advice, _ := strings.Cut(errs, "\n  hint: ")
			if code != 3 || out != "" || !strings.HasPrefix(reason, "keymill: no key set to check with: ") ||
				!strings.Contains(reason, tt.reason) || !strings.Contains(advice, tt.advice) || strings.Count(errs, "\n") != 2 {
				t.Errorf("code %d, %s%s", code, out, errs)
			}
			var v verdict
			out, errs, code = judge(t, good, append(args, "--json")...)
			if err := json.Unmarshal([]byte(out), &v); err != nil || code != 3 || v.Valid || v.Check != "key_set" || v.Reason == "" || !strings.Contains(v.Advice, tt.advice) {
				t.Errorf("code %d, %v, %s%s", code, err, out, errs)
			}
			// What no key can mend is said all the same.
			if _, errs, code := judge(t, "kmr_"+strings.Repeat("a", 60), args...); code != 1 || !strings.Contains(errs, "refresh token") {
				t.Errorf("a refresh token: code %d, %s", code, errs)
			}
		})
	}
}

// TestVerifyAsksForTheAddressOfASetWithoutTrustedKeys: no token can be told from that.
func TestVerifyAsksForTheAddressOfASetWithoutTrustedKeys(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	for _, members := range []string{"", strings.Replace(weakKey, `"weak"`, `"other"`, 1)} {
		url := i.serve(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"keys":[%s]}`, members)
		}})
		_, errs, code := judge(t, i.sign(i.claims()), "--issuer", i.url, "--jwks", url+"/keys", "--audience", "orders")
		want := "hint: the set holds no key to be trusted, for any token: is " + url + "/keys the right address?\n"
		if code != 1 || !strings.HasSuffix(errs, want) {
			t.Errorf("%q: code %d, %s", members, code, errs)
		}
	}
}

// TestVerifyCountsWhatItDoesNotList, also what package jwks does not list.
func TestVerifyCountsWhatItDoesNotList(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ listed, count, more int }{
		{2, 2, 0},
		{maxKeysShown, maxKeysShown, 0},
		{maxKeysShown + 4, maxKeysShown + 4, 4},
		{maxKeysShown + 4, maxKeysShown + 84, 84},
		{2, 82, 80},
	} {
		v := verification{keys: jwks.RemoteStatus{Fetched: time.Now(), Keys: []jwks.Key{{KID: "ed"}}}, err: jwks.ErrUnknownKey}
		v.says.header = map[string]json.RawMessage{"kid": json.RawMessage(`"gone"`)}
		v.keys.Skipped.Count = tt.count
		for n := range tt.listed {
			v.keys.Skipped.Keys = append(v.keys.Skipped.Keys, jwks.SkippedKey{Index: n, Reason: "too weak"})
		}
		last := fmt.Sprintf("key %d (kid \"\"): too weak", tt.listed-1)
		if tt.more > 0 {
			last = fmt.Sprintf("… and %d more", tt.more)
		}
		var out bytes.Buffer
		if err := v.printKeys(&out); err != nil || !strings.HasSuffix(out.String(), " "+last+"\n") ||
			strings.Count(out.String(), "not trusted:") > maxKeysShown+1 || strings.Count(out.String(), " more\n") > 1 {
			t.Errorf("%+v: %v\n%s", tt, err, &out)
		}
		hidden := tt.count - tt.listed
		if said := strings.Contains(v.advice(), fmt.Sprintf("one of %d more that are not trusted", hidden)); said != (hidden > 0) {
			t.Errorf("%+v: %s", tt, v.advice())
		}
		skipped := v.verdict().KeySet.Skipped
		if len(skipped) != tt.listed+min(hidden, 1) || hidden > 0 && skipped[tt.listed] != fmt.Sprintf("… and %d more", hidden) {
			t.Errorf("%+v: JSON has %q", tt, skipped)
		}
	}
}

// closedAddress is a URL where nothing listens.
func closedAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}
