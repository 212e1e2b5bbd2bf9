package browser

import (
	"net/http"
	"strings"
	"testing"
)

// intruders returns the pages that the client does not list. A page without TLS is another site
// than the same host with TLS, because anyone on the network path can change such a page.
func (w *world) intruders() []intruder {
	all := []intruder{
		{"a page of the same site", w.sameSite, "same-site", true},
		{"a page of another site", w.crossSite, "cross-site", false},
	}
	if w.plain != "" {
		all = append(all, intruder{"the page without TLS", w.plain, "cross-site", false})
	}
	return all
}

// An intruder is a page that the client does not list. SameSite=Strict keeps the cookie from
// other sites only. What stops a page of the same site is the origin check.
type intruder struct {
	name, origin string
	site         string // what the browser sends as Sec-Fetch-Site
	cookie       bool   // whether the browser sends the cookie
}

// refused: while a user is logged in at the page that the client lists, the same page at other
// origins cannot refresh, log in or log out, with any kind of request.
func refused(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	listed := w.login(t, p, "", user)
	if logins := w.proxy.passedOn("/session/login"); len(logins) != 1 || logins[0].Header.Get("Sec-Fetch-Site") != "same-site" {
		t.Fatalf("the login of the listed page passed as %+v, want Sec-Fetch-Site: same-site", logins)
	}
	token, generation := p.token(t), w.session(t, user).Generation
	for _, in := range w.intruders() {
		w.proxy.reset(0)
		page := p.open(t, in.origin) // it tries to refresh at once
		w.wantRefused(t, in, "/session/refresh", "cors")
		in.wantUnread(t, page.settle(t))

		page.submit(t, user, password)
		in.wantUnread(t, page.settle(t))
		if logins := w.proxy.passedOn("/session/login"); len(logins) != 0 {
			t.Errorf("the browser sent a JSON login of %s: %+v", in.name, logins)
		}
		for _, path := range []string{"/session/login", "/session/refresh", "/session/logout"} {
			w.proxy.reset(0)
			var kind string
			page.eval(t, attack(w.server.Issuer+path, user), &kind)
			w.wantRefused(t, in, path, "no-cors")
			if kind != "opaque" {
				t.Errorf("%s got an answer of type %q, want opaque", in.name, kind)
			}
		}
		w.proxy.reset(0)
		page.do(t, form(w.server.Issuer+"/session/login", user))
		w.proxy.await(t, "/session/login")
		w.wantRefused(t, in, "/session/login", "navigate")
	}
	if p.token(t) != token || w.session(t, user).Generation != generation {
		t.Error("the cookie or the session changed")
	}
	if s := listed.press(t, "#refresh"); s.View != "orders" || s.Error != "" {
		t.Errorf("the listed page shows %+v", s)
	}
}

// attack returns a request that a page may send without a preflight. Its body is JSON, for a
// server that parses JSON without checking the media type.
func attack(url, user string) string {
	return `fetch(` + quote(url) + `, { method: "POST", mode: "no-cors", credentials: "include", body: ` +
		quote(credentials(user)) + ` }).then((response) => response.type)`
}

// form submits the same body as a form, which navigates the tab.
func form(url, user string) string {
	name, value, _ := strings.Cut(credentials(user), "=")
	return `(() => {
		const form = document.createElement("form");
		Object.assign(form, { method: "POST", action: ` + quote(url) + `, enctype: "text/plain" });
		const input = document.createElement("input");
		Object.assign(input, { name: ` + quote(name) + `, value: ` + quote(value) + ` });
		form.append(input);
		document.body.append(form);
		form.submit();
	})()`
}

// credentials returns JSON with a "=", because a text/plain form puts one into its body.
func credentials(user string) string {
	return `{"username":` + quote(user) + `,"password":` + quote(password) + `,"padding":"="}`
}

// wantRefused wants exactly one request of in on path, with the headers that the browser sets,
// and an answer with 403 that sets no cookie and no CORS header.
func (w *world) wantRefused(t *testing.T, in intruder, path, mode string) {
	t.Helper()
	passed := w.proxy.passedOn(path)
	if len(passed) != 1 {
		t.Errorf("%d requests of %s on %s, want 1", len(passed), in.name, path)
		return
	}
	x := passed[0]
	sent := [...]string{x.Header.Get("Origin"), x.Header.Get("Sec-Fetch-Site"), x.Header.Get("Sec-Fetch-Mode")}
	if want := [...]string{in.origin, in.site, mode}; sent != want {
		t.Errorf("%s sent to %s %q, want %q", in.name, path, sent, want)
	}
	if with := x.Header.Get("Cookie") != ""; with != in.cookie {
		t.Errorf("%s sent the cookie to %s: %t, want %t", in.name, path, with, in.cookie)
	}
	if x.Status != http.StatusForbidden {
		t.Errorf("%s at %s: %d %s, want 403", in.name, path, x.Status, x.Body)
	}
	for _, header := range []string{"Set-Cookie", "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
		if value, is := x.Answer[header]; is {
			t.Errorf("%s at %s got %s: %q", in.name, path, header, value)
		}
	}
}

// wantUnread wants a page that knows only that its request failed.
func (in intruder) wantUnread(t *testing.T, s state) {
	t.Helper()
	if s.View != "login" || s.Error != "Failed to fetch" {
		t.Errorf("the page of %s shows %+v, want the login form and no status", in.name, s)
	}
}

// added: the page in a tab that was refused works once the client lists its origin, and stops
// working when the client no longer does, without a restart or a reload.
func added(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	in := intruder{"a page of the same site", w.sameSite, "same-site", false}
	page := p.open(t, in.origin)
	in.wantUnread(t, page.settle(t))

	w.server.Run(t, "client", "set", client, "--origin", w.app, "--origin", w.sameSite)
	page.submit(t, user, password)
	if s := page.settle(t); s.View != "orders" || s.Error != "" {
		t.Fatalf("after its origin was added the page shows %+v", s)
	}
	if s := page.press(t, "#call"); !strings.HasPrefix(s.Answer, "200") {
		t.Errorf("the API answered %q", s.Answer)
	}
	if s := page.press(t, "#refresh"); s.View != "orders" || s.Error != "" {
		t.Errorf("after a refresh the page shows %+v", s)
	}

	w.server.Run(t, "client", "set", client, "--origin", w.app)
	if s := page.press(t, "#refresh"); s.Error != "Failed to fetch" {
		t.Errorf("after its origin was removed the page shows %+v", s)
	}
}
