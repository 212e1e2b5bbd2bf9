package endpoint

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/api"
)

// asked is what a proxy asks in these tests.
const asked = "/verify?audience=orders&scope=read"

// proxied asks verify.listen, as a proxy of this machine does.
func (w *world) proxied(method, target string, headers ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://127.0.0.1:8423"+target, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return do(w.t, &http.Client{Transport: directTransport{w.server.Verify(), "127.0.0.1:40000"}}, r)
}

// forwarded returns what the service behind a proxy learns, in the order of the documents.
func forwarded(a answer) string {
	var values []string
	for _, name := range []string{"Subject", "Client", "Scope", "Session"} {
		values = append(values, strings.Join(a.header["X-Auth-"+name], "+"))
	}
	return strings.Join(values, "|")
}

// letIn fails unless the answer is 204 with these headers and nothing else.
func letIn(t *testing.T, what string, a answer, want string) {
	t.Helper()
	if got := forwarded(a); a.status != 204 || got != want || a.body != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %d %q %v %s, want 204 and %q", what, a.status, got, a.header, a.body, want)
	}
}

// keptOut fails unless the answer has that status, a challenge that ends so, and tells nothing about a token.
func keptOut(t *testing.T, what string, a answer, status int, challenge string) {
	t.Helper()
	got := a.header.Get("WWW-Authenticate")
	if a.status != status || (challenge == "") != (got == "") || !strings.HasSuffix(got, challenge) || strings.ReplaceAll(forwarded(a), "|", "") != "" ||
		a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: %d, challenge %q, headers %v, %s; want %d and %q", what, a.status, got, a.header, a.body, status, challenge)
	}
}

const (
	noToken      = `Bearer realm="orders"`
	invalidToken = noToken + `, error="invalid_token"`
)

// TestAProxyLearnsWhoHoldsAValidToken, from all four headers, whatever a client has put into the request.
//
// R125.
func TestAProxyLearnsWhoHoldsAValidToken(t *testing.T) {
	w := newWorld(t).withAlice()
	service, person := w.token(w.post(w.good())), w.obtain().Access
	session := w.verify(person, "orders").SessionID
	const ofService = "billing|billing|read write|-"
	letIn(t, "a service", w.proxied("GET", asked, bearer(service)), ofService)
	letIn(t, "a person", w.proxied("GET", asked, bearer(person)), "7|web|read write|"+session)
	letIn(t, "HEAD", w.proxied("HEAD", asked, bearer(service)), ofService)
	letIn(t, "no scope", w.proxied("GET", "/verify?audience=orders", bearer(service)), ofService)
	letIn(t, "two scopes", w.proxied("GET", "/verify?scope=read+write&audience=orders", bearer(service)), ofService)
	letIn(t, "a scope twice", w.proxied("GET", asked+"&scope=write&scope=read", bearer(service)), ofService)
	letIn(t, "another case", w.proxied("GET", asked, "authorization: bEARER   "+service), ofService)
	letIn(t, "forged headers", w.proxied("GET", asked, bearer(service), "X-Auth-Subject: root", "X-Auth-Scope: admin", "X-Auth-Scope: all",
		"X-Forwarded-For: 192.0.2.9", "X-Forwarded-Uri: /?access_token=x", "X-Original-URL: /verify?audience=shop", "X-HTTP-Method-Override: POST",
		"Cookie: token=x"), ofService)
	narrow := w.token(w.post(w.good("scope=read")))
	letIn(t, "fewer scopes", w.proxied("GET", asked, bearer(narrow)), "billing|billing|read|-")
	bare := w.token(w.post("grant_type=client_credentials&client_id=bare&client_secret=" + url.QueryEscape(w.client("bare"))))
	letIn(t, "none", w.proxied("GET", "/verify?audience=orders", bearer(bare)), "bare|bare|-|-")
}

