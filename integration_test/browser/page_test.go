package browser

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPagesOverHTTPS tests the endpoint as in production, behind a proxy that terminates TLS.
func TestPagesOverHTTPS(t *testing.T) { keepPromises(t, secure) }

// TestPagesOverLoopbackHTTP tests the endpoint as a developer uses it. There a browser accepts
// neither __Host- nor Secure.
func TestPagesOverLoopbackHTTP(t *testing.T) { keepPromises(t, loopback) }

// keepPromises tests every promise of the browser login endpoint, each with its own user.
func keepPromises(t *testing.T, h hosts) {
	t.Parallel()
	w := newWorld(t, h)
	t.Cleanup(func() {
		if leaks := w.proxy.leaked(); len(leaks) > 0 {
			t.Errorf("refresh tokens passed where scripts can read them: %v", leaks)
		}
	})
	for _, promise := range []struct {
		name string
		keep func(t *testing.T, w *world, user string)
	}{
		{"TheRefreshTokenIsOutOfReachOfScripts", outOfReach},
		{"TheCookieIsAsStrictAsItsSchemeAllows", strictCookie},
		{"AnExpiredTokenIsRenewedByThePage", renewed},
		{"AReloadedPageIsStillLoggedIn", reloaded},
		{"TabsThatRefreshAtOnceStayLoggedIn", together},
		{"TabsThatRefreshInAnyOrderStayLoggedIn", unordered},
		{"TabsWithLocksTakeTurns", takeTurns},
		{"LogoutEndsEveryTab", loggedOut},
		{"ALateRefusalKeepsTheLoginOfAnotherTab", lateRefusal},
		{"PagesThatTheClientDoesNotListAreRefused", refused},
		{"AnotherHostOfTheSiteCannotPlantASession", planted},
		{"AnAddedOriginWorksAtOnce", added},
		{"APageOfAnotherSiteIsToldWhyItHasNoSession", crossSite},
	} {
		t.Run(promise.name, func(t *testing.T) {
			user := strings.ToLower(promise.name)
			w.addUser(t, user)
			w.proxy.reset(0)
			promise.keep(t, w, user)
		})
	}
}

// login opens the page that the client lists, without a cookie, and logs user in.
func (w *world) login(t *testing.T, p *profile, query, user string) *tab {
	t.Helper()
	tab := p.open(t, w.app+"/"+query)
	if s := tab.settle(t); s.View != "login" {
		t.Fatalf("a page without a cookie shows %+v", s)
	}
	tab.submit(t, user, password)
	if s := tab.settle(t); s.View != "orders" || s.Error != "" {
		t.Fatalf("after the login of %s the page shows %+v", user, s)
	}
	return tab
}

// submit fills in the login form and submits it.
func (tab *tab) submit(t *testing.T, user, password string) {
	t.Helper()
	for name, value := range map[string]string{"username": user, "password": password} {
		field, text := quote(`#login input[name="`+name+`"]`), quote(value)
		tab.do(t, `document.querySelector(`+field+`).value = `+text)
	}
	tab.click(t, "#login button")
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string cannot fail
	return string(b)
}

// press clicks a button and returns what the page shows afterwards.
func (tab *tab) press(t *testing.T, button string) state {
	t.Helper()
	tab.click(t, button)
	return tab.settle(t)
}

// put adds a cookie to p's jar as if the server had set it.
func (p *profile) put(t *testing.T, c cookie, url string) {
	t.Helper()
	p.browser.must(t, "", "Storage.setCookies", object{"browserContextId": p.context, "cookies": []object{{
		"name": c.Name, "value": c.Value, "url": url, "path": c.Path, "sameSite": c.SameSite,
		"secure": c.Secure, "httpOnly": c.HTTPOnly, "expires": c.Expires,
	}}}, nil)
}

// token returns the refresh token in p's jar, or "" if there is none.
func (p *profile) token(t *testing.T) string {
	t.Helper()
	for _, c := range p.cookies(t) {
		if strings.HasSuffix(c.Name, "keymill-"+client) {
			return c.Value
		}
	}
	return ""
}

