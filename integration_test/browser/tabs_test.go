package browser

import (
	"net/http"
	"strings"
	"testing"

	"keymill/integration_test/counts"
)

// rounds returns how often two tabs refresh, in each of the ways below.
func rounds() int { return counts.Of("browser-rounds") }

// together: both tabs send the same refresh token, and the server has both requests before it
// answers one. This is the worst case for two tabs without locks. One rotation answers both.
func together(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	tabs := w.twoTabs(t, p, "", user)
	before := w.session(t, user).Generation
	w.proxy.reset(2)
	for range rounds() {
		refreshBoth(t, tabs)
	}
	passed := w.proxy.passedOn("/session/refresh")
	if len(passed) != 2*rounds() || w.proxy.mostAtOnce() != 2 {
		t.Errorf("%d refreshes, at most %d at once; want %d in pairs", len(passed), w.proxy.mostAtOnce(), 2*rounds())
	}
	for i := 0; i+1 < len(passed); i += 2 {
		a, b := passed[i], passed[i+1]
		if a.Header.Get("Cookie") != b.Header.Get("Cookie") || setToken(a) != setToken(b) {
			t.Errorf("pair %d presented two tokens or got two successors", i/2)
		}
	}
	w.proxy.reset(0)
	w.wantLive(t, tabs, user, before+rounds(), before+rounds())
}

// setToken returns the refresh token that an answer sets as a cookie.
func setToken(x exchange) string {
	for _, c := range (&http.Response{Header: x.Answer}).Cookies() {
		if strings.HasPrefix(c.Value, tokenPrefix) {
			return c.Value
		}
	}
	return "none"
}

// unordered: there are no locks, and the proxy does not hold the requests, so the second tab
// sometimes sends the old token before it has the new cookie.
func unordered(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	tabs := w.twoTabs(t, p, "", user)
	before := w.session(t, user).Generation
	for range rounds() {
		refreshBoth(t, tabs)
	}
	w.wantLive(t, tabs, user, before+rounds(), before+2*rounds())
}

// takeTurns: with navigator.locks one tab waits for the other, and each rotates the token.
func takeTurns(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	tabs := w.twoTabs(t, p, "?locks=1", user)
	before := w.session(t, user).Generation
	w.proxy.reset(0)
	for range rounds() {
		refreshBoth(t, tabs)
	}
	if most := w.proxy.mostAtOnce(); most != 1 {
		t.Errorf("%d refreshes at once, want 1", most)
	}
	w.wantLive(t, tabs, user, before+2*rounds(), before+2*rounds())
}

func (w *world) twoTabs(t *testing.T, p *profile, query, user string) [2]*tab {
	t.Helper()
	return [2]*tab{w.login(t, p, query, user), p.open(t, w.app+"/"+query)}
}

// refreshBoth refreshes in both tabs at the same time and wants both to succeed.
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

// wantLive wants a live session at a generation from least to most, and two tabs that can use
// and refresh it.
func (w *world) wantLive(t *testing.T, tabs [2]*tab, user string, least, most int) {
	t.Helper()
	s := w.session(t, user)
	if s.State != "live" || s.Shared || s.Generation < least || s.Generation > most {
		t.Errorf("the session is %+v, want live at generation %d to %d", s, least, most)
	}
	for i, tab := range tabs {
		if s := tab.press(t, "#call"); !strings.HasPrefix(s.Answer, "200") {
			t.Errorf("tab %d shows %+v", i+1, s)
		}
		if s := tab.press(t, "#refresh"); s.View != "orders" || s.Error != "" {
			t.Errorf("tab %d can no longer refresh: %+v", i+1, s)
		}
	}
}

// loggedOut: a logout removes the cookie and revokes the session, so a copy of the cookie is
// refused.
func loggedOut(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
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
	if s := w.session(t, user); s.State != "revoked" {
		t.Errorf("the session is %+v, want revoked", s)
	}
	p.put(t, copied, w.server.Issuer)
	w.proxy.reset(0)
	if s := p.open(t, w.app).settle(t); s.View != "login" {
		t.Errorf("a page with the old cookie shows %+v, want the login form", s)
	}
	sent := w.proxy.passedOn("/session/refresh")
	if len(sent) != 1 || !strings.Contains(sent[0].Header.Get("Cookie"), copied.Value) || sent[0].Status != http.StatusUnauthorized {
		t.Errorf("the old cookie was sent as %+v, want a 401", sent)
	}
}

// lateRefusal: one tab refreshes after its session has ended. Another tab logs in before the
// refusal arrives. The browser keeps the cookie of that login.
func lateRefusal(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	tabs := w.twoTabs(t, p, "", user)
	tabs[1].settle(t)
	w.server.Run(t, "user", "logout", user)
	release := w.proxy.holdRefusals()
	t.Cleanup(release) // otherwise a test that fails would leave a request waiting
	w.proxy.reset(0)
	tabs[0].click(t, "#refresh")
	w.proxy.await(t, "/session/refresh")

	body := `{"username":` + quote(user) + `,"password":` + quote(password) + `}`
	var status int
	tabs[1].eval(t, `fetch(`+quote(w.server.Issuer+"/session/login")+`, { method: "POST", credentials: "include",
		headers: { "Content-Type": "application/json" }, body: `+quote(body)+` }).then((response) => response.status)`, &status)
	fresh := p.token(t)
	if status != http.StatusOK || fresh == "" {
		t.Fatalf("the login of the other tab: %d", status)
	}
	release()
	if s := tabs[0].settle(t); s.View != "login" || !strings.HasPrefix(s.Error, "401") {
		t.Errorf("the late tab shows %+v, want a 401 and the login form", s)
	}
	if p.token(t) != fresh {
		t.Error("the late refusal changed the cookie of the login")
	}
	if s := tabs[1].press(t, "#refresh"); s.View != "orders" || s.Error != "" {
		t.Errorf("the tab that logged in shows %+v", s)
	}
}
