package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// refusedFrom sends a request with a wrong secret that names an address as a proxy does, and waits for the address in
// the log.
func (c *child) refusedFrom(forwarded, want string) {
	c.t.Helper()
	before := strings.Count(c.errs.String(), "from="+want)
	req, err := http.NewRequest("POST", c.url("/token"), strings.NewReader("grant_type=client_credentials&client_id=none&client_secret=none"))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Forwarded-For", forwarded)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	c.logged("from="+want, before+1)
}

func (c *child) reload(line string) {
	c.t.Helper()
	before := strings.Count(c.errs.String(), line)
	c.signal(syscall.SIGHUP)
	c.logged(line, before+1)
}

const (
	reloaded  = `level=INFO msg="read the configuration again"`
	unchanged = `level=ERROR msg="cannot read the configuration again; no setting changes"`
)

// TestSIGHUPAppliesTheTrustedProxies.
func TestSIGHUPAppliesTheTrustedProxies(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.startWith(p.env(), "serve", "--config", p.configure(""))
	c.refusedFrom("192.0.2.1", "127.0.0.1")
	p.configure("http: {trusted_proxies: [127.0.0.1]}\n")
	c.reload(reloaded + " log_level=info changed=http.trusted_proxies\n")
	c.refusedFrom("192.0.2.2", "192.0.2.2")
	p.configure("http: {trusted_proxies: [10.0.0.0/8]}\n")
	c.reload(reloaded + " log_level=info changed=http.trusted_proxies\n")
	c.refusedFrom("192.0.2.3", "127.0.0.1")
	c.reload(reloaded + " log_level=info\n")
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A receiver gets the events of a webhook, and says which of the secrets has signed each.
type receiver struct {
	url    string
	signed chan string
}

func newReceiver(t *testing.T, secrets ...string) *receiver {
	r := &receiver{signed: make(chan string, 100)}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		for _, secret := range secrets {
			key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			mac := hmac.New(sha256.New, key)
			fmt.Fprintf(mac, "%s.%s.%s", req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), body)
			if req.Header.Get("webhook-signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
				r.signed <- secret
				return
			}
		}
		r.signed <- "no secret"
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func hookSecret(name string) string {
	sum := sha256.Sum256([]byte("a webhook secret of the tests: " + name))
	return "whsec_" + base64.StdEncoding.EncodeToString(sum[:])
}

// TestSIGHUPAppliesTheSecretOfTheWebhook, in the same file and in another one. One that came from a variable stays,
// because the environment is that of the start.
func TestSIGHUPAppliesTheSecretOfTheWebhook(t *testing.T) {
	t.Parallel()
	a, b, v := hookSecret("a"), hookSecret("b"), hookSecret("v")
	for _, variable := range []bool{false, true} {
		p, r := newPlace(t), newReceiver(t, a, b, v)
		write := func(name, secret string) string {
			t.Helper()
			path := filepath.Join(p.dir, name)
			if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		first, second := write("first", a), write("second", a)
		file := func(path string) string {
			return "webhook: {url: \"" + r.url + "\", secret_file: " + path + "}\n"
		}
		env, lines := p.env(), file(first)
		if variable {
			env, lines = append(env, "KEYMILL_WEBHOOK_SECRET="+v), "webhook: {url: \""+r.url+"\"}\n"
		}
		c := p.startWith(env, "serve", "--config", p.configure(lines))
		p.must(nil, "audience", "add", "orders", "--alg", "EdDSA")
		p.must(nil, "client", "add", "web", "--public", "--grant", "refresh_token", "--audience", "orders")
		signedWith := func(want string) {
			t.Helper()
			p.must(nil, "session", "revoke", "--client", "web")
			if got := <-r.signed; got != want {
				t.Errorf("variable %v: signed with another secret", variable)
			}
		}
		if variable {
			signedWith(v)
			c.reload(reloaded)
			signedWith(v)
		} else {
			signedWith(a)
			write("first", b)
			signedWith(a)
			c.reload(`level=INFO msg="the webhook has another secret"`)
			signedWith(b)
			p.configure(file(second))
			c.reload(reloaded + " log_level=info changed=webhook.secret_file\n")
			signedWith(a)
			// The secret of another receiver signs nothing for this one.
			p.configure("webhook: {url: \"https://hooks.example\", secret_file: " + first + "}\n")
			c.reload(`msg="changed settings need a restart" settings=webhook.url`)
			signedWith(a)
			p.configure(file(second))
			c.reload(reloaded)
			write("second", "no secret")
			c.reload(unchanged)
			signedWith(a)
		}
		if log := c.errs.String(); strings.Contains(log, a) || strings.Contains(log, b) || strings.Contains(log, v) {
			t.Error("the log has a secret")
		}
	}
}

// TestAReloadAppliesEverythingOrNothing: if the TLS files cannot be used, neither the level nor the proxies change.
func TestAReloadAppliesEverythingOrNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key := tlstest.NewKey(t, "ECDSA")
	first := p.tlsPair(key, tlstest.Cert{})
	files := "tls: {cert_file: " + p.tlsFile("cert") + ", key_file: " + p.tlsFile("key") + "}\n"
	c := p.startWith(p.env(), "serve", "--config", p.configure(files))
	get := func(certs ...[]byte) {
		t.Helper()
		resp, err := trusting(false, certs...).Get("https://" + c.address + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	get(first)
	if err := errors.Join(os.Rename(p.tlsFile("key"), p.tlsFile("old")), os.WriteFile(p.tlsFile("key"), []byte("no key"), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.configure(files + "log: {level: debug}\nhttp: {trusted_proxies: [127.0.0.1]}\n")
	c.reload(unchanged + ` error="` + filepath.Join(p.dir, "keymill.yaml") + `:3: tls.key_file: `)
	resp, err := trusting(false, first).Get("https://" + c.address + "/nowhere") // a line at debug
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	c.reload(unchanged)
	if log := c.errs.String(); strings.Contains(log, reloaded) || strings.Contains(log, "level=DEBUG") {
		t.Errorf("something changed:\n%s", log)
	}
	second := p.tlsPair(key, tlstest.Cert{})
	c.reload(reloaded + ` log_level=debug changed="http.trusted_proxies log.level"`)
	get(second)
	// Other files of other names are followed from then on.
	if err := errors.Join(os.WriteFile(p.tlsFile("cert2"), first, 0o600), os.WriteFile(p.tlsFile("key2"), tlstest.KeyPEM(t, key), 0o600)); err != nil {
		t.Fatal(err)
	}
	p.configure("tls: {cert_file: " + p.tlsFile("cert2") + ", key_file: " + p.tlsFile("key2") + "}\nlog: {level: debug}\n")
	c.reload(reloaded + ` log_level=debug changed="tls.cert_file tls.key_file http.trusted_proxies"`)
	get(first)
	p.configure("log: {level: debug}\n")
	c.reload(`level=WARN msg="changed settings need a restart" settings="tls.cert_file tls.key_file"`)
	get(first)
}
