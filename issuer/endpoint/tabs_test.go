package endpoint

import (
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"keymill/issuer/api"
	"keymill/issuer/refusal"
)

// A browserJar is what the tabs of one browser share.
type browserJar struct {
	*cookiejar.Jar
	at *url.URL
}

func newJar(t *testing.T) browserJar {
	t.Helper()
	jar, err1 := cookiejar.New(nil)
	at, err2 := url.Parse(testIssuer)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return browserJar{jar, at}
}

// receive does what a browser does when an answer arrives.
func (j browserJar) receive(a answer) {
	j.SetCookies(j.at, (&http.Response{Header: a.header}).Cookies())
}

// header returns the Cookie header of the next request.
func (j browserJar) header() string {
	var pairs []string
	for _, c := range j.Cookies(j.at) {
		pairs = append(pairs, c.Name+"="+c.Value)
	}
	return "Cookie: " + strings.Join(pairs, "; ")
}

// TestALateRefusalKeepsTheLoginOfAnotherTab: one tab sends a refresh that is refused. Before
// the answer arrives, another tab logs in. The cookie of that login stays, whatever the reason
// of the refusal was.
//
// R100.
func TestALateRefusalKeepsTheLoginOfAnotherTab(t *testing.T) {
	for what, spoil := range map[string]func(w *world, cookie string) (sent string){
		"no cookie":      func(*world, string) string { return "X: y" },
		"an empty value": func(*world, string) string { return "Cookie: __Host-keymill-web=" },
		"not a token":    func(*world, string) string { return "Cookie: __Host-keymill-web=garbage" },
		"two cookies":    func(_ *world, cookie string) string { return cookie + "; __Host-keymill-web=other" },
		"logged out": func(w *world, cookie string) string {
			w.send("POST", "/session/logout", "", cookie)
			return cookie
		},
		"replaced by the login": func(w *world, cookie string) string {
			w.cookieOf(w.loginByCookie(cookie))
			return cookie
		},
		"a new password": func(w *world, cookie string) string {
			if _, err := w.issuer.SetPassword(w.t.Context(), "alice", refusal.Secret(alicesPassword), "uid:0"); err != nil {
				w.t.Fatal(err)
			}
			return cookie
		},
		"a replay": func(w *world, cookie string) string {
			none := "0s"
			w.setClient("web", api.ClientChange{Grace: &none})
			w.cookieOf(w.send("POST", "/session/refresh", "", cookie))
			return cookie
		},
	} {
		t.Run(what, func(t *testing.T) {
			w, jar := newWorld(t).withAlice(), newJar(t)
			jar.receive(w.loginByCookie())
			late := w.send("POST", "/session/refresh", "", spoil(w, jar.header()))
			refusedToken(t, "the late answer", late, 401, "invalid_grant")
			jar.receive(w.loginByCookie())
			fresh := jar.header()
			jar.receive(late)
			if jar.header() != fresh {
				t.Fatalf("the late answer changed the cookie: %v", late.header["Set-Cookie"])
			}
			w.cookieOf(w.send("POST", "/session/refresh", "", jar.header()))
		})
	}
}

// TestOnlyALogoutClearsTheCookie sends what each path refuses, with every status that it has.
func TestOnlyALogoutClearsTheCookie(t *testing.T) {
	w := newWorld(t).withAlice()
	cookie := "Cookie: " + w.cookieOf(w.loginByCookie())
	answers := map[string]answer{}
	refuse := func(what string, status int, a answer) {
		if answers[what] = a; a.status != status {
			t.Errorf("%s: %d %s, want %d", what, a.status, a.body, status)
		}
	}
	for _, path := range []string{"/session/login", "/session/refresh", "/session/logout"} {
		refuse(path+" in the URL", 400, w.postJSON(path+"?password=x", "{}", cookie))
		refuse(path+" with a member", 400, w.postJSON(path, `{"all":true}`, cookie))
		refuse(path+" from elsewhere", 403, w.postJSON(path, "{}", cookie, "Origin: https://evil.example"))
		refuse(path+" with GET", 405, w.send("GET", path, "", cookie))
		refuse(path+" at length", 413, w.postJSON(path, strings.Repeat(" ", maxFormBytes+1), cookie))
		refuse(path+" as a form", 415, w.postForm(path, "a=b", cookie))
		refuse(path+" preflight", 204, w.send("OPTIONS", path, "", cookie, "Origin: "+appOrigin, "Access-Control-Request-Method: POST"))
	}
	refuse("a wrong password", 401, w.postJSON("/session/login", credentials("alice", "wrong"), cookie))
	refuse("a foreign scope", 400, w.postJSON("/session/refresh", `{"scope":"admin"}`, cookie))
	fails := errors.New("the disk is broken")
	w.counted.failUpdates.Store(&fails)
	refuse("a refresh that fails", 500, w.send("POST", "/session/refresh", "", cookie))
	refuse("a logout that fails", 500, w.send("POST", "/session/logout", "", cookie))
	w.counted.failUpdates.Store(nil)
	off := true
	w.setClient("web", api.ClientChange{Disabled: &off})
	refuse("a refresh of a disabled client", 503, w.send("POST", "/session/refresh", "", cookie))
	for what, a := range answers {
		if set := a.header["Set-Cookie"]; set != nil {
			t.Errorf("%s: %v", what, set)
		}
	}
	off = false
	w.setClient("web", api.ClientChange{Disabled: &off})
	if a := w.send("POST", "/session/logout", "", cookie); !cleared(a) {
		t.Errorf("logout: %d %v", a.status, a.header)
	}
}
