package main

import (
	"slices"
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
	if want := "- client web (applied earlier, no longer in the files)\n    ! ends 1 live session\n    ! client web is the client that users log in through"; code != 10 || errs != "" || !strings.HasPrefix(out, want) {
		t.Errorf("code %d, %s%swant %s", code, out, errs, want)
	}
	if out := p.must(nil, "apply", "-f", adopted, "-f", p.writeKey("other.yaml", "clients: [{id: web, public: true, grants: [refresh_token], audiences: [shop], origins: [https://app.example]}]\n"), "--prune"); out != "= 2 unchanged\n" {
		t.Errorf("two files: %s", out)
	}
	for _, args := range [][]string{{"-f", "-", "-f", "-"}, {"-f", adopted, "other.yaml"}, {"-f", ""}} {
		if out, errs, code := p.run(append([]string{"apply"}, args...)...); code != 2 || out != "" || !strings.HasPrefix(errs, "keymill: ") {
			t.Errorf("%q: code %d, %s%s", args, code, out, errs)
		}
	}
	p.must(nil, "apply", "-f", adopted, "--prune", "--yes")
	if out := p.must(nil, "session", "list", "--user", "alice", "--json"); !strings.Contains(out, `"state": "revoked"`) {
		t.Error(out)
	}
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == s })
}

func setScopes(scopes []string) []string {
	args := []string{"client", "set", "deployer"}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	return args
}

// TestFilesAreAppliedOverTheNetwork with the scopes that the documents name. Without one of them the error
// says which, before anything is changed.
func TestFilesAreAppliedOverTheNetwork(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, address := p.startRemote()
	issuer, server := "http://"+c.address, "http://"+address
	scopes := []string{"applied:read", "applied:write", "audiences:read", "audiences:write", "clients:read", "clients:write", "verifiers:read", "verifiers:write", "users:read", "users:write", "sessions:read"}
	secret := p.administrator("deployer", scopes...)
	file := p.writeKey("entries.yaml", "audiences: [{name: stock}]\nclients: [{id: page, public: true, grants: [refresh_token], audiences: [stock]}]\nverifiers: [{name: stock-api}]\nusers: [{user: dev, claims: {a: b}}]\n")
	for _, lacking := range []string{"applied:write", "users:write"} { // of the first step, and of the last one
		p.must(nil, setScopes(without(scopes, lacking))...)
		out, errs, code := p.remotely(issuer, server, secret, "apply", "-f", file, "--yes")
		if code != 1 || !strings.Contains(errs, "this needs the scope "+lacking) || !strings.Contains(errs, "; nothing was changed\n  hint: ") || strings.Contains(out, "stopped") {
			t.Errorf("without %s: code %d, %s%s", lacking, code, out, errs)
		}
		out, errs, code = p.remotely(issuer, server, secret, "apply", "-f", file)
		if code != 10 || errs != "" || !strings.Contains(out, "+ client page") || !strings.Contains(out, "\nnothing was changed, and --yes cannot apply this plan: ") || !strings.Contains(out, lacking) {
			t.Errorf("the plan without %s: code %d, %s%s", lacking, code, out, errs)
		}
	}
	if list := p.must(nil, "audience", "list"); strings.Contains(list, "stock") {
		t.Errorf("a plan that the token may not apply has added something:\n%s", list)
	}
	p.must(nil, setScopes(scopes)...)
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
	p.writeKey("entries.yaml", "audiences: [{name: stock}]\n")
	if out, errs, code := p.remotely(issuer, server, secret, "apply", "-f", file, "--prune", "--yes"); code != 1 || out != "" || !strings.HasPrefix(errs, "keymill: client admin-2: ") || !strings.Contains(errs, "\n  hint: put it back into the files, or ") {
		t.Errorf("a client of the admin API to prune: code %d, %s%s", code, out, errs)
	}
	if _, errs, code := p.remotely(issuer, server, secret, "key", "list"); code != 1 || !strings.Contains(errs, "keys:read") {
		t.Errorf("code %d, %s", code, errs)
	}
}
