package browser

import (
	"net/http"
	"strings"
	"testing"
)

// intruders are whom the client does not list. A page without TLS is another site than
// the same name with it: whoever can write into the network can write such a page.
func (w *world) intruders() []intruder {
	all := []intruder{
		{"a neighbour", w.neighbour, "same-site", true},
		{"a stranger", w.stranger, "cross-site", false},
	}
	if w.plain != "" {
		all = append(all, intruder{"the page without TLS", w.plain, "cross-site", false})
	}
	return all
}

// An intruder is a page that the client does not list, with what the browser says of it
// and whether the cookie goes along: SameSite=Strict keeps it from other sites only, so
// what stops a neighbour is the rule of origins.
type intruder struct {
	name, origin, site string
	cookie             bool
}

// refused: while somebody is logged in at the page that the client lists, the same page
// at other origins can neither refresh, nor log in, nor log out, by any kind of request.
func refused(t *testing.T, w *world, user string) {
	p := w.browser.newPerson(t)
	home := w.login(t, p, "", user)
	if logins := w.front.passedOn("/session/login"); len(logins) != 1 || logins[0].Header.Get("Sec-Fetch-Site") != "same-site" {
		t.Fatalf("the login of the listed page passed as %+v, want Sec-Fetch-Site: same-site", logins)
	}
	token, generation := p.token(t), w.family(t, user).Generation
	for _, in := range w.intruders() {
		w.front.reset(0)
		page := p.open(t, in.origin) // which tries to refresh at once
		w.wantRefused(t, in, "/session/refresh", "cors")
		in.wantUnread(t, page.settle(t))

		page.submit(t, user, password)
		in.wantUnread(t, page.settle(t))
		if logins := w.front.passedOn("/session/login"); len(logins) != 0 {
			t.Errorf("the browser let %s log in by JSON: %+v", in.name, logins)
		}
		for _, path := range []string{"/session/login", "/session/refresh", "/session/logout"} {
			w.front.reset(0)
			var kind string
			page.eval(t, attack(w.server.Issuer+path, user), &kind)
			w.wantRefused(t, in, path, "no-cors")
			if kind != "opaque" {
				t.Errorf("%s reads an answer of the type %q", in.name, kind)
			}
		}
		w.front.reset(0)
		page.do(t, form(w.server.Issuer+"/session/login", user))
		w.front.await(t, "/session/login")
		w.wantRefused(t, in, "/session/login", "navigate")
	}
	if p.token(t) != token || w.family(t, user).Generation != generation {
		t.Error("the cookie or the family moved")
	}
	if s := home.press(t, "#refresh"); s.View != "orders" || s.Error != "" {
		t.Errorf("the listed page shows %+v", s)
	}
}

// attack is a request that a page may send whatever CORS says of it, with a body that
// is JSON for a server that reads JSON whatever its type.
func attack(url, user string) string {
	return `fetch(` + quote(url) + `, { method: "POST", mode: "no-cors", credentials: "include", body: ` +
		quote(credentials(user)) + ` }).then((response) => response.type)`
}

// form submits the same as a form, which takes the tab along.
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

// credentials is JSON with a "=", which a form of text/plain puts into its body anyway.
func credentials(user string) string {
	return `{"username":` + quote(user) + `,"password":` + quote(password) + `,"padding":"="}`
}

// wantRefused wants that one request of in has passed on path, as the browser sends it,
// and got a 403 that changes nothing.
func (w *world) wantRefused(t *testing.T, in intruder, path, mode string) {
	t.Helper()
	passed := w.front.passedOn(path)
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
		t.Errorf("the cookie went from %s to %s: %t, want %t", in.name, path, with, in.cookie)
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

// wantUnread wants a page that knows no more than that something failed.
func (in intruder) wantUnread(t *testing.T, s state) {
	t.Helper()
	if s.View != "login" || s.Error != "Failed to fetch" {
		t.Errorf("the page of %s shows %+v, want the login form and no status", in.name, s)
	}
}

// added: the same page, in the tab that was refused a moment ago, works once the client
// lists its origin, and stops when the client does not any more. No restart, no reload.
func added(t *testing.T, w *world, user string) {
	p := w.browser.newPerson(t)
	in := intruder{"a neighbour", w.neighbour, "same-site", false}
	page := p.open(t, in.origin)
	in.wantUnread(t, page.settle(t))

	w.server.Run(t, "client", "set", client, "--origin", w.app, "--origin", w.neighbour)
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
