package forwardauth

import (
	"encoding/base64"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestIntrospectionIsNoForwardAuth: auth_request to /introspect lets every request in, because the answer about an
// inactive token is a 200. docs/verify/nginx.md warns of it.
func TestIntrospectionIsNoForwardAuth(t *testing.T) {
	w := newWorld(t, true)
	w.Run(t, "client", "set", "billing", "--introspect", "orders")
	address := w.free()
	p := w.nginx("introspect", address, fmt.Sprintf(`
server {
	listen %s;
	location / {
		auth_request /introspect;
		proxy_pass http://%s;
	}
	location = /introspect {
		internal;
		proxy_method POST;
		proxy_set_header Authorization "Basic %s";
		proxy_set_header Content-Type application/x-www-form-urlencoded;
		proxy_set_body token=$http_x_token;
		proxy_pass %s/introspect;
	}
}
`, address, w.service, base64.StdEncoding.EncodeToString([]byte(w.billing.ID+":"+w.billing.Secret)), w.URL))
	for _, token := range []string{"forged", w.sign(nil, map[string]any{"exp": 1}), w.token(w.billing, "orders")} {
		if a := p.ask("/", "X-Token: "+token); a.status != 200 || a.received == nil {
			t.Errorf("%.20s: %d: the page warns of what does not happen", token, a.status)
		}
	}
}

// TestAMistypedQueryLetsNoRequestIn: an audience that does not exist, a mistyped parameter, and a query of the client.
func TestAMistypedQueryLetsNoRequestIn(t *testing.T) {
	w := newWorld(t, true)
	good := w.token(w.billing, "orders")
	for _, p := range w.proxiesWith(func(site string) string { return strings.Replace(site, "audience=orders", "audience=ordres", 1) }) {
		p.keepsOut("another audience", p.ask("/", bearer(good)), 400, 500)
		p.keepsOut("without a token", p.ask("/"), 400, 500)
	}
	if log := w.Log(); !strings.Contains(log, `level=WARN msg="request refused" method=GET path=/verify status=400 err="invalid_request: audience 'ordres' does not exist`) {
		t.Errorf("the log does not warn:\n%s", log)
	}
	w = newWorld(t, true)
	good = w.token(w.billing, "orders")
	address := w.free()
	site := strings.Replace(w.nginxSite(address), "scope=read;", "scope=read&$http_x_query;", 1)
	p := w.nginx("query", address, site)
	for _, query := range []string{"scope=none", "audience=shop", "audience=orders", "access_token=" + good, "x=1", ";scope=read", "scope="} {
		p.keepsOut(query, p.ask("/", bearer(good), "X-Query: "+query), 403, 500)
	}
}

// TestTheLinesForCaddyAreNeeded: without them a client adds headers that a service can take for ours, and takes ours away.
func TestTheLinesForCaddyAreNeeded(t *testing.T) {
	w := newWorld(t, true)
	good := w.token(w.billing, "orders")
	address := w.free()
	var site strings.Builder
	for line := range strings.Lines(w.caddyfile(address)) {
		if !strings.Contains(line, "request_header") && !strings.Contains(line, "header_up X-Auth") {
			site.WriteString(line)
		}
	}
	p := w.caddy("bare", address, site.String())
	p.letsIn("nothing odd", p.ask("/", bearer(good)), ofBilling)
	for line, name := range map[string]string{"X_Auth_Session: 1": "X_auth_session", "X.Auth.Session: 1": "X.auth.session"} {
		if a := p.ask("/", bearer(good), line); a.received.Get(name) != "1" {
			t.Errorf("%s: the service got %v", line, a.received)
		}
	}
	p.letsIn("taken away", p.ask("/", bearer(good), "Connection: X-Auth-Scope, X-Auth-Session"), "billing|billing||")
}

// TestTheSocketIsForItsGroup: the user of the proxy can ask, and another one cannot.
func TestTheSocketIsForItsGroup(t *testing.T) {
	w := newWorld(t, true)
	const other = "65534" // no account of a proxy
	for user, want := range map[string]string{wwwData: "401", other: "000"} {
		out, _ := exec.Command("setpriv", "--reuid", user, "--regid", user, "--clear-groups",
			"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", w.socket, "http://x/verify?audience=orders").CombinedOutput()
		if string(out) != want {
			t.Errorf("user %s: %q, want %s", user, out, want)
		}
	}
}
