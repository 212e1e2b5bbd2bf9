package main

import (
	"bufio"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// tlsPair writes a certificate of the host of testIssuer and its key, and returns both as PEM.
func (p *place) tlsPair(key crypto.Signer, c tlstest.Cert) (cert []byte) {
	p.t.Helper()
	c.Name, c.Key = "id.example.com", key
	cert = c.PEM(p.t)
	if err := errors.Join(os.WriteFile(p.tlsFile("cert"), cert, 0o600), os.WriteFile(p.tlsFile("key"), tlstest.KeyPEM(p.t, key), 0o600)); err != nil {
		p.t.Fatal(err)
	}
	return cert
}

func (p *place) tlsFile(name string) string { return filepath.Join(p.dir, name+".pem") }

func (p *place) tlsEnv(more ...string) []string {
	return append(p.env(), append(more, "KEYMILL_TLS_CERT_FILE="+p.tlsFile("cert"), "KEYMILL_TLS_KEY_FILE="+p.tlsFile("key"))...)
}

// trusting returns a client that trusts the certificates, and speaks HTTP/2 unless only11 is set.
func trusting(only11 bool, certs ...[]byte) *http.Client {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: tlstest.Pool(certs...), ServerName: "id.example.com"}, ForceAttemptHTTP2: !only11,
	}
	if only11 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: transport, Timeout: failsafe}
}

// TestTheServerSpeaksTLSWithTheFilesOfItsSettings: HTTP/2 and HTTP/1.1, and a new certificate for new connections alone.
func TestTheServerSpeaksTLSWithTheFilesOfItsSettings(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	key := tlstest.NewKey(t, "ECDSA")
	first := p.tlsPair(key, tlstest.Cert{})
	c := p.startWith(p.tlsEnv(), p.serveArgs()...)
	get := func(client *http.Client, proto string) {
		t.Helper()
		resp, err := client.Get("https://" + c.address + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || resp.Proto != proto {
			t.Errorf("%s %d, %v, want %s", resp.Proto, resp.StatusCode, err, proto)
		}
	}
	two, one := trusting(false, first), trusting(true, first)
	get(two, "HTTP/2.0")
	get(one, "HTTP/1.1")
	second := p.tlsPair(key, tlstest.Cert{From: time.Now().Add(-80 * 24 * time.Hour), Until: time.Now().Add(10 * 24 * time.Hour)})
	c.logged(`msg="serving a TLS certificate"`, 2)
	get(two, "HTTP/2.0") // on the connections of before, because the client does not trust the new certificate
	get(one, "HTTP/1.1")
	get(trusting(false, second), "HTTP/2.0")

	// doctor says that the new one ends soon, and then that the files are broken.
	warned := func(want string) {
		t.Helper()
		if out, _, code := p.run("doctor"); code != 1 || !strings.Contains(out, "tls") || !strings.Contains(out, want) {
			t.Errorf("code %d; doctor does not say %q:\n%s", code, want, out)
		}
	}
	warned("expires at")
	if err := os.WriteFile(p.tlsFile("key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.logged(`msg="the TLS files cannot be used; the previous certificate is still served"`, 1)
	warned("key.pem is empty")
	get(trusting(false, second), "HTTP/2.0")
	c.signal(syscall.SIGTERM)
	if code := c.wait(failsafe); code != 0 {
		t.Errorf("exit code %d", code)
	}

	// doctor looks at the files of a stopped server as a start does.
	for _, want := range []string{"FAILED tls", "ok tls"} {
		if want == "ok tls" {
			p.tlsPair(key, tlstest.Cert{})
		}
		out, _, _ := p.runWith(append(p.tlsEnv(), "KEYMILL_ISSUER="+testIssuer), "doctor")
		if lines := strings.Join(strings.Fields(out), " "); !strings.Contains(lines, want) {
			t.Errorf("no line %q:\n%s", want, out)
		}
	}
}

// TestPlainHTTPOnTheTLSPortIsAnsweredWithA400 that says why, and floods no log.
func TestPlainHTTPOnTheTLSPortIsAnsweredWithA400(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{})
	c := p.startWith(p.tlsEnv(), p.serveArgs()...)
	before := c.errs.String()
	for range 200 {
		resp, err := http.Get("http://" + c.address + "/token")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "HTTP request to an HTTPS server") {
			t.Fatalf("%d %q, %v", resp.StatusCode, body, err)
		}
	}
	for range 200 { // neither TLS nor HTTP
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "\x00\x01garbage\r\n\r\n")
		bufio.NewReader(conn).ReadByte() // until the server has closed it
		conn.Close()
	}
	if more := strings.TrimPrefix(c.errs.String(), before); strings.Count(more, "\n") > 5 {
		t.Errorf("the log:\n%s", more)
	}
}