// TestAProxyKeepsOutAllOthers: no token, more than one, one in another place, and one that is not valid.
//
// R126.
func TestAProxyKeepsOutAllOthers(t *testing.T) {
	w := newWorldAt(t, testIssuer, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }).withAlice()
	good := w.token(w.post(w.good()))
	tampered := good[:len(good)-8] + "AAAAAAAA"
	sign := w.importedKey()
	to := func(audience, claims string, expires int64) string {
		now := time.Now().Unix()
		return sign(fmt.Sprintf(`{"iss":"%s","aud":"%s","iat":%d,"exp":%d,"scope":"read",%s}`, testIssuer, audience, now-5, now+expires, claims))
	}
	of := func(claims string, expires int64) string { return to("orders", claims, expires) }
	const whose = `"sub":"billing","client_id":"billing"`
	letIn(t, "the imported key", w.proxied("GET", asked, bearer(of(whose, 60))), "billing|billing|read|-")
	for what, tt := range map[string]struct {
		headers   []string
		challenge string
	}{
		"nothing":             {nil, noToken},
		"another scheme":      {[]string{basic("billing", w.secret)}, noToken},
		"a cookie":            {[]string{"Cookie: access_token=" + good + "; Authorization=Bearer " + good}, noToken},
		"another header":      {[]string{"X-Authorization: Bearer " + good, "Proxy-Authorization: Bearer " + good, "X-Forwarded-Access-Token: " + good}, noToken},
		"an empty token":      {[]string{"Authorization: Bearer "}, invalidToken},
		"no scheme":           {[]string{"Authorization: " + good}, noToken},
		"two headers":         {[]string{bearer(good), bearer(good)}, invalidToken},
		"two, one empty":      {[]string{bearer(good), "Authorization: "}, invalidToken},
		"two, one Basic":      {[]string{basic("billing", w.secret), bearer(good)}, invalidToken},
		"two tokens":          {[]string{bearer(good + " " + good)}, invalidToken},
		"two with a comma":    {[]string{bearer(good + ", Bearer " + good)}, invalidToken},
		"a comma":             {[]string{bearer(good + ",")}, invalidToken},
		"a quoted token":      {[]string{bearer(`"` + good + `"`)}, invalidToken},
		"a tab":               {[]string{"Authorization: Bearer\t" + good}, noToken},
		"garbage":             {[]string{bearer("garbage")}, invalidToken},
		"a long token":        {[]string{bearer(strings.Repeat("a.", 20_000))}, invalidToken},
		"a tampered token":    {[]string{bearer(tampered)}, invalidToken},
		"a refresh token":     {[]string{bearer(w.obtain().Refresh)}, invalidToken},
		"another audience":    {[]string{bearer(to("shop", whose, 60))}, invalidToken},
		"an expired token":    {[]string{bearer(of(whose, -1))}, invalidToken},
		"no audience":         {[]string{bearer(sign(`{"iss":"` + testIssuer + `","iat":1800000000,"exp":4000000000,` + whose + `}`))}, invalidToken},
		"an unknown client":   {[]string{bearer(of(`"sub":"x","client_id":"x"`, 60))}, invalidToken},
		"claims of 5,000 B":   {[]string{bearer(of(`"sub":"`+strings.Repeat("x", 5000)+`","client_id":"billing"`, 60))}, invalidToken},
		"claims of 3,000 NUL": {[]string{bearer(of(`"sub":"`+strings.Repeat(`\u0000`, 1500)+`","client_id":"billing"`, 60))}, invalidToken},
	} {
		keptOut(t, what, w.proxied("GET", asked, append(tt.headers, "X-Forwarded-For: 192.0.2.9")...), 401, tt.challenge)
	}
	keptOut(t, "another scope", w.proxied("GET", "/verify?audience=orders&scope=refund&scope=read", bearer(good)), 403,
		noToken+`, error="insufficient_scope", scope="refund read"`)
	keptOut(t, "a part of a scope", w.proxied("GET", "/verify?audience=orders&scope=rea", bearer(good)), 403, `scope="rea"`)
	text := w.log.String()
	if strings.Contains(text, good[:40]) || strings.Contains(text, w.secret) || strings.Contains(text, `"ERROR"`) {
		t.Errorf("the log:\n%s", text)
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, `"path":"/verify"`) && strings.Contains(line, `"from"`) {
			t.Errorf("X-Forwarded-For of a trusted proxy was read: %s", line)
		}
	}
}

