package main

import (
	"net/http"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"keymill/issuer/api"
)

// startRemote starts a server with admin.listen and returns its address. The issuer is where the server listens.
func (p *place) startRemote() (c *child, address string) {
	p.t.Helper()
	return p.startRemoteAt("127.0.0.1:0")
}

func (p *place) startRemoteAt(listen string) (c *child, address string) {
	p.t.Helper()
	c = p.startWith(environment("KEYMILL_ADMIN_LISTEN="+listen), "serve", "--dev", "--data", p.data, "--listen", "127.0.0.1:0")
	found := regexp.MustCompile(`admin=(127\.0\.0\.\d+:\d+)`).FindStringSubmatch(c.errs.String())
	if found == nil {
		p.t.Fatal("the log does not say the address of admin.listen")
	}
	return c, found[1]
}

// administrator adds a client of the admin API and writes its secret into a file.
func (p *place) administrator(id string, scopes ...string) (secretFile string) {
	p.t.Helper()
	args := []string{"client", "add", id, "--grant", "client_credentials", "--audience", "keymill-admin", "--json"}
	for _, s := range scopes {
		args = append(args, "--scope", s)
	}
	var added api.Client
	p.must(&added, args...)
	return p.writeKey(id+".secret", string(added.Secret))
}

func TestTheAdminListenerServesTokensAndStopsWithTheServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c, address := p.startRemoteAt("127.0.0.2:0") // loopback is more than one address
	secret := p.administrator("deployer", "keys:read")
	out, errs, code := p.run("audience", "list")
	if code != 0 || !strings.Contains(out, "rfc9068, built in") {
		t.Errorf("audience list: %d\n%s%s", code, out, errs)
	}
	token := strings.TrimSpace(p.must(nil, "token", "--issuer", "http://"+c.address, "--client", "deployer", "--client-secret-file", secret))
	ask := func(path, token string) int {
		r, err := http.NewRequest("GET", "http://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for path, want := range map[string]int{"/admin/v1/keys": 200, "/admin/v1/users": 403, "/token": 404} {
		if got := ask(path, token); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if got := ask("/admin/v1/keys", "x"); got != 401 {
		t.Errorf("with another token: %d", got)
	}
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("the stop: exit code %d", code)
	}
	if log := c.errs.String(); strings.Contains(log, "ending connections") {
		t.Errorf("the stop waited:\n%s", log)
	}
	if _, err := http.Get("http://" + address + "/admin/v1/keys"); err == nil {
		t.Error("the listener is still open")
	}
}
