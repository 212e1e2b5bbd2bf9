package endpoint

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"keymill/issuer"
	"keymill/issuer/api"
)

const (
	alicesPassword = "correct horse battery staple"
	appOrigin      = "https://app.example.com"
	jsonHeader     = "Content-Type: application/json"
)

// withAlice adds the public client "web" of audience orders and its user alice, whose id is 7.
func (w *world) withAlice(change ...func(*api.NewClient)) *world {
	w.t.Helper()
	c := api.NewClient{
		ID: "web", Public: true, Grants: []string{"refresh_token"}, Audiences: []string{"orders"},
		Scopes: []string{"read", "write"}, Origins: []string{appOrigin},
	}
	for _, f := range change {
		f(&c)
	}
	if _, err := w.issuer.AddClient(w.t.Context(), c, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
	w.user("alice", "7")
	return w
}

func (w *world) user(name, id string) {
	w.t.Helper()
	u := api.NewUser{ID: id, Name: name, Password: alicesPassword}
	if _, err := w.issuer.AddUser(w.t.Context(), u, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) setClient(id string, c api.ClientChange) {
	w.t.Helper()
	if _, err := w.issuer.SetClient(w.t.Context(), id, c, "uid:0"); err != nil {
		w.t.Fatal(err)
	}
}

// A tokenPair is the answer of the simplejwt endpoint.
type tokenPair struct{ Access, Refresh string }

// postJSON sends a body, marshalled unless it is a string.
func (w *world) postJSON(path string, body any, headers ...string) answer {
	w.t.Helper()
	text, ok := body.(string)
	if !ok {
		b, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(b)
	}
	return w.send("POST", path, text, append(headers, jsonHeader)...)
}

// obtain logs alice in at the simplejwt endpoint.
func (w *world) obtain() tokenPair {
	w.t.Helper()
	return w.pairOf(w.postJSON("/api/token/", credentials("alice", alicesPassword)))
}

func (w *world) pairOf(a answer) tokenPair {
	w.t.Helper()
	var p tokenPair
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.status != 200 || p.Access == "" || !strings.HasPrefix(p.Refresh, "kmr_") {
		w.t.Fatalf("no pair: %d %s", a.status, a.body)
	}
	return p
}

func credentials(name, password string) map[string]string {
	return map[string]string{"username": name, "password": password}
}

// rotate presents a refresh token at /token as the public client.
func (w *world) rotate(token string, more ...string) answer {
	w.t.Helper()
	return w.post(strings.Join(append([]string{"grant_type=refresh_token&client_id=web&refresh_token=" + url.QueryEscape(token)}, more...), "&"))
}

// ask posts a token to /revoke or /introspect.
func (w *world) ask(path, token string, headersOrForm ...string) answer {
	w.t.Helper()
	form, headers := "token="+url.QueryEscape(token), []string{formHeader}
	for _, s := range headersOrForm {
		if strings.Contains(s, ": ") {
			headers = append(headers, s)
		} else {
			form += "&" + s
		}
	}
	return w.send("POST", path, form, headers...)
}

// confidential adds a confidential client that may introspect tokens for orders, and refresh.
func (w *world) confidential(id string) string {
	w.t.Helper()
	c, err := w.issuer.AddClient(w.t.Context(), api.NewClient{
		ID: id, Grants: []string{"client_credentials", "refresh_token"}, Audiences: []string{"orders"},
		Scopes: []string{"read"}, Introspect: []string{"orders"},
	}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(c.Secret)
}

// familyAt begins a session of a confidential client as a grant with a login does.
func (w *world) familyAt(client string) issuer.Grant {
	w.t.Helper()
	g, err := w.issuer.StartSession(w.t.Context(), issuer.SessionRequest{User: "7", Client: client, Endpoint: issuer.LoginBrowser})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func is(t *testing.T, what string, a answer, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Errorf("%s: got %d %s, want %d %s", what, a.status, a.body, status, body)
	}
}