// TestAStartWithUnusableTLSFilesChangesNothing: each is one line that names the setting, and a line with what to do.
func TestAStartWithUnusableTLSFilesChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.must(nil, "init")
	key := tlstest.NewKey(t, "ECDSA")
	before := snapshot(t, p.data)
	for name, tt := range map[string]struct {
		prepare func()
		env     []string
		want    string
	}{
		"expired": {func() {
			p.tlsPair(key, tlstest.Cert{From: time.Now().Add(-48 * time.Hour), Until: time.Now().Add(-time.Hour)})
		}, p.tlsEnv(),
			"keymill: KEYMILL_TLS_CERT_FILE: " + p.tlsFile("cert") + ": the certificate expired at"},
		"no key":      {func() { p.tlsPair(key, tlstest.Cert{}) }, append(p.env(), "KEYMILL_TLS_CERT_FILE="+p.tlsFile("cert")), "keymill: KEYMILL_TLS_CERT_FILE: tls.key_file is missing\n  hint: set both"},
		"no cert":     {func() {}, append(p.env(), "KEYMILL_TLS_KEY_FILE="+p.tlsFile("key")), "keymill: KEYMILL_TLS_KEY_FILE: tls.cert_file is missing\n  hint: set both"},
		"http issuer": {func() {}, p.tlsEnv("KEYMILL_ISSUER=http://id.example.com", "KEYMILL_INSECURE=true"), `keymill: KEYMILL_ISSUER: the server speaks TLS, and "http://id.example.com" is not an https URL`},
		"other key": {func() {
			p.tlsPair(key, tlstest.Cert{})
			os.WriteFile(p.tlsFile("key"), tlstest.KeyPEM(t, tlstest.NewKey(t, "RSA")), 0o600)
		}, p.tlsEnv(),
			"keymill: KEYMILL_TLS_KEY_FILE: " + p.tlsFile("key") + ": the key is RSA"},
	} {
		tt.prepare()
		args := p.serveArgs()
		if name == "http issuer" {
			args = args[:len(args)-2]
		}
		out, errs, code := p.runWith(tt.env, args...)
		if code != 1 || !strings.HasPrefix(errs, tt.want) || strings.Count(errs, "\n") != 2 || !strings.Contains(errs, "\n  hint: ") {
			t.Errorf("%s: code %d\n%s%s", name, code, out, errs)
		}
	}
	if _, errs, code := p.runWith(append(environment(), p.tlsEnv()[len(p.env()):]...), "serve", "--dev", "--data", filepath.Join(p.dir, "dev")); code != 1 ||
		!strings.Contains(errs, "a trial server speaks plain http on loopback") {
		t.Errorf("--dev: code %d\n%s", code, errs)
	}
	if snapshot(t, p.data) != before {
		t.Error("a start that failed changed the data directory")
	}
}

// TestACertificateOfAnotherHostIsServedWithAWarning.
// TestACertificateNeverKeepsAMasterKeyInUse: doctor finds what is wrong with each, and changes the key.
func TestACertificateNeverKeepsAMasterKeyInUse(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*place){
		"it ends soon": func(p *place) {
			p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{From: time.Now().Add(-85 * 24 * time.Hour), Until: time.Now().Add(5 * 24 * time.Hour)})
		},
		"it has ended": func(p *place) {
			p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{Until: time.Now().Add(-time.Minute)})
		},
		"no file":         func(*place) {},
		"garbage":         func(p *place) { os.WriteFile(p.tlsFile("cert"), []byte("x"), 0o600) },
		"nothing, a pair": func(p *place) { p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{}) },
	} {
		p := made(t)
		spoil(p)
		env := p.tlsEnv("KEYMILL_ISSUER=https://id.example.com")
		if out, _, code := p.runWith(env, "doctor"); (code != 0) != (name != "nothing, a pair") || !strings.Contains(out, "tls") {
			t.Errorf("%s: doctor ends with %d:\n%s", name, code, out)
		}
		p.writeKey("new.key", testKey("n"))
		if out, errs, code := p.runWith(env, "doctor", "--new-master-key-file", "new.key"); code != 0 || !strings.Contains(out, "no longer opens the store") {
			t.Errorf("%s: code %d\n%s%s", name, code, out, errs)
		}
	}
}

func TestACertificateOfAnotherHostIsServedWithAWarning(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{Uses: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	args := p.serveArgs()
	args[len(args)-1] = "https://login.example.com"
	c := p.startWith(p.tlsEnv(), args...)
	c.logged(`level=WARN msg="clients may refuse the TLS certificate" reason="the certificate is for id.example.com and not for the host of issuer, login.example.com"`, 1)
}
