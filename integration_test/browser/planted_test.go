package browser

import (
	"strings"
	"testing"
)

// planted: an attacker controls another host of the same site. A page there writes cookies with
// the attacker's session, so that the user would go on as the attacker. Over https the cookie's
// name begins with __Host-, so another host cannot set it. Loopback http has no such names, and
// cookies there do not depend on the port; so the server refuses two cookies.
func planted(t *testing.T, w *world, user string) {
	mallory := user + ".mallory"
	w.addUser(t, mallory)
	other := w.browser.newProfile(t)
	w.login(t, other, "", mallory)
	planted := other.token(t)

	p := w.browser.newProfile(t)
	page := w.login(t, p, "", user)
	before := page.press(t, "#call").Answer
	own := p.token(t)
	w.plant(t, p.open(t, w.sameSite), planted)
	w.proxy.reset(0)
	s := page.press(t, "#refresh")
	sent := w.proxy.passedOn("/session/refresh")[0].Header.Get("Cookie")
	if !strings.Contains(sent, planted) {
		t.Fatalf("the browser sent %q: nothing was planted", sent)
	}
	if w.hosts.scheme == "http" {
		if s.View != "login" || !strings.HasPrefix(s.Error, "401") {
			t.Errorf("with two cookies the page shows %+v, want a 401 and the login form", s)
		}
		return
	}
	if !strings.Contains(sent, "__Host-keymill-"+client+"="+own) || strings.Count(sent, "__Host-") != 1 {
		t.Errorf("the browser sent %q, want only the server's own cookie to have __Host-", sent)
	}
	if after := page.press(t, "#call").Answer; s.View != "orders" || after != before {
		t.Errorf("the page shows %+v and then %q, want %q as before", s, after, before)
	}
}

// plant writes token under every name, path and domain that the server might read.
func (w *world) plant(t *testing.T, from *tab, token string) {
	t.Helper()
	name := "keymill-" + client
	writes := []string{name + "=" + token + "; Path=/session"}
	if w.hosts.scheme == "https" {
		domain := "; Secure; Domain=" + site(w.hosts.id)
		writes = []string{
			name + "=" + token + "; Path=/session" + domain,
			"__Host-" + name + "=" + token + "; Path=/session" + domain,
			"__Host-" + name + "=" + token + "; Path=/" + domain,
			"__Host-" + name + "=" + token + "; Path=/; Secure",
		}
	}
	for _, write := range writes {
		from.do(t, "document.cookie = "+quote(write))
	}
}

// site returns the domain that all hosts of a site have in common.
func site(host string) string {
	_, domain, _ := strings.Cut(host, ".")
	return domain
}
