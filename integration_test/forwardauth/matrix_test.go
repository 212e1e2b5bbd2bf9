package forwardauth

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// names are those of the headers for the service, in the order of the documents.
var names = []string{"x-auth-subject", "x-auth-client", "x-auth-scope", "x-auth-session"}

// learned returns what the service learns from the headers of a request. A service may read "-" and "_" alike, as those
// behind WSGI and CGI do, and "." too, as PHP does. It may take any of several values.
func learned(h http.Header) string {
	values := map[string][]string{}
	for name, list := range h {
		alike := strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(name))
		values[alike] = append(values[alike], list...)
	}
	var all []string
	for _, name := range names {
		all = append(all, strings.Join(values[name], "+"))
	}
	return strings.Join(all, "|")
}

func (p *proxy) letsIn(what string, a answer, want string) {
	p.t.Helper()
	if a.status != 200 || a.received == nil || learned(a.received) != want {
		p.t.Errorf("%s, %s: %d %v, the service got %v; want %s", p.name, what, a.status, a.header, a.received, want)
	}
}

func (p *proxy) keepsOut(what string, a answer, statuses ...int) {
	p.t.Helper()
	for _, status := range statuses {
		if a.status == status && a.received == nil {
			return
		}
	}
	p.t.Errorf("%s, %s: %d %v, the service got %v; want %v", p.name, what, a.status, a.header, a.received, statuses)
}

const ofBilling = "billing|billing|read write|-"

// TestTheProxiesOfTheDocuments with real programs and the configurations of the documents.
func TestTheProxiesOfTheDocuments(t *testing.T) {
	w := newWorld(t, true)
	w.checks(w.proxies()...)
}

// checks sends good and bad tokens through proxies.
func (w *world) checks(proxies ...*proxy) {
	t := w.t
	t.Helper()
	good := w.token(w.billing, "orders")
	other := w.token(w.client("clerk", "shop", "read"), "shop")
	narrow := w.token(w.client("writer", "orders", "write"), "orders")
	odd := w.sign(nil, map[string]any{"sub": "{env.HOME}$host %", "client_id": w.client("{env.HOME}$host %", "orders").ID, "scope": "write read"})
	for _, p := range proxies {
		p.letsIn("a good token", p.ask("/", bearer(good)), ofBilling)
		p.letsIn("the imported key", p.ask("/", bearer(w.sign(nil, nil))), "billing|billing|read|-")
		for what, token := range map[string]string{
			"a tampered token":           good[:len(good)-6] + "AAAAAA",
			"another audience":           other,
			"an expired token":           w.sign(nil, map[string]any{"exp": time.Now().Unix() - 1, "iat": time.Now().Unix()}),
			"another issuer":             w.sign(nil, map[string]any{"iss": "https://id.example.org"}),
			"another type":               w.sign(map[string]any{"typ": "JWT"}, nil),
			"no algorithm":               w.sign(map[string]any{"alg": "none"}, nil),
			"claims as long as a header": w.sign(nil, map[string]any{"sub": strings.Repeat("x", 5000)}),
			"nonsense":                   "nonsense",
		} {
			a := p.ask("/", bearer(token))
			p.keepsOut(what, a, 401)
			if got := a.header.Get("WWW-Authenticate"); got != `Bearer realm="orders", error="invalid_token"` {
				t.Errorf("%s, %s: challenge %q", p.name, what, got)
			}
		}
		p.passesBodies(good)
		p.passesTargets(good)
		p.letsIn("an odd client", p.ask("/", bearer(odd)), "{env.HOME}$host%20%25|{env.HOME}$host%20%25|write read|-")
		p.keepsOut("a missing scope", p.ask("/", bearer(narrow)), 403)
		none := p.ask("/")
		p.keepsOut("no token", none, 401)
		if got := none.header.Get("WWW-Authenticate"); got != `Bearer realm="orders"` {
			t.Errorf("%s, no token: challenge %q", p.name, got)
		}
		large := "X-Large: " + strings.Repeat("x", 7500)
		p.letsIn("20 KB of cookies", p.ask("/", bearer(good), "Cookie: "+large, "Cookie: "+large, "Cookie: "+large), ofBilling)
		if p.name == "caddy" { // it sends them to Keymill
			p.keepsOut("40 KB of other headers", p.ask("/", bearer(good), large, large, large, large, large), 431)
		} else {
			p.letsIn("20 KB of other headers", p.ask("/", bearer(good), large, large, large), ofBilling)
		}
		p.oddRequests(good, narrow)
	}
}

