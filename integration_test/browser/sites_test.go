package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"keymill/integration_test/pages"
	sites "keymill/issuer/endpoint/site"
)

// crossSite: the client lists a page of another site. The browser would drop the cookie of its
// login, so the login is refused, and the page can read why. The page of the issuer's site logs in
// with the same lines, which are those of docs/people.md.
func crossSite(t *testing.T, w *world, user string) {
	var listed struct{ Warnings []string }
	w.server.RunJSON(t, &listed, "client", "set", client, "--origin", w.app, "--origin", w.crossSite)
	defer w.server.Run(t, "client", "set", client, "--origin", w.app)
	if len(listed.Warnings) != 1 || !strings.Contains(listed.Warnings[0], w.crossSite) {
		t.Errorf("client set warns about %q, want only %s", listed.Warnings, w.crossSite)
	}
	p := w.browser.newProfile(t)
	page := p.open(t, w.crossSite) // it tries to refresh at once
	page.submit(t, user, password)
	if s := page.settle(t); s.View != "login" || s.Error != "403 access_denied" {
		t.Errorf("the page of another site shows %+v", s)
	}
	logins := w.proxy.passedOn("/session/login")
	if len(logins) != 1 || logins[0].Header.Get("Sec-Fetch-Site") != "cross-site" || logins[0].Answer.Get("Set-Cookie") != "" {
		t.Errorf("the logins are %+v, want one, without a cookie in its answer", logins)
	}
	login := loginOfTheDocument(t, w, user)
	var answer map[string]any
	page.eval(t, login, &answer)
	if reason := fmt.Sprint(answer["error_description"]); !strings.Contains(reason, w.crossSite+" as another site than "+w.server.Issuer) {
		t.Errorf("the page of another site can read %q", answer)
	}
	if token := p.token(t); token != "" {
		t.Errorf("the jar holds %q", token)
	}

	same := p.open(t, w.app)
	same.eval(t, login, &answer)
	if token, _ := answer["access_token"].(string); token == "" || p.token(t) == "" {
		t.Fatalf("the page of the issuer's site got %q", answer)
	}
	same = p.open(t, w.app)
	if s := same.press(t, "#call"); s.View != "orders" || !strings.HasPrefix(s.Answer, "200") {
		t.Errorf("a new tab of the issuer's site shows %+v", s)
	}
}

// loginOfTheDocument returns the program of docs/people.md, for this server and user.
func loginOfTheDocument(t *testing.T, w *world, user string) string {
	t.Helper()
	page, err := pages.ReadOne("../..", "docs/people.md")
	if err != nil {
		t.Fatal(err)
	}
	block, found := page.Find("js", `credentials: "include"`)
	if !found {
		t.Fatal("docs/people.md has no login of a page")
	}
	program := block.Text
	for placeholder, value := range map[string]string{
		"https://id.example.com": w.server.Issuer, "alice": user, "four words make a password": password,
	} {
		if !strings.Contains(program, placeholder) {
			t.Fatalf("docs/people.md: the program has no %s:\n%s", placeholder, program)
		}
		program = strings.ReplaceAll(program, placeholder, value)
	}
	return "(async () => {\n" + program + "\nreturn answer; })()"
}

// TestChromiumAgreesAboutSites: a page of every origin calls all of them. Sec-Fetch-Site must say
// what package site says, also about addresses, public suffixes and names below localhost.
func TestChromiumAgreesAboutSites(t *testing.T) {
	t.Parallel()
	secure := []string{
		"app.keymill.test", "id.keymill.test", "keymill.test", "evil.test", "alice.github.io", "bob.github.io", "github.io",
		"app.example.co.uk", "id.example.co.uk", "other.co.uk",
	}
	c := newCertificate(t, secure...)
	b := startBrowser(t, c.spki)
	echo := http.NewServeMux()
	echo.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<main data-view="login" data-busy="false"></main>`)
	})
	echo.HandleFunc("POST /site", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		io.WriteString(w, r.Header.Get("Sec-Fetch-Site"))
	})
	var origins []string
	for _, name := range secure {
		origins = append(origins, serve(t, "https", name, c, echo))
	}
	for _, name := range []string{
		"app.keymill.test", "127.0.0.1", "127.0.0.1", "127.0.0.2", "localhost", "localhost", "app.localhost", "id.localhost", "a.app.localhost",
	} {
		origins = append(origins, serve(t, "http", name, c, echo))
	}
	all, err := json.Marshal(origins)
	if err != nil {
		t.Fatal(err)
	}
	p, compared := b.newProfile(t), 0
	for _, from := range origins {
		var said []string
		p.open(t, from).eval(t, `Promise.all(`+string(all)+`.map((to) => fetch(to + "/site", { method: "POST" })
			.then((response) => response.text(), () => "blocked")))`, &said)
		for n, to := range origins {
			want := "cross-site"
			switch {
			case to == from:
				want = "same-origin"
			case sites.Same(from, to):
				want = "same-site"
			}
			switch said[n] {
			case want:
				compared++
			case "", "blocked": // plain http to another machine: no header, or not from https at all
				if !strings.HasPrefix(to, "http://app.keymill.test:") {
					t.Errorf("%s to %s: %q, want %s", from, to, said[n], want)
				}
			default:
				t.Errorf("%s to %s: Chromium says %s, want %s", from, to, said[n], want)
			}
		}
	}
	if want := len(origins) * (len(origins) - 1); compared < want {
		t.Errorf("compared %d pairs, want %d", compared, want)
	}
}
