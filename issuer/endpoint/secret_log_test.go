package endpoint

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"keymill/issuer/api"
)

// TestASecretInTheWrongPlaceIsNotLogged: people paste secrets into fields beside the right one. The
// answer may repeat what was sent, and the log may not.
//
// R104.
func TestASecretInTheWrongPlaceIsNotLogged(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.SimpleJWT.Client, c.Browser.Client = "web", "web" }).withAlice()
	w.postForm("/token", "grant_type=client_credentials&client_id=billing&client_secret=wrong")
	if !strings.Contains(w.log.String(), `"client":"billing"`) {
		t.Error("the log does not name a client that exists")
	}
	n := 0
	for _, secret := range []string{
		w.secret, string(w.sessionOf("7").Refresh), "correct horse battery", "kms_" + strings.Repeat("x", 43),
	} {
		escaped, quoted := url.QueryEscape(secret), fmt.Sprintf("%q", secret)
		form := func(path, body string, headers ...string) func() answer {
			return func() answer { return w.postForm(path, body, headers...) }
		}
		jsonBody := func(path, body string) func() answer {
			return func() answer { return w.send("POST", path, body, "Content-Type: application/json") }
		}
		ask := func(method, path, body string) func() answer {
			return func() answer { return w.askAdmin(method, path, body) }
		}
		for what, do := range map[string]func() answer{
			"client_id":               form("/token", "grant_type=client_credentials&client_id="+escaped),
			"client_id and secret":    form("/token", "grant_type=client_credentials&client_id="+escaped+"&client_secret="+escaped),
			"the name in Basic":       form("/token", "grant_type=client_credentials", basic(secret, "x")),
			"client_id of revoke":     form("/revoke", "token=x&client_id="+escaped),
			"client_id of introspect": form("/introspect", "token=x&client_secret=x&client_id="+escaped),
			"grant_type":              form("/token", "grant_type="+escaped+"&client_id=web"),
			"audience":                form("/token", "grant_type=refresh_token&client_id=web&audience="+escaped),
			"scope":                   form("/token", "grant_type=refresh_token&client_id=web&refresh_token="+escaped+"&scope="+escaped),
			"a parameter":             form("/token", escaped+"=1&"+escaped+"=2"),
			"a JSON name":             jsonBody("/api/token/", `{`+quoted+`:1,`+quoted+`:2}`),
			"a JSON name of cookies":  jsonBody("/session/login", `{`+quoted+`:1,`+quoted+`:2}`),
			"a path":                  form("/"+url.PathEscape(secret), ""),
			"a part of a path":        form("/revoke/"+url.PathEscape(secret), ""),

			"a JSON name of the admin API": ask("POST", "/admin/v1/clients", `{`+quoted+`:1}`),
			"a name given twice":           ask("POST", "/admin/v1/clients", `{`+quoted+`:1,`+quoted+`:1}`),
			"a client's id":                ask("GET", "/admin/v1/client?id="+escaped, ""),
			"a client's bad id":            ask("POST", "/admin/v1/clients", `{"client_id":" `+secret+`"}`),
			"a parameter of the admin API": ask("DELETE", "/admin/v1/client?id=web&"+escaped+"=1", ""),
			"a session's id":               ask("DELETE", "/admin/v1/session?id="+escaped, ""),
			"a user's name":                ask("GET", "/admin/v1/user?user="+escaped, ""),
			"an audience's name":           ask("GET", "/admin/v1/audience?name="+escaped, ""),
			"a client's audience":          ask("POST", "/admin/v1/clients", `{"client_id":"a","audiences":[`+quoted+`]}`),
			"a client's scope":             ask("POST", "/admin/v1/clients", `{"client_id":"a","audiences":["orders"],"scopes":[`+quoted+`]}`),
			"a client's grant":             ask("POST", "/admin/v1/clients", `{"client_id":"a","grants":[`+quoted+`]}`),
			"a lifetime":                   ask("POST", "/admin/v1/clients", `{"client_id":"a","idle":`+quoted+`}`),
			"an algorithm":                 ask("POST", "/admin/v1/audiences", `{"audience":"a","alg":`+quoted+`}`),
			"a kid":                        ask("POST", "/admin/v1/keys/revoke", `{"kid":`+quoted+`}`),
			"a client's origin":            ask("POST", "/admin/v1/clients", `{"client_id":"a","origins":[`+quoted+`]}`),
			"the host of an origin":        ask("POST", "/admin/v1/clients", `{"client_id":"a","origins":["HTTPS://`+url.PathEscape(secret)+`"]}`),
			"a parameter twice":            ask("GET", "/admin/v1/sessions?"+escaped+"=1&"+escaped+"=2", ""),
			"an empty parameter":           ask("GET", "/admin/v1/audit?"+escaped+"=", ""),
			"a place in the audit log":     ask("GET", "/admin/v1/audit?after="+escaped, ""),
			"a place before":               ask("GET", "/admin/v1/audit?before="+escaped, ""),
			"a time":                       ask("GET", "/admin/v1/audit?since="+escaped, ""),
			"a limit":                      ask("GET", "/admin/v1/audit?limit="+escaped, ""),
			"the kid of an import":         ask("POST", "/admin/v1/keys/import", `{"key":"x","kid":`+quoted+`}`),
			"the algorithm of an import":   ask("POST", "/admin/v1/keys/import", `{"key":"x","alg":`+quoted+`}`),
			"the algorithm of a rotation":  ask("POST", "/admin/v1/keys/rotate", `{"alg":`+quoted+`}`),
			"a claim":                      ask("POST", "/admin/v1/users", `{"username":"x","claims":{"sub":1,`+quoted+`:1}}`),
		} {
			before := len(w.log.String())
			if a := do(); a.status < 400 || a.status >= 500 {
				t.Errorf("%s: status %d, %s", what, a.status, a.body)
			}
			n++
			if log := w.log.String()[before:]; strings.Contains(log, secret) || strings.Contains(log, escaped) {
				t.Errorf("%s: the log has it: %s", what, log[max(0, len(log)-400):])
			}
		}
	}
	const number = "00123456789012345678901234567890"
	if a := w.askAdmin("POST", "/admin/v1/users", `{"username":"x","user_id":"`+number+`"}`); a.status != 400 || !strings.Contains(a.body, number) || strings.Contains(w.log.String(), number) {
		t.Errorf("a user's ambiguous id: %d %s", a.status, a.body)
	}
	if lines := strings.Count(w.log.String(), "request refused"); lines < n*3/4 {
		t.Errorf("%d lines for %d refusals", lines, n)
	}
}

// TestTheFirstOfTwoUsersWithOneIDIsImported, however many are imported at a time.
func TestTheFirstOfTwoUsersWithOneIDIsImported(t *testing.T) {
	w := newWorld(t)
	for round := range 10 {
		var entries []string
		for n := range 15 { // three entries want each place
			id := fmt.Sprintf("%d%02d", round+1, n)
			entries = append(entries,
				fmt.Sprintf(`{"user_id":%q,"username":"user%s"}`, id, id),
				fmt.Sprintf(`{"user_id":%q,"username":"other%s"}`, id, id),
				fmt.Sprintf(`{"user_id":"x%s","username":%q}`, id, "ｕser"+id)) // the same name in NFKC
		}
		var got api.ImportResults
		a := w.expect(200, "POST", "/admin/v1/users/import", `{"users":[`+strings.Join(entries, ",")+`]}`)
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		for n, r := range got.Results {
			if want := []string{"", "conflict", "conflict"}[n%3]; r.Code != want {
				t.Fatalf("round %d, entry %d: %+v, want %q", round, n, r, want)
			}
		}
	}
}
