package browser

import (
	"net/http"
	"strings"
	"testing"

	"keymill/integration_test/counts"
)

// rounds is how often two tabs refresh at once, in each of the ways below.
func rounds() int { return counts.Of("browser-rounds") }

// together: both tabs send the same refresh token, and the server has both requests
// before it answers one. It is the worst that two tabs without locks can do, and one
// rotation answers both.
func together(t *testing.T, w *world, user string) {
	p := w.browser.newPerson(t)
	tabs := w.twoTabs(t, p, "", user)
	before := w.family(t, user).Generation
	w.front.reset(2)
	for range rounds() {
		refreshBoth(t, tabs)
	}
	passed := w.front.passedOn("/session/refresh")
	if len(passed) != 2*rounds() || w.front.mostAtOnce() != 2 {
		t.Errorf("%d refreshes, at most %d at once; want %d in pairs", len(passed), w.front.mostAtOnce(), 2*rounds())
	}
	for i := 0; i+1 < len(passed); i += 2 {
		a, b := passed[i], passed[i+1]
		if a.Header.Get("Cookie") != b.Header.Get("Cookie") || setToken(a) != setToken(b) {
			t.Errorf("pair %d did not present one token, or got two successors", i/2)
		}
	}
	w.front.reset(0)
	w.wantAlive(t, tabs, user, before+rounds(), before+rounds())
}

// setToken is the refresh token that an answer put into the jar.
func setToken(x exchange) string {
	for _, c := range (&http.Response{Header: x.Answer}).Cookies() {
		if strings.HasPrefix(c.Value, tokenPrefix) {
			return c.Value
		}
	}
	return "none"
}

// asItComes: no locks, and nobody holds the requests together, so the second tab
// sometimes sends the old token while the new one is on its way.
func asItComes(t *testing.T, w *world, user string) {
	p := w.browser.newPerson(t)
	tabs := w.twoTabs(t, p, "", user)
	before := w.family(t, user).Generation
	for range rounds() {
		refreshBoth(t, tabs)
	}
	w.wantAlive(t, tabs, user, before+rounds(), before+2*rounds())
}

// takeTurns: with navigator.locks one tab waits for the other, and both rotate.
func takeTurns(t *testing.T, w *world, user string) {
	p := w.browser.newPerson(t)
	tabs := w.twoTabs(t, p, "?locks=1", user)
	before := w.family(t, user).Generation
	w.front.reset(0)
	for range rounds() {
		refreshBoth(t, tabs)
	}
	if most := w.front.mostAtOnce(); most != 1 {
		t.Errorf("%d refreshes at once: the tabs did not take turns", most)
	}
	w.wantAlive(t, tabs, user, before+2*rounds(), before+2*rounds())
}

func (w *world) twoTabs(t *testing.T, p *person, query, user string) [2]*tab {
	t.Helper()
	return [2]*tab{w.login(t, p, query, user), p.open(t, w.app+"/"+query)}
}

// refreshBoth makes both tabs refresh at the same time and wants both to succeed.
func refreshBoth(t *testing.T, tabs [2]*tab) {
	t.Helper()
	type result struct {
		before, after state
		err           error
	}
	var results [2]chan result
	for i, tab := range tabs {
		before := tab.settle(t)
		results[i] = make(chan result, 1)
		go func() {
			err := tab.try(t.Context(), `document.querySelector("#refresh").click()`, new(any))
			if err != nil {
				results[i] <- result{err: err}
				return
			}
			after, err := tab.idle(t.Context())
			results[i] <- result{before, after, err}
		}()
	}
	for i := range results {
		r := <-results[i]
		if r.err != nil || r.after.View != "orders" || r.after.Refreshes != r.before.Refreshes+1 {
			t.Fatalf("tab %d after a refresh: %+v (%v)", i+1, r.after, r.err)
		}
	}
}

// wantAlive wants a living family within two generations, which both tabs can use.
func (w *world) wantAlive(t *testing.T, tabs [2]*tab, user string, least, most int) {
	t.Helper()
	f := w.family(t, user)
	if f.State != "live" || f.Shared || f.Generation < least || f.Generation > most {
		t.Errorf("the family is %+v, want live at generation %d to %d", f, least, most)
	}
	for i, tab := range tabs {
		if s := tab.press(t, "#call"); !strings.HasPrefix(s.Answer, "200") {
			t.Errorf("tab %d shows %+v", i+1, s)
		}
		if s := tab.press(t, "#refresh"); s.View != "orders" || s.Error != "" {
			t.Errorf("tab %d cannot refresh any more: %+v", i+1, s)
		}
	}
}

// loggedOut: the cookie goes, and so does the family behind it: a copy of the cookie
// is worth nothing.
func loggedOut(t *testing.T, w *world, user string) {
	p := w.browser.newPerson(t)
	tabs := w.twoTabs(t, p, "", user)
	var copied cookie
	for _, c := range p.cookies(t) {
		copied = c
	}
	if s := tabs[0].press(t, "#logout"); s.View != "login" || s.Error != "" {
		t.Errorf("after the logout the page shows %+v", s)
	}
	if jar := p.cookies(t); len(jar) != 0 {
		t.Errorf("after the logout the jar holds %+v", jar)
	}
	if s := tabs[1].press(t, "#refresh"); s.View != "login" || !strings.HasPrefix(s.Error, "401") {
		t.Errorf("the other tab shows %+v, want a 401 and the login form", s)
	}
	if f := w.family(t, user); f.State != "revoked" {
		t.Errorf("the family is %+v, want revoked", f)
	}
	p.put(t, copied, w.server.Issuer)
	w.front.reset(0)
	if s := p.open(t, w.app).settle(t); s.View != "login" {
		t.Errorf("with the old cookie a page shows %+v, want the login form", s)
	}
	sent := w.front.passedOn("/session/refresh")
	if len(sent) != 1 || !strings.Contains(sent[0].Header.Get("Cookie"), copied.Value) || sent[0].Status != http.StatusUnauthorized {
		t.Errorf("the old cookie passed as %+v, want a 401", sent)
	}
}
