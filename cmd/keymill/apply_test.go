package main

import (
	"strings"
	"testing"
)

// TestAPrunedClientSaysWhichSessionsEnd in the plan, and they end with it.
func TestAPrunedClientSaysWhichSessionsEnd(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.loggedIn(t) // through client web
	adopted := p.writeKey("web.yaml", "audiences: [{name: shop, alg: RS256, profile: simplejwt}]\n---\n"+
		"clients: [{id: web, public: true, grants: [refresh_token], audiences: [shop], origins: [https://app.example]}]\n")
	if out := p.must(nil, "apply", "-f", adopted, "--yes"); !strings.Contains(out, "~ client web: adopted: it was there before\n= 0 unchanged\napplied\n") {
		t.Error(out)
	}
	p.writeKey("web.yaml", "audiences: [{name: shop, alg: RS256, profile: simplejwt}]\n")
	out, errs, code := p.run("apply", "-f", adopted, "--prune")
	if want := "- client web (applied earlier, no longer in the files)\n    ! ends 1 live session\n= 1 unchanged\n"; code != 10 || errs != "" || !strings.HasPrefix(out, want) {
		t.Errorf("code %d, %s%swant %s", code, out, errs, want)
	}
	p.must(nil, "apply", "-f", adopted, "--prune", "--yes")
	if out := p.must(nil, "session", "list", "--user", "alice", "--json"); !strings.Contains(out, `"state": "revoked"`) {
		t.Error(out)
	}
}

// TestFilesAreAppliedOverTheNetwork with the scopes that the documents name. Without one of them the error
// says which.
func TestFilesAreAppliedOverTheNetwork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, address := p.startRemote()
	issuer, server := "http://"+c.address, "http://"+address
	scopes := []string{"applied:read", "audiences:read", "audiences:write", "clients:read", "clients:write", "verifiers:read", "verifiers:write", "users:read", "users:write", "sessions:read"}
	secret := p.administrator("deployer", scopes...)
	file := p.writeKey("entries.yaml", "audiences: [{name: stock}]\nclients: [{id: page, public: true, grants: [refresh_token], audiences: [stock]}]\nverifiers: [{name: stock-api}]\nusers: [{user: dev, claims: {a: b}}]\n")
	if out, errs, code := p.remotely(issuer, server, secret, "apply", "-f", file, "--yes"); code != 1 || !strings.Contains(errs, "applied:write") || !strings.Contains(errs, "nothing was changed before") {
		t.Errorf("without applied:write: code %d, %s%s", code, out, errs)
	}
	more := []string{"client", "set", "deployer"}
	for _, s := range append(scopes, "applied:write") {
		more = append(more, "--scope", s)
	}
	p.must(nil, more...)
	if out, errs, code := p.remotely(issuer, server, secret, "apply", "-f", file, "--yes"); code != 0 || !strings.Contains(out, "applied\n") {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	p.writeKey("entries.yaml", "audiences: [{name: stock}]\n")
	if out, errs, code := p.remotely(issuer, server, secret, "apply", "-f", file, "--prune", "--yes"); code != 0 || !strings.Contains(out, "- client page ") {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	p.writeKey("entries.yaml", "clients: [{id: admin-2, grants: [client_credentials], audiences: [keymill-admin], scopes: ['keys:read'], secret_sha256: "+strings.Repeat("ab", 32)+"}]\n")
	if _, errs, code := p.remotely(issuer, server, secret, "apply", "-f", file, "--yes"); code != 1 || !strings.Contains(errs, "managed on the server's machine only") {
		t.Errorf("a client of the admin API: code %d, %s", code, errs)
	}
	p.must(nil, "apply", "-f", file, "--yes")
	if _, errs, code := p.remotely(issuer, server, secret, "key", "list"); code != 1 || !strings.Contains(errs, "keys:read") {
		t.Errorf("code %d, %s", code, errs)
	}
}
