package browser

import (
	"strings"
	"testing"
)

// planted: a neighbour that somebody else has taken over writes cookies with a session
// of its own, so that whoever sits here goes on as another person. Over https the name
// begins with __Host-, which keeps the cookie out of the neighbour's reach. Loopback has
// no such names, and ports do not part cookies there; so two cookies count as none.
func planted(t *testing.T, w *world, user string) {
	mallory := user + ".mallory"
	w.addUser(t, mallory)
	other := w.browser.newPerson(t)
	w.login(t, other, "", mallory)
	theirs := other.token(t)

	p := w.browser.newPerson(t)
	home := w.login(t, p, "", user)
	before := home.press(t, "#call").Answer
	own := p.token(t)
	w.plant(t, p.open(t, w.neighbour), theirs)
	w.front.reset(0)
	s := home.press(t, "#refresh")
	sent := w.front.passedOn("/session/refresh")[0].Header.Get("Cookie")
	if !strings.Contains(sent, theirs) {
		t.Fatalf("the browser sent %q: nothing was planted", sent)
	}
	if w.hosts.scheme == "http" {
		if s.View != "login" || !strings.HasPrefix(s.Error, "401") {
			t.Errorf("with two cookies the page shows %+v, want a 401 and the login form", s)
		}
		return
	}
	if !strings.Contains(sent, "__Host-keymill-"+client+"="+own) || strings.Count(sent, "__Host-") != 1 {
		t.Errorf("the browser sent %q, want one cookie with __Host-, and the server's own", sent)
	}
	if after := home.press(t, "#call").Answer; s.View != "orders" || after != before {
		t.Errorf("the page shows %+v and then %q, want %q as before", s, after, before)
	}
}

// plant writes token under every name and range that may matter.
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

// site is the domain that a host and its neighbours have in common.
func site(host string) string {
	_, domain, _ := strings.Cut(host, ".")
	return domain
}