// outOfReach also tests that the form stays after a wrong password.
func outOfReach(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	tab := p.open(t, w.app)
	tab.submit(t, user, "wrong "+password)
	if s := tab.settle(t); s.View != "login" || !strings.HasPrefix(s.Error, "401") {
		t.Fatalf("after a wrong password the page shows %+v", s)
	}
	tab.submit(t, user, password)
	if s := tab.settle(t); s.View != "orders" {
		t.Fatalf("after the login the page shows %+v", s)
	}
	if s := tab.press(t, "#call"); !strings.HasPrefix(s.Answer, "200") {
		t.Fatalf("the API answered %q", s.Answer)
	}
	tab.press(t, "#refresh")
	if token := p.token(t); !strings.HasPrefix(token, tokenPrefix) {
		t.Fatalf("the jar holds %q, want a refresh token", token)
	}
	if logins := w.proxy.passedOn("/session/login"); len(logins) != 2 || !bytes.Contains(logins[1].Body, []byte(`"access_token"`)) {
		t.Errorf("the logins are %+v: the proxy cannot read their bodies", logins)
	}
	var seen []string
	tab.eval(t, reach, &seen)
	for _, text := range seen {
		if strings.Contains(text, "keymill-") || strings.Contains(text, tokenPrefix) || strings.Contains(text, "eyJhbGci") {
			t.Errorf("a script of the page can read %q", text)
		}
	}
}

// reach reads everything that a script of the page can read.
const reach = `(async () => [
	document.cookie,
	JSON.stringify(await cookieStore.getAll()),
	JSON.stringify({ ...localStorage }),
	JSON.stringify({ ...sessionStorage }),
	JSON.stringify(await indexedDB.databases()),
	JSON.stringify(await caches.keys()),
	document.documentElement.outerHTML,
])()`

func strictCookie(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	w.login(t, p, "", user)
	jar := p.cookies(t)
	if len(jar) != 1 {
		t.Fatalf("the jar holds %+v, want one cookie", jar)
	}
	got := jar[0]
	// A domain without a leading dot is a cookie of that host only.
	want := cookie{Name: "keymill-" + client, Domain: w.hosts.id, Path: "/", SameSite: "Strict", HTTPOnly: true}
	if w.hosts.scheme == "https" {
		want.Name, want.Secure = "__Host-"+want.Name, true
	}
	want.Value, want.Expires = got.Value, got.Expires
	if got != want {
		t.Errorf("the cookie is %+v, want %+v", got, want)
	}
	// The default of refresh.idle. A user who returns within it is still logged in.
	const idle = 14 * 24 * time.Hour
	if left := time.Until(time.Unix(int64(got.Expires), 0)); left < idle-time.Hour || left > idle+time.Minute {
		t.Errorf("the cookie lives for %v, want %v", left, idle)
	}
}

func renewed(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	w.server.Run(t, "audience", "set", audience, "--ttl", briefLife.String())
	tab := w.login(t, p, "", user)
	first := tab.press(t, "#call") // the page may have refreshed for this call too
	time.Sleep(briefLife + time.Second)
	w.server.Run(t, "audience", "set", audience, "--ttl", tokenLife.String())
	w.api.drain()
	w.proxy.reset(0)
	if s := tab.press(t, "#call"); s.Answer != first.Answer || !strings.HasPrefix(s.Answer, "200") || s.Error != "" {
		t.Errorf("the page shows %+v, want the answer %q again", s, first.Answer)
	}
	if got := w.api.drain(); !slices.Equal(got, []int{401, 200}) {
		t.Errorf("the API answered %v, want 401 and then 200", got)
	}
	if n := len(w.proxy.passedOn("/session/refresh")); n != 1 {
		t.Errorf("%d refreshes, want 1", n)
	}
}

func reloaded(t *testing.T, w *world, user string) {
	p := w.browser.newProfile(t)
	tab := w.login(t, p, "", user)
	before := p.token(t)
	old := tab.settle(t).Born
	tab.do(t, `location.reload()`)
	for tab.settle(t).Born == old {
	}
	if s := tab.press(t, "#call"); s.View != "orders" || !strings.HasPrefix(s.Answer, "200") {
		t.Errorf("after a reload the page shows %+v", s)
	}
	if p.token(t) == before {
		t.Error("the reload did not rotate the refresh token")
	}
	if s := p.open(t, w.app).settle(t); s.View != "orders" {
		t.Errorf("a second tab shows %+v", s)
	}
}
