package endpoint

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/adminscope"
	"keymill/issuer/api"
	"keymill/issuer/claim"
	"keymill/issuer/endpoint/admin"
	"keymill/issuer/endpoint/admin/access"
	"keymill/issuer/endpoint/limit"
	"keymill/issuer/refusal"
)

// A remoteWorld is a world that serves the admin API to holders of tokens.
type remoteWorld struct {
	*world
	asked int // requests so far
}

func newRemoteWorld(t *testing.T) *remoteWorld {
	t.Helper()
	w := newWorld(t)
	var err error
	if w.issuer, err = issuer.Open(t.Context(), issuer.Config{URL: w.url, Store: &w.counted, Keys: w.keys, Admin: true}); err != nil {
		t.Fatal(err)
	}
	c := w.server.cfg
	c.Issuer, c.AdminHosts = w.issuer, &access.Hosts{Port: "8421", Loopback: true}
	if w.server, err = New(c); err != nil {
		t.Fatal(err)
	}
	w.admin = serveAdmin(t, w.server)
	return &remoteWorld{world: w}
}

// administrator adds a client of the admin API and returns its secret.
func (w *remoteWorld) administrator(id string, scopes ...string) string {
	w.t.Helper()
	c, err := w.issuer.AddClient(w.t.Context(), api.NewClient{
		ID: id, Grants: []string{"client_credentials"}, Audiences: []string{adminscope.Audience}, Scopes: scopes,
	}, "uid:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return string(c.Secret)
}

// tokenOf returns a token of the client with these scopes; without any, with all that the client has.
func (w *remoteWorld) tokenOf(id, secret string, scopes ...string) string {
	w.t.Helper()
	g, err := w.issuer.Token(w.t.Context(), issuer.TokenRequest{
		GrantType: "client_credentials", Scope: strings.Join(scopes, " "),
		Client: issuer.Credentials{ClientID: id, Secret: refusal.Secret(secret), Method: "client_secret_basic"},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return g.AccessToken
}

// signed returns a token of deployer with all scopes, after a change.
func (w *remoteWorld) signed(change func(*claim.Token)) string {
	w.t.Helper()
	now := w.keys.WallTime()
	c := claim.Token{
		Issuer: w.url, Subject: "deployer", Audience: adminscope.Audience, Client: "deployer", ID: claim.NewTokenID(),
		Issued: now.Unix(), Expires: now.Add(adminscope.Lifetime).Unix(), Scope: strings.Join(adminscope.Names(), " "),
	}
	change(&c)
	payload, _ := c.Payload()
	token, err := w.keys.Sign(w.t.Context(), "EdDSA", "at+jwt", payload, now.Add(adminscope.Lifetime))
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// ask sends a request to the listener, each from an address of its own. Headers are "Name: value".
func (w *remoteWorld) ask(method, path, body string, headers ...string) answer {
	w.t.Helper()
	w.asked++
	r := httptest.NewRequest(method, "http://localhost:8421"+path, strings.NewReader(body))
	r.RemoteAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(w.asked >> 16), byte(w.asked >> 8), byte(w.asked)}), 1).String()
	for _, h := range headers {
		switch name, value, _ := strings.Cut(h, ": "); name {
		case "Host":
			r.Host = value
		case "From-Address":
			r.RemoteAddr = value
		default:
			r.Header.Add(name, value)
		}
	}
	resp, err := recorded(served{w.server.Remote()}).RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("Set-Cookie") != "" {
		w.t.Errorf("%s %s: the answer has headers for browsers: %v", method, path, resp.Header)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

// A served handler answers requests without a network.
type served struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (s served) RoundTrip(r *http.Request) (*http.Response, error) {
	out := httptest.NewRecorder()
	s.ServeHTTP(out, r)
	if r.Method == http.MethodHead {
		out.Body.Reset()
	}
	return out.Result(), nil
}

func bearer(token string) string { return "Authorization: Bearer " + token }

// routes are those of the API, with HEAD.
func routes() (all []admin.Route) {
	for _, r := range admin.New(admin.Config{}).Routes() {
		all = append(all, r)
		if r.Method == http.MethodGet {
			r.Method = http.MethodHead
			all = append(all, r)
		}
	}
	return all
}

// TestEveryRouteNeedsATokenWithItsScope. What a token is refused for is refused before the route is looked at,
// so no handler runs.
func TestEveryRouteNeedsATokenWithItsScope(t *testing.T) {
	w := newRemoteWorld(t)
	w.withAlice()
	all := adminscope.Names()
	secret := w.administrator("deployer", all...)
	user := w.obtain()
	refused := map[string]string{
		"no token":                          "",
		"another scheme":                    basic("deployer", secret),
		"the wrong audience":                bearer(w.tokenOf("billing", w.secret)),
		"a user's token":                    bearer(user.Access),
		"a user's token for the admin API":  bearer(w.signed(func(c *claim.Token) { c.Session = "06bt16hmtsqjmpkmpkmpkmpkm8" })),
		"a refresh token":                   bearer(user.Refresh),
		"an expired token":                  bearer(w.signed(func(c *claim.Token) { c.Expires = w.keys.WallTime().Add(-time.Second).Unix() })),
		"a forged token":                    bearer(w.tokenOf("deployer", secret)[:100] + strings.Repeat("A", 86)),
		"a revoked token":                   bearer(w.revoked("deployer", secret)),
		"a token of a removed client":       bearer(w.ended("removed", func(id string) error { return w.issuer.RemoveClient(t.Context(), id, "uid:0") })),
		"a token older than client's epoch": bearer(w.ended("outdated", func(id string) error { return w.issuer.RevokeClientSessions(t.Context(), id, "uid:0") })),
		"a token of a disabled client": bearer(w.ended("disabled", func(id string) error {
			_, err := w.issuer.SetClient(t.Context(), id, api.ClientChange{Disabled: new(true)}, "uid:0")
			return err
		})),
		"a token of a client that lost this": bearer(w.ended("moved", func(id string) error {
			_, err := w.issuer.SetClient(t.Context(), id, api.ClientChange{Audiences: &[]string{"orders"}, Scopes: &[]string{}}, "uid:0")
			return err
		})),
		"a client of the removed audience": bearer(w.signed(func(c *claim.Token) { c.Subject, c.Client = "billing", "billing" })),
	}
	for _, route := range routes() {
		name := route.Method + " " + route.Path
		for what, header := range refused {
			a := w.ask(route.Method, route.Path, "{}", header)
			want := `Bearer realm="keymill-admin", error="invalid_token"`
			if what == "no token" || what == "another scheme" {
				want = `Bearer realm="keymill-admin"`
			}
			if a.status != 401 || a.header.Get("WWW-Authenticate") != want {
				t.Errorf("%s with %s: %d %q", name, what, a.status, a.header.Get("WWW-Authenticate"))
			}
		}
		others := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == string(route.Scope) })
		a := w.ask(route.Method, route.Path, "{}", bearer(w.tokenOf("deployer", secret, others...)))
		challenge := fmt.Sprintf(`Bearer realm="keymill-admin", error="insufficient_scope", scope="%s"`, route.Scope)
		if route.Scope.SocketOnly() {
			challenge = ""
		}
		if a.status != 403 || a.header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%s with the wrong scope: %d %q", name, a.status, a.header.Get("WWW-Authenticate"))
		}
		if route.Scope.SocketOnly() {
			continue
		}
		// The right scope leads to the handler, which refuses what is missing in the request.
		a = w.ask(route.Method, route.Path, "{}", bearer(w.tokenOf("deployer", secret, string(route.Scope))))
		if a.status >= 500 || a.status == 401 || a.status == 403 || a.status == 405 {
			t.Errorf("%s with its scope: %d %s", name, a.status, a.body)
		}
		for what, handler := range map[string]http.Handler{"public": w.server.Public(), "metrics": w.server.Monitor()} {
			out := httptest.NewRecorder()
			r := httptest.NewRequest(route.Method, "http://localhost:8421"+route.Path, strings.NewReader("{}"))
			r.Header.Set("Authorization", "Bearer "+w.tokenOf("deployer", secret))
			if handler.ServeHTTP(out, r); out.Code != 404 {
				t.Errorf("%s on the %s listener: %d", name, what, out.Code)
			}
		}
	}
	if len(routes()) < 30 {
		t.Errorf("%d routes: the test misses most", len(routes()))
	}
}