// TestAWrongQueryIsTheOperatorsMistake: 400, which no proxy lets in, and a warning in the log.
func TestAWrongQueryIsTheOperatorsMistake(t *testing.T) {
	w := newWorld(t)
	good := w.token(w.post(w.good()))
	w.proxied("GET", "/verify?audience=ordres")
	if text := w.log.String(); !strings.Contains(text, "audience 'ordres' does not exist") || !strings.Contains(text, `"level":"WARN"`) {
		t.Errorf("the log does not warn of the unknown audience:\n%s", text)
	}
	for query, words := range map[string]string{
		"":                                  "parameter audience is missing",
		"scope=read":                        "parameter audience is missing",
		"audience=":                         "parameter audience is missing",
		"audience=orders&audience=orders":   "parameter audience is given 2 times",
		"audience=orders&audience=shop":     "parameter audience is given 2 times",
		"audience=ordres":                   "audience 'ordres' does not exist",
		"audience=orders%00":                "does not exist",
		"audience=keymill-admin":            "checks its tokens itself",
		"audience=orders&scope=":            "is not a scope",
		"audience=orders&scope=read++write": "is not a scope",
		"audience=orders&scope=r%22":        "is not a scope",
		"audience=orders&scopes=read":       "'scopes' is unknown",
		"audience=orders&Scope=read":        "'Scope' is unknown",
		"audience=orders;scope=read":        "malformed",
		"audience=orders&scope=%zz":         "malformed",
		"audience=orders&access_token=" + url.QueryEscape(good): "a token in the query is not read",
		"audience=orders" + strings.Repeat("&scope=read", 51):   "at most 50",
		"audience=orders&scope=" + strings.Repeat("x", 9000):    "more than 8192 bytes",
	} {
		for _, headers := range [][]string{{bearer(good)}, nil} {
			a := w.proxied("GET", "/verify?"+query, headers...)
			keptOut(t, query, a, 400, "")
			if description, _ := a.json(t)["error_description"].(string); a.code(t) != "invalid_request" || !strings.Contains(description, words) {
				t.Errorf("%.60s: %s, want %q", query, a.body, words)
			}
		}
	}
	if strings.Contains(w.log.String(), good[:40]) {
		t.Error("the log has a token")
	}
}

// TestARevocationIsSeenWithTheNextRequest, since nothing is cached, also at another server of the store: of the token, its session, its client, its user and
// all sessions.
//
// R127.
func TestARevocationIsSeenWithTheNextRequest(t *testing.T) {
	off, disabled := true, api.UserChange{Disabled: new(true)}
	for what, revoke := range map[string]func(w *world, token string) error{
		"the token": func(w *world, token string) error { w.ask("/revoke", token, "client_id=web"); return nil },
		"the session": func(w *world, token string) error {
			_, err := w.issuer.RevokeSession(w.t.Context(), w.verify(token, "orders").SessionID, "uid:0")
			return err
		},
		"its client": func(w *world, _ string) error {
			_, err := w.issuer.SetClient(w.t.Context(), "web", api.ClientChange{Disabled: &off}, "uid:0")
			return err
		},
		"its user": func(w *world, _ string) error {
			_, err := w.issuer.SetUser(w.t.Context(), "7", disabled, "uid:0")
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			var cfg Config
			w := newWorldAt(t, testIssuer, func(c *Config) { cfg = *c }).withAlice()
			var err error
			if cfg.Issuer, err = issuer.Open(t.Context(), issuer.Config{URL: testIssuer, Store: w.store, Keys: w.keys}); err != nil {
				t.Fatal(err)
			}
			other, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			token, own := w.obtain().Access, w.server
			ask := func(s *Server) answer { w.server = s; return w.proxied("GET", asked, bearer(token)) }
			for _, server := range []*Server{own, other} {
				if before := ask(server); before.status != 204 {
					t.Fatalf("before: %d %s", before.status, before.body)
				}
			}
			if err := revoke(w, token); err != nil {
				t.Fatal(err)
			}
			keptOut(t, "after, at another server", ask(other), 401, invalidToken)
			keptOut(t, "after", ask(own), 401, invalidToken)
		})
	}
}

// TestOnDoubtNoneIsLetIn: a damaged record and a store that has failed are 503.
func TestOnDoubtNoneIsLetIn(t *testing.T) {
	w := newWorld(t).withAlice()
	token := w.obtain().Access
	for _, key := range []string{"client/web", "user/7", "audience/orders"} {
		records := w.stored(func(k string) bool { return k == key })
		w.putBelow(map[string][]byte{key: oneBit(records[key])})
		keptOut(t, "damaged "+key, w.proxied("GET", asked, bearer(token)), 503, "")
		w.putBelow(records)
	}
	if a := w.proxied("GET", asked, bearer(token)); a.status != 204 {
		t.Errorf("repaired: %d %s", a.status, a.body)
	}
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, headers := range [][]string{{bearer(token)}, nil} {
		if a := w.proxied("GET", asked, headers...); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("without a store: %d %v %s", a.status, a.header, a.body)
		}
	}
}

