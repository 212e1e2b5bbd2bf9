package endpoint

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"keymill/issuer/api"
)

const (
	oauthPath  = "/.well-known/oauth-authorization-server"
	openidPath = "/.well-known/openid-configuration"
)

// R60.
func TestMetadataIsAtTheStandardPathsAndNamesTheIssuer(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{oauthPath, openidPath} {
		a := w.send("GET", path, "")
		m := a.json(t)
		if a.status != 200 || m["issuer"] != testIssuer || m["jwks_uri"] != testIssuer+"/.well-known/jwks.json" || m["token_endpoint"] != testIssuer+"/token" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if types, ok := m["response_types_supported"].([]any); !ok || len(types) != 0 {
			t.Errorf("response_types_supported: %v", m["response_types_supported"])
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": "*", "Cache-Control": "public, max-age=300",
			"Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s: %q", path, name, got)
			}
		}
		if h := w.send("HEAD", path, ""); h.status != 200 || h.body != "" || h.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
			t.Errorf("HEAD %s: %d, %v", path, h.status, h.header)
		}
	}
	m := w.send("GET", openidPath, "").json(t)
	if fmt.Sprint(m["id_token_signing_alg_values_supported"], m["subject_types_supported"]) != "[RS256 EdDSA] [public]" {
		t.Errorf("got %v", m)
	}
}

// TestMetadataMatchesTheEndpoints checks that what is advertised works, and that what other
// servers advertise and this one does not is refused.
//
// R61.
func TestMetadataMatchesTheEndpoints(t *testing.T) {
	w := newWorld(t).withAlice()
	secret := w.confidential("server")
	m := w.send("GET", openidPath, "").json(t)
	list := func(name string) (out []string) {
		for _, v := range m[name].([]any) {
			out = append(out, v.(string))
		}
		return out
	}
	grants, algs := list("grant_types_supported"), list("id_token_signing_alg_values_supported")
	family := w.familyAt("server")
	for endpoint, ask := range map[string]func(more string, headers ...string) answer{
		"token": func(more string, headers ...string) answer {
			return w.post("grant_type=refresh_token"+more, headers...)
		},
		"revocation": func(more string, headers ...string) answer { return w.postForm("/revoke", "token=x"+more, headers...) },
		"introspection": func(more string, headers ...string) answer {
			return w.postForm("/introspect", "token=x"+more, headers...)
		},
	} {
		methods := list(endpoint + "_endpoint_auth_methods_supported")
		ofServer, ofWeb := "", ""
		if endpoint == "token" {
			ofServer, ofWeb = "&refresh_token="+string(family.Refresh), "&refresh_token="+w.obtain().Refresh
		}
		authenticate := map[string]func() answer{
			"client_secret_basic": func() answer { return ask(ofServer, basic("server", secret)) },
			"client_secret_post":  func() answer { return ask(ofServer + "&client_id=server&client_secret=" + secret) },
			"none":                func() answer { return ask(ofWeb + "&client_id=web") },
			"private_key_jwt":     func() answer { return ask(ofServer + "&client_id=server&client_assertion=a.b.c") },
			"client_secret_jwt":   func() answer { return ask(ofServer + "&client_id=server&client_assertion=a.b.c") },
		}
		for _, method := range methods {
			if authenticate[method] == nil {
				t.Errorf("this test has no case for method %s", method)
			}
		}
		for method, try := range authenticate {
			if a := try(); (a.status == 200) != slices.Contains(methods, method) {
				t.Errorf("%s at %s: %d %s", method, endpoint, a.status, a.body)
			}
		}
	}
	for _, grant := range append([]string{
		"authorization_code", "refresh_token", "password", "implicit", "urn:ietf:params:oauth:grant-type:device_code",
		"urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer",
	}, grants...) {
		a := w.post("client_id=server&client_secret=" + secret + "&grant_type=" + grant + "&refresh_token=" + string(w.familyAt("server").Refresh))
		if known := a.status == 200; known != slices.Contains(grants, grant) || (!known && a.code(t) != "unsupported_grant_type") {
			t.Errorf("%s: %d %s", grant, a.status, a.body)
		}
	}
	for _, alg := range []string{"RS256", "EdDSA", "ES256", "HS256", "none", "PS256"} {
		_, err := w.issuer.AddAudience(t.Context(), api.Audience{Name: "of-" + alg, Alg: alg}, "uid:0")
		if (err == nil) != slices.Contains(algs, alg) {
			t.Errorf("%s: %v", alg, err)
		}
	}
	for name, v := range m {
		url, ok := v.(string)
		if path, in := strings.CutPrefix(url, testIssuer); ok && in && path != "" {
			if a := w.send("GET", path, ""); a.status == 404 {
				t.Errorf("%s: nothing at %s", name, path)
			}
		}
	}
	for _, path := range []string{"/authorize", "/userinfo", "/register", "/par", "/device_authorization"} {
		if a := w.send("POST", path, ""); a.status != 404 {
			t.Errorf("%s is served and not advertised: %d", path, a.status)
		}
	}
}

// R62.
func TestARequestCannotChangeTheIssuer(t *testing.T) {
	w := newWorld(t)
	evil := []string{
		"Host: evil.example", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: gopher", "X-Forwarded-Prefix: /evil",
		"Forwarded: host=evil.example;proto=gopher", "X-Original-URL: /evil", "X-Real-IP: 1.2.3.4",
	}
	for _, path := range []string{oauthPath, openidPath, "/.well-known/jwks.json"} {
		if a, b := w.send("GET", path, ""), w.send("GET", path, "", evil...); a.body != b.body || b.status != 200 {
			t.Errorf("%s: %q", path, b.body)
		}
	}
	if c := segment(t, w.token(w.post(w.good(), evil...)), 1); c["iss"] != testIssuer {
		t.Errorf("iss %v", c["iss"])
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.public.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET http://evil.example%s HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", openidPath)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := make([]byte, 4096)
	n, _ := response.Body.Read(body)
	if response.StatusCode != 200 || strings.Contains(string(body[:n]), "evil") || n == 0 {
		t.Errorf("absolute form: %d %s", response.StatusCode, body[:n])
	}
}