func (w *remoteWorld) revoked(id, secret string) string {
	w.t.Helper()
	token := w.tokenOf(id, secret)
	err := w.issuer.Revoke(w.t.Context(), issuer.Credentials{ClientID: id, Secret: refusal.Secret(secret), Method: "client_secret_basic"}, refusal.Secret(token), netip.Addr{})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// ended returns a token of a new client, after end.
func (w *remoteWorld) ended(id string, end func(id string) error) string {
	w.t.Helper()
	token := w.tokenOf(id, w.administrator(id, adminscope.Names()...))
	if a := w.ask("GET", "/admin/v1/keys", "", bearer(token)); a.status != 200 {
		w.t.Fatalf("%s, before: %d %s", id, a.status, a.body)
	}
	if err := end(id); err != nil {
		w.t.Fatal(err)
	}
	return token
}

func TestAScopeIsLostAtOnce(t *testing.T) {
	w := newRemoteWorld(t)
	token := w.tokenOf("deployer", w.administrator("deployer", "keys:read", "users:read"))
	if _, err := w.issuer.SetClient(t.Context(), "deployer", api.ClientChange{Scopes: &[]string{"users:read"}}, "uid:0"); err != nil {
		t.Fatal(err)
	}
	if a := w.ask("GET", "/admin/v1/keys", "", bearer(token)); a.status != 403 || a.code(t) != "insufficient_scope" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := w.ask("GET", "/admin/v1/users", "", bearer(token)); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// TestNoRequestOfATokenLeadsToAnotherScope sends to every route bodies and queries in which every name is that of
// a client of the admin API, or of its audience, and every list has its audience and scopes.
func TestNoRequestOfATokenLeadsToAnotherScope(t *testing.T) {
	w := newRemoteWorld(t)
	secret := w.administrator("deployer", adminscope.Names()...)
	other := w.administrator("other", "keys:read")
	before := w.administrators()
	sent := 0
	for _, route := range routes() {
		for _, name := range []string{"other", "new", adminscope.Audience, "client_credentials", "5m"} {
			for _, text := range bodies(route.Body, name) {
				query := url.Values{}
				for _, p := range route.Query {
					if p.Required {
						query.Set(p.Name, name)
					}
				}
				a := w.ask(route.Method, route.Path+"?"+query.Encode(), text, bearer(w.tokenOf("deployer", secret)))
				if sent++; a.status == 401 {
					t.Fatalf("%s %s: %s", route.Method, route.Path, a.body)
				}
				if name == "other" && strings.Contains(a.body, `"client_secret":"`) {
					t.Errorf("%s %s %s: %s", route.Method, route.Path, text, a.body)
				}
			}
		}
	}
	if after := w.administrators(); !reflect.DeepEqual(after, before) {
		t.Errorf("%d requests changed\n%+v to\n%+v", sent, before, after)
	}
	w.tokenOf("other", other) // its secret is unchanged
	a, err := w.issuer.Audience(t.Context(), adminscope.Audience)
	if err != nil || !slices.Equal(a.Scopes, adminscope.Names()) {
		t.Errorf("the audience is %+v, %v", a, err)
	}
	if sent < 200 {
		t.Errorf("only %d requests were sent", sent)
	}
}

// administrators returns the clients that name the audience.
func (w *remoteWorld) administrators() (list []api.Client) {
	w.t.Helper()
	all, err := w.issuer.Clients(w.t.Context(), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(c api.Client) bool {
		return !adminscope.IsOf(api.NewClient{Audiences: c.Audiences, Introspect: c.Introspect})
	})
}

// bodies returns bodies of a type in which every text is name, and every list has what an administrator's
// client has. Alone or with others a member can mean something else, so each also comes alone.
func bodies(of reflect.Type, name string) []string {
	if of == nil {
		return []string{""}
	}
	members := map[string]string{}
	for n := range of.NumField() {
		member, _, _ := strings.Cut(of.Field(n).Tag.Get("json"), ",")
		typ := of.Field(n).Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case member == "-":
		case member == "grants":
			members[member] = `["client_credentials"]`
		case member == "audiences", member == "introspect":
			members[member] = `["keymill-admin"]`
		case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.String:
			members[member] = `["keys:read"]`
		case typ.Kind() == reflect.String:
			members[member] = `"` + name + `"`
		case typ.Kind() == reflect.Bool:
			members[member] = "false"
		}
	}
	delete(members, "origins") // they are no reason to refuse
	delete(members, "introspect")
	for _, lifetime := range []string{"grace", "idle", "absolute"} {
		delete(members, lifetime)
	}
	var list, all []string
	for member, value := range members {
		list = append(list, fmt.Sprintf("{%q:%s}", member, value))
		all = append(all, fmt.Sprintf("%q:%s", member, value))
	}
	whole := "{" + strings.Join(all, ",") + "}" // first, before another body makes such an entry
	return append([]string{whole}, append(list, "{}", `{"disabled":true}`, `{"old_for":"24h"}`, `{"introspect":["keymill-admin"]}`)...)
}

func TestTheAdminListenerIsNotForBrowsersOrOtherNames(t *testing.T) {
	w := newRemoteWorld(t)
	token := bearer(w.tokenOf("deployer", w.administrator("deployer", "keys:read")))
	for _, tt := range []struct {
		what, method, path string
		headers            []string
		status             int
		code               string
	}{
		{"a right request", "GET", "/admin/v1/keys", nil, 200, ""},
		{"a cookie", "GET", "/admin/v1/keys", []string{"Cookie: a=b"}, 200, ""},
		{"another host", "GET", "/admin/v1/keys", []string{"Host: evil.example:8421"}, 421, "wrong_host"},
		{"another port", "GET", "/admin/v1/keys", []string{"Host: localhost"}, 421, "wrong_host"},
		{"an origin", "GET", "/admin/v1/keys", []string{"Origin: http://localhost:8421"}, 403, "origin_refused"},
		{"an empty origin", "GET", "/admin/v1/keys", []string{"Origin: "}, 403, "origin_refused"},
		{"a preflight", "OPTIONS", "/admin/v1/keys", []string{"Origin: https://app.example", "Access-Control-Request-Method: GET"}, 403, "origin_refused"},
		{"OPTIONS", "OPTIONS", "/admin/v1/keys", nil, 405, "invalid_request"},
		{"an unknown path", "GET", "/admin/v1/nothing", nil, 404, "not_found"},
		{"a public path", "GET", "/.well-known/jwks.json", nil, 404, "not_found"},
		{"health", "GET", "/healthz", nil, 404, "not_found"},
		{"two tokens", "GET", "/admin/v1/keys", []string{token}, 400, "invalid_request"},
		{"the token in the query too", "GET", "/admin/v1/audiences?access_token=x", nil, 403, "insufficient_scope"},
		{"another parameter", "GET", "/admin/v1/audit?access_token=x", nil, 403, "insufficient_scope"},
	} {
		a := w.ask(tt.method, tt.path, "", append([]string{token}, tt.headers...)...)
		if a.status != tt.status || tt.code != "" && a.code(t) != tt.code {
			t.Errorf("%s: %d %s", tt.what, a.status, a.body)
		}
	}
	for what, a := range map[string]answer{
		"in the query": w.ask("GET", "/admin/v1/keys?access_token="+strings.TrimPrefix(token, "Authorization: Bearer "), ""),
		"in the body":  w.ask("POST", "/admin/v1/keys/rotate", "access_token="+strings.TrimPrefix(token, "Authorization: Bearer "), formHeader),
		"no path":      w.ask("GET", "/nothing", ""),
	} {
		if a.status != 401 || a.code(t) != "no_token" {
			t.Errorf("a token %s: %d %s", what, a.status, a.body)
		}
	}
	if a := w.ask("OPTIONS", "/admin/v1/keys", ""); a.header.Get("Allow") != "GET, HEAD" && a.header.Get("Allow") != "HEAD, GET" {
		t.Errorf("OPTIONS allows %q", a.header.Get("Allow"))
	}
}

// TestTokensThatAreNotValidAreLimited by address. They write one audit record and change nothing else.
func TestTokensThatAreNotValidAreLimited(t *testing.T) {
	w := newRemoteWorld(t)
	good := bearer(w.tokenOf("deployer", w.administrator("deployer", "keys:read")))
	const from = "From-Address: 127.0.0.1:1000"
	updates := w.counted.updates.Load()
	for n := range 2 * limit.AddressFailures {
		if n%2 == 0 { // no token is no failure
			if a := w.ask("GET", "/admin/v1/keys", "", from); a.status != 401 {
				t.Fatalf("without a token: %d", a.status)
			}
			continue
		}
		if a := w.ask("GET", "/admin/v1/keys", "", from, bearer("a.b.c")); a.status != 401 {
			t.Fatalf("failure %d: %d %s", n, a.status, a.body)
		}
	}
	for _, token := range []string{bearer("a.b.c"), good} {
		a := w.ask("GET", "/admin/v1/keys", "", from, token)
		if a.status != 429 || a.header.Get("Retry-After") == "" {
			t.Errorf("after %d failures: %d %s", limit.AddressFailures, a.status, a.body)
		}
	}
	if a := w.ask("GET", "/admin/v1/keys", "", "From-Address: 127.0.0.2:1000", good); a.status != 200 {
		t.Errorf("from another address: %d %s", a.status, a.body)
	}
	if n := w.counted.updates.Load(); n != updates {
		t.Errorf("%d transactions wrote", n-updates)
	}
	w.server.auditRefusals(t.Context())
	if body := w.expect(200, "GET", "/admin/v1/audit?limit=1", "").body; !strings.Contains(body, `"invalid_admin_token":"100"`) {
		t.Errorf("the audit record is %s", body)
	}
}

// TestTheAuditLogNamesTheClientOfAToken, and so do the lines of the log.
//
// R104.
func TestTheAuditLogNamesTheClientOfAToken(t *testing.T) {
	w := newRemoteWorld(t)
	token := bearer(w.tokenOf("deployer", w.administrator("deployer", "audiences:write")))
	if a := w.ask("POST", "/admin/v1/audiences", `{"audience":"stock","alg":"EdDSA"}`, token); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if body := w.expect(200, "GET", "/admin/v1/audit?limit=1&action=audience.add", "").body; !strings.Contains(body, `"by":"client:deployer"`) {
		t.Errorf("the audit record is %s", body)
	}
	w.ask("POST", "/admin/v1/audiences", `{"audience":"stock","alg":"EdDSA"}`, token)
	log := w.log.String()
	for _, want := range []string{`"msg":"administration","method":"POST","path":"/admin/v1/audiences","by":"client:deployer"`, `"status":409,"by":"client:deployer","from":"10.0.0.2"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
}

// TestOnlyHoldersOfATokenLearnWhatIsDamaged.
func TestOnlyHoldersOfATokenLearnWhatIsDamaged(t *testing.T) {
	w := newRemoteWorld(t)
	token := bearer(w.tokenOf("deployer", w.administrator("deployer", "keys:read")))
	fault := "the disk of /dev/sda"
	w.file.Close()
	a := w.ask("GET", "/admin/v1/keys", "", token)
	if a.status < 500 || strings.Contains(a.body, "store") || strings.Contains(a.body, fault) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
