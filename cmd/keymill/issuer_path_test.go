package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"keymill/issuer/api"
)

// TestKeymillSharesAHostWithOtherSoftware: a proxy passes only the paths on that the manual names, unchanged. Tokens are
// fetched and verified with nothing but the issuer.
func TestKeymillSharesAHostWithOtherSoftware(t *testing.T) {
	var backend atomic.Pointer[httputil.ReverseProxy]
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/auth/") || r.URL.Path == "/.well-known/oauth-authorization-server/auth" {
			backend.Load().ServeHTTP(w, r)
			return
		}
		http.Error(w, "this is a shop", http.StatusTeapot)
	}))
	t.Cleanup(front.Close)
	issuer := front.URL + "/auth"

	p := newPlace(t)
	c := p.start("--issuer", issuer)
	backend.Store(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: c.address}))
	p.must(nil, "audience", "add", "orders")
	var client api.Client
	p.must(&client, "client", "add", "billing", "--grant", "client_credentials", "--audience", "orders", "--json")
	secret := p.writeKey("secret", string(client.Secret))
	token := strings.TrimSpace(p.must(nil, "token", "--issuer", issuer, "--client", "billing", "--client-secret-file", secret))
	p.must(nil, "verify", token, "--issuer", issuer, "--audience", "orders")
	p.must(nil, "healthcheck", "--url", issuer)
	if _, errs, code := p.run("token", "--issuer", front.URL+"/id", "--client", "billing", "--client-secret-file", secret); code == 0 || !strings.Contains(errs, "/.well-known/oauth-authorization-server/id answered with status 418\n  hint: the proxy must pass this path on to Keymill, and everything below /id/ ") {
		t.Errorf("a path that the proxy does not pass on: code %d, %s", code, errs)
	}
	if _, errs, code := p.run("verify", token, "--issuer", front.URL, "--audience", "orders"); code != 3 || !strings.Contains(errs, "418") {
		t.Errorf("verified with the issuer %s: code %d, %s", front.URL, code, errs)
	}
}
