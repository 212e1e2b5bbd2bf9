package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"keymill/cmd/keymill/internal/diagnose"
)

// TestVerifyWithoutAKeySetDecidesNothing checks the exit code 3, the reason and the advice.
func TestVerifyWithoutAKeySetDecidesNothing(t *testing.T) {
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
		{"forbidden set", i.url, page(403, "text/plain", "") + "/keys", "403", "readable without authentication"},
		{"unauthorized set", i.url, page(401, "text/plain", "") + "/keys", "401", "readable without authentication"},
		{"HTML", page(200, "text/html; charset=utf-8", html), "", "not a JSON", "a page for browsers"},
		{"another issuer", page(200, "application/json", `{"issuer":"https://other.example","jwks_uri":"https://other.example/keys"}`), "", `"https://other.example"`, "letter for letter"},
		{"redirect", page(302, "text/html", html), "", "302", "redirects are not followed"},
		{"not ready", page(503, "text/plain", ""), "", "503", "is not ready"},
		{"forbidden", page(403, "text/plain", ""), "", "403", "readable without authentication"},
		{"TLS, unknown authority", secure.URL, "", "no authority known to this machine", "SSL_CERT_FILE=ca.pem"},
		{"TLS expected", strings.Replace(i.url, "http:", "https:", 1), "", "does not speak TLS", "TLS proxy"},
		{"HTTP for TLS", strings.Replace(secure.URL, "https:", "http:", 1), "", "400", "the server speaks TLS there: begin the address with https://"},
		{"HTTP for TLS with --jwks", "https://id.example.com", strings.Replace(secure.URL, "https:", "http:", 1) + "/keys", "400", "the server speaks TLS there"},
		{"no set", i.url, page(200, "application/json", `{}`), `no array "keys"`, "it must be a key set"},
		{"HTML set", i.url, page(200, "text/html", html), "not a JSON", "a page for browsers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"--audience", "orders", "--issuer", tt.issuer}
			if tt.jwks != "" {
				args = append(args, "--jwks", tt.jwks)
			}
			out, errs, code := verifyStdin(t, good, args...)
			reason, advice, _ := strings.Cut(errs, "\n  hint: ")
			if code != 3 || out != "" || !strings.HasPrefix(reason, "keymill: no key set to check with: ") ||
				!strings.Contains(reason, tt.reason) || !strings.Contains(advice, tt.advice) || strings.Count(errs, "\n") != 2 {
				t.Errorf("code %d, %s%s", code, out, errs)
			}
			var v diagnose.TokenReport
			out, errs, code = verifyStdin(t, good, append(args, "--json")...)
			if err := json.Unmarshal([]byte(out), &v); err != nil || code != 3 || v.Valid || v.Check != "key_set" || v.Reason == "" || !strings.Contains(v.Advice, tt.advice) {
				t.Errorf("code %d, %v, %s%s", code, err, out, errs)
			}
			// A mistake that no key can help with is reported in any case.
			if _, errs, code := verifyStdin(t, "kmr_"+strings.Repeat("a", 60), args...); code != 1 || !strings.Contains(errs, "refresh token") {
				t.Errorf("a refresh token: code %d, %s", code, errs)
			}
		})
	}
}

// TestVerifyAsksForTheAddressOfASetWithoutTrustedKeys: such a set fits no token.
func TestVerifyAsksForTheAddressOfASetWithoutTrustedKeys(t *testing.T) {
	t.Parallel()
	i := newForeignIssuer(t)
	for _, members := range []string{"", strings.Replace(weakKey, `"weak"`, `"other"`, 1)} {
		url := i.serve(map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"keys":[%s]}`, members)
		}})
		_, errs, code := verifyStdin(t, i.sign(i.claims()), "--issuer", i.url, "--jwks", url+"/keys", "--audience", "orders")
		want := "hint: the key set has no usable key at all: check whether " + url + "/keys is the right address\n"
		if code != 1 || !strings.HasSuffix(errs, want) {
			t.Errorf("%q: code %d, %s", members, code, errs)
		}
	}
}

// closedAddress returns a URL where nothing listens.
func closedAddress(t testing.TB) string {
	t.Helper()
	return "http://" + freeAddress(t)
}