// TestOnlyVerifyListenAnswersProxies: the other listeners have no such path, and this one has no other.
//
// R128.
func TestOnlyVerifyListenAnswersProxies(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics)
	good := w.token(w.post(w.good()))
	for _, path := range []string{asked, "/verify", "/verify/", "//verify?audience=orders", "/VERIFY?audience=orders", "/%76erify?audience=orders"} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS"} {
			if a := w.send(method, path, "", bearer(good)); a.status != 404 || forwarded(a) != "|||" {
				t.Errorf("the public listener: %s %s is %d %v", method, path, a.status, a.header)
			}
		}
		if a := w.monitored("GET", path); a.status != 404 {
			t.Errorf("the metrics listener: %s is %d", path, a.status)
		}
		if a := w.askAdmin("GET", path, ""); a.status != 404 {
			t.Errorf("the admin socket: %s is %d", path, a.status)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECTX"} {
		a := w.proxied(method, asked, bearer(good))
		if a.status != 405 || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, a.status, a.header.Get("Allow"))
		}
	}
	for _, r := range w.server.public.routes {
		if a := w.proxied(r.method, r.path, bearer(good)); a.status != 404 {
			t.Errorf("verify.listen: %s %s is %d", r.method, r.path, a.status)
		}
	}
	for _, path := range []string{"/", "/metrics", "/admin/v1/status", "/verify/", "//verify?audience=orders", "/verify/x?audience=orders"} {
		if a := w.proxied("GET", path, bearer(good)); a.status != 404 {
			t.Errorf("verify.listen: %s is %d", path, a.status)
		}
	}
	if len(w.server.verify.routes) != 2 {
		t.Errorf("verify.listen serves %v", w.server.verify.routes)
	}
}

// TestAnswersToProxiesAreCounted, and requests for that path elsewhere are not among them.
func TestAnswersToProxiesAreCounted(t *testing.T) {
	w := newWorldAt(t, testIssuer, withMetrics)
	good := w.token(w.post(w.good()))
	w.proxied("GET", asked, bearer(good))
	w.proxied("GET", asked)
	w.proxied("GET", asked, bearer("x"))
	w.proxied("GET", "/verify?audience=orders&scope=refund", bearer(good))
	w.proxied("GET", "/verify")
	w.proxied("GET", "/nothing")
	w.send("GET", asked, "")
	counted := w.scrape()
	for series, want := range map[string]string{
		`keymill_request_seconds_count{code="2xx",endpoint="/verify"}`:              "1",
		`keymill_request_seconds_count{code="4xx",endpoint="/verify"}`:              "5",
		`keymill_refusals_total{endpoint="/verify",error="no_token"}`:               "1",
		`keymill_refusals_total{endpoint="/verify",error="invalid_token"}`:          "1",
		`keymill_refusals_total{endpoint="/verify",error="insufficient_scope"}`:     "1",
		`keymill_refusals_total{endpoint="/verify",error="invalid_request"}`:        "1",
		`keymill_refusals_total{endpoint="/verify",error="other"}`:                  "1",
		`keymill_refusals_total{endpoint="/verify",error="server_error"}`:           "0",
		`keymill_request_seconds_count{code="4xx",endpoint="unknown"}`:              "1",
		`keymill_request_seconds_count{code="2xx",endpoint="/token"}`:               "1",
		`keymill_refusals_total{endpoint="/token",error="temporarily_unavailable"}`: "0",
	} {
		if counted[series] != want {
			t.Errorf("%s is %q, want %s", series, counted[series], want)
		}
	}
}

// TestEveryClaimFitsIntoAHeader: two claims never become one value, and no value ends a line.
func TestEveryClaimFitsIntoAHeader(t *testing.T) {
	w := newWorld(t)
	sign := w.importedKey()
	for _, tt := range []struct{ subject, scope, want string }{
		{"-", "-", "%2D|billing|%2D|-"},
		{"a b", "read  write ", "a%20b|billing|read write|-"},
		{"a%20b", "a%20b", "a%2520b|billing|a%2520b|-"},
		{"Zoë\r\nX-Auth-Scope: admin", "read\tadmin", "Zo%C3%AB%0D%0AX-Auth-Scope:%20admin|billing|read%09admin|-"},
		{"\u0000\u007f", "  ", "%00%7F|billing|-|-"},
		{`{env.HOME}$user,"\`, "a,b", `{env.HOME}$user,"\|billing|a,b|-`},
	} {
		now := time.Now().Unix()
		subject, _ := json.Marshal(tt.subject)
		scope, _ := json.Marshal(tt.scope)
		token := sign(fmt.Sprintf(`{"iss":"%s","aud":"orders","sub":%s,"client_id":"billing","scope":%s,"iat":%d,"exp":%d}`, testIssuer, subject, scope, now-5, now+60))
		letIn(t, tt.subject, w.proxied("GET", "/verify?audience=orders", bearer(token)), tt.want)
	}
}
