package endpoint

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/endpoint/limit"
)

// basicHeader returns a header with text as it is, without form-encoding.
func basicHeader(scheme, text string) string {
	return "Authorization: " + scheme + " " + base64.StdEncoding.EncodeToString([]byte(text))
}

// TestAnEmptyBasicSecretIsNoSecret: libraries that know only Basic send a public client with
// an empty secret. It works at /token and /revoke like client_id alone.
func TestAnEmptyBasicSecretIsNoSecret(t *testing.T) {
	for what, tt := range map[string]struct{ header, form string }{
		"the example":            {basic("web", ""), ""},
		"the id in the body too": {basic("web", ""), "&client_id=web"},
		"empty parameters":       {basic("web", ""), "&client_id=&client_secret=&client_assertion="},
		"scheme in small":        {basicHeader("basic", "web:"), ""},
		"scheme in capitals":     {basicHeader("BASIC", "web:"), ""},
		"an encoded letter":      {basicHeader("Basic", "w%65b:"), ""},
		"two blanks":             {strings.Replace(basic("web", ""), "Basic ", "Basic  ", 1), ""},
	} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t).withAlice()
			form := "grant_type=refresh_token&refresh_token=" + url.QueryEscape(w.obtain().Refresh) + tt.form
			a := w.post(form, tt.header, "Origin: "+appOrigin)
			w.token(a)
			if got := a.header.Get("Access-Control-Allow-Origin"); got != appOrigin {
				t.Errorf("the page may not read the answer: %q", got)
			}
			next, _ := a.json(t)["refresh_token"].(string)
			if a := w.postForm("/revoke", "token="+url.QueryEscape(next)+tt.form, tt.header); a.status != 200 {
				t.Errorf("revoke: %d %s", a.status, a.body)
			}
			refusedToken(t, "after the revocation", w.rotate(next), 400, "invalid_grant")
			refusedToken(t, "a grant for services", w.post("grant_type=client_credentials"+tt.form, tt.header), 400, "unauthorized_client")
		})
	}
	w := newWorld(t)
	for _, id := range []string{"a:b", "100%", "a b", `"\`} {
		if _, err := w.issuer.AddClient(t.Context(), api.NewClient{ID: id, Public: true, Audiences: []string{"orders"}}, "uid:0"); err != nil {
			t.Fatal(err)
		}
		if a := w.postForm("/revoke", "token=x", basic(id, "")); a.status != 200 {
			t.Errorf("%q: %d %s", id, a.status, a.body)
		}
	}
}

// TestAnEmptyBasicSecretProvesNothing: it never stands for the secret of a confidential client,
// and a client that cannot be used is refused as if it had no secret at all.
func TestAnEmptyBasicSecretProvesNothing(t *testing.T) {
	w := newWorld(t).withAlice()
	w.confidential("server")
	disabled, yes := api.NewClient{ID: "off", Public: true, Audiences: []string{"orders"}}, true
	if _, err := w.issuer.AddClient(t.Context(), disabled, "uid:0"); err != nil {
		t.Fatal(err)
	}
	w.setClient("off", api.ClientChange{Disabled: &yes})
	for path, form := range map[string]string{
		"/token": "grant_type=client_credentials", "/revoke": "token=x", "/introspect": "token=x",
	} {
		first := w.postForm(path, form+"&client_id=server")
		for what, header := range map[string]string{
			"confidential": basic("server", ""), "another": basic("billing", ""), "unknown": basic("unknown", ""), "disabled": basic("off", ""),
			"impossible": basic("bill\x00ing", ""), "no colon": basicHeader("Basic", "web"), "no id": basicHeader("Basic", ":"),
			"a blank": basic("web", " "), "an encoded NUL": basicHeader("Basic", "web:%00"), "a colon": basicHeader("Basic", "web::"),
		} {
			a := w.postForm(path, form, header)
			refusedToken(t, path+" "+what, a, 401, "invalid_client")
			if a.body != first.body {
				t.Errorf("%s %s: %s, but %s", path, what, a.body, first.body)
			}
		}
	}
	refusedToken(t, "introspection", w.postForm("/introspect", "token=x", basic("web", "")), 401, "invalid_client")
	for what, form := range map[string]string{
		"a secret in the body": "&client_secret=x", "an assertion": "&client_assertion=a.b.c", "another client": "&client_id=billing",
	} {
		refusedToken(t, what, w.postForm("/revoke", "token=x"+form, basic("web", "")), 400, "invalid_request")
	}
}

// TestAnEmptyBasicSecretIsNoGuess: it is not counted, as a request without a secret is not.
// Otherwise one page could block all users of its client behind one address.
func TestAnEmptyBasicSecretIsNoGuess(t *testing.T) {
	w := newWorld(t).withAlice()
	for n := range 2 * limit.ClientFailures {
		for _, id := range []string{"billing", "unknown"} {
			refusedToken(t, fmt.Sprint(id, n), w.post("grant_type=client_credentials", basic(id, "")), 401, "invalid_client")
		}
	}
	w.token(w.post(w.good()))
}