// passesBodies sends a body, which is for the service and not for Keymill.
func (p *proxy) passesBodies(good string) {
	p.t.Helper()
	const size = 300_000
	a := p.send("POST /", []string{bearer(good), fmt.Sprintf("Content-Length: %d", size)}, strings.Repeat("x", size))
	p.letsIn("a body", a, ofBilling)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.method != "POST" || p.bodyBytes != size {
		p.t.Errorf("%s: the service got %s with %d bytes", p.name, p.method, p.bodyBytes)
	}
}

// passesTargets sends an encoded path, which no proxy may decode on the way, and asks for a WebSocket.
func (p *proxy) passesTargets(good string) {
	p.t.Helper()
	const target = "/a%2Fb/%C3%A4?x=%20&audience=shop"
	p.letsIn("an encoded path", p.ask(target, bearer(good)), ofBilling)
	if p.target != target {
		p.t.Errorf("%s: the service got %s, want %s", p.name, p.target, target)
	}
	if p.name == "nginx" { // its page has no lines for it
		return
	}
	upgrade := []string{"Connection: Upgrade, X-Auth-Session", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	p.keepsOut("a WebSocket without a token", p.ask("/", upgrade...), 401)
	a := p.ask("/", append(upgrade, bearer(good))...)
	if a.status != http.StatusSwitchingProtocols || learned(a.received) != ofBilling {
		p.t.Errorf("%s, a WebSocket: %d, the service got %v", p.name, a.status, a.received)
	}
}

// oddRequests sends what a client should not be able to use.
func (p *proxy) oddRequests(good, narrow string) {
	p.t.Helper()
	for what, lines := range map[string][]string{
		"forged":               {"X-Auth-Subject: root", "X-Auth-Client: root", "X-Auth-Scope: admin", "X-Auth-Session: 1"},
		"twice":                {"X-Auth-Subject: root", "X-Auth-Subject: admin"},
		"another case":         {"x-auth-subject: root", "X-AUTH-SCOPE: admin"},
		"underscores":          {"X_Auth_Subject: root", "X_AUTH_SCOPE: admin", "x_auth_session: 1"},
		"mixed":                {"X-Auth_Subject: root", "X_Auth-Scope: admin"},
		"dots":                 {"X.Auth.Subject: root", "x.AUTH-scope: admin", "X-Auth.Client: root", "X_Auth.Session: 1"},
		"similar":              {"X-Auth-User: root", "X-Auth-Subject-: root", "X-Authenticated: root"},
		"taken away":           {"Connection: close, X-Auth-Subject, X-Auth-Scope, X-Auth-Client, X-Auth-Session"},
		"taken away and back":  {"X-Auth-Subject: root", "Connection: X-Auth-Subject, keep-alive"},
		"another method":       {"X-HTTP-Method-Override: OPTIONS", "X-Original-Method: OPTIONS"},
		"another address":      {"X-Original-URL: /verify?audience=shop", "X-Rewrite-URL: /verify?audience=shop", "X-Forwarded-Uri: /verify?audience=shop"},
		"a body":               {"Content-Length: 0"},
		"placeholders":         {"X-Auth-Subject: {http.request.host}$host"},
		"cookies of 3,000 B":   {"Cookie: " + strings.Repeat("x", 3000)},
		"a cookie with tokens": {"Cookie: access_token=" + narrow},
	} {
		p.letsIn(what, p.ask("/?audience=shop&scope=none", append(lines, bearer(good))...), ofBilling)
	}
	for what, tt := range map[string]struct {
		path  string
		lines []string
	}{
		"two tokens":               {"/", []string{bearer(narrow), bearer(good)}},
		"two tokens, other case":   {"/", []string{bearer(good), "AUTHORIZATION: Bearer " + narrow}},
		"two tokens in one line":   {"/", []string{bearer(good + ", Bearer " + narrow)}},
		"a token in the query":     {"/?access_token=" + good, nil},
		"a token in a cookie":      {"/", []string{"Cookie: access_token=" + good + "; Authorization=" + good}},
		"a token in another place": {"/", []string{"X-Authorization: Bearer " + good, "X-Forwarded-Access-Token: " + good, "Authorization_: Bearer " + good}},
		"Basic":                    {"/", []string{"Authorization: Basic YmlsbGluZzp4"}},
		"a query for us":           {"/?audience=orders&scope=write", []string{bearer(narrow)}},
		"a path for us":            {"/keymill-verify", nil},
		"our path":                 {"/verify?audience=orders", nil},
		"taken away":               {"/", []string{bearer(good), "Connection: Authorization"}},
	} {
		if a := p.ask(tt.path, tt.lines...); a.received != nil && what != "taken away" {
			p.t.Errorf("%s, %s: %d, the service got %v", p.name, what, a.status, a.received)
		} else if a.received == nil && a.status/100 != 4 {
			p.t.Errorf("%s, %s: %d", p.name, what, a.status)
		}
	}
}

// TestARevocationCountsAtTheProxy within a second: of a token, its client and its key. A rotation changes nothing.
func TestARevocationCountsAtTheProxy(t *testing.T) {
	w := newWorld(t, false)
	all := w.proxies()
	old := w.token(w.billing, "orders")
	each := func(what string, do func(p *proxy)) {
		t.Helper()
		for _, p := range all {
			do(p)
		}
		if t.Failed() {
			t.Fatalf("after: %s", what)
		}
	}
	for range 2 {
		w.Run(t, "key", "rotate", "--alg", "EdDSA", "--force")
	}
	fresh := w.token(w.billing, "orders")
	each("two rotations", func(p *proxy) {
		p.letsIn("the key of before two rotations", p.ask("/", bearer(old)), ofBilling)
		p.letsIn("the key of after them", p.ask("/", bearer(fresh)), ofBilling)
	})
	mine := w.sign(nil, nil)
	each("an imported key", func(p *proxy) { p.letsIn("before", p.ask("/", bearer(mine)), "billing|billing|read|-") })
	w.Run(t, "key", "revoke", "imported")
	each("the key was revoked", func(p *proxy) { p.keepsOut("a revoked key", p.ask("/", bearer(mine)), 401) })

	w.revoke(fresh)
	each("the token was revoked", func(p *proxy) {
		p.keepsOut("a revoked token", p.ask("/", bearer(fresh)), 401)
		p.letsIn("another token of its client", p.ask("/", bearer(old)), ofBilling)
	})
	w.Run(t, "client", "disable", "billing")
	each("the client is disabled", func(p *proxy) { p.keepsOut("a disabled client", p.ask("/", bearer(old)), 401) })

	w.Run(t, "client", "enable", "billing")
	again := w.sleepUntilValid()
	each("the client is enabled", func(p *proxy) { p.letsIn("a new token", p.ask("/", bearer(again)), ofBilling) })
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	each("the server is down", func(p *proxy) { p.keepsOut("without a server", p.ask("/", bearer(again)), 500, 502, 503) })
}

// revoke sends a token of billing to /revoke.
func (w *world) revoke(token string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "POST", w.URL+"/revoke", strings.NewReader("token="+token))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(w.billing.ID, w.billing.Secret)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 200 {
		w.t.Fatalf("/revoke: %d", answer.StatusCode)
	}
}

// sleepUntilValid returns a token that billing got more than a second after it was disabled: within that second the
// tokens of a client are inactive (docs/http.md).
func (w *world) sleepUntilValid() string {
	w.t.Helper()
	time.Sleep(1100 * time.Millisecond)
	return w.token(w.billing, "orders")
}
