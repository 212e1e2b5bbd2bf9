package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestATrialServerSpeaksTLS, with a certificate of the CA that it names, and keeps that CA. Its commands trust it as other programs do.
func TestATrialServerSpeaksTLS(t *testing.T) {
	p := newPlace(t)
	args := []string{"serve", "--dev", "--tls", "--data", p.data, "--listen", "127.0.0.1:0"}
	c := p.startWith(environment(), args...)
	ca := filepath.Join(p.data, "dev-ca.pem")
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("%s is not PEM", ca)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: failsafe}
	answer, err := client.Get("https://" + c.address + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(body), `"issuer":"https://`+c.address+`"`) {
		t.Errorf("%s, %v", body, err)
	}
	answer.Body.Close()
	if want := "CA=" + ca + "; export SSL_CERT_FILE="; !strings.Contains(c.out.String(), want) || !strings.Contains(c.out.String(), "update-ca-certificates") {
		t.Errorf("no line that trusts the CA: %s", c.out)
	}
	env := environment("SSL_CERT_FILE="+ca, "SSL_CERT_DIR=/nonexistent", "KEYMILL_DATA="+p.data)
	token, errs, code := p.runWith(env, "token", "--client", "dev-service", "--audience", "dev-api")
	if code != 0 {
		t.Fatal(errs)
	}
	if _, errs, code := p.runWith(env, "verify", strings.TrimSpace(token), "--issuer", "https://"+c.address, "--audience", "dev-api"); code != 0 {
		t.Error(errs)
	}
	if _, errs, code := p.runWith(environment("SSL_CERT_FILE=/dev/null", "SSL_CERT_DIR=/nonexistent", "KEYMILL_DATA="+p.data), "token", "--client", "dev-service", "--audience", "dev-api"); code == 0 || !strings.Contains(errs, "set SSL_CERT_FILE") {
		t.Errorf("a CA that is not trusted: code %d, %s", code, errs)
	}
	c.stop()
	p.refusesAKeyOfOthers(args)
	p.startWith(environment(), args...).stop()
	if again, err := os.ReadFile(ca); err != nil || string(again) != string(text) {
		t.Errorf("the second start made another CA: %v", err)
	}
}

// refusesAKeyOfOthers starts the server with a key of the CA that others can read, which can then sign in its place, and with one that
// another user has put there.
func (p *place) refusesAKeyOfOthers(args []string) {
	p.t.Helper()
	key := filepath.Join(p.data, "dev-ca-key.pem")
	for _, tt := range []struct {
		wrong, right func() error
		want         string
	}{
		{func() error { return os.Chmod(key, 0o604) }, func() error { return os.Chmod(key, 0o600) }, " may be read by others (mode 0604)"},
		{func() error { return os.Chown(key, 65534, -1) }, func() error { return os.Chown(key, os.Geteuid(), -1) }, " belongs to uid 65534, which is neither root nor"},
	} {
		if err := tt.wrong(); errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			continue // only root can give a file away
		} else if err != nil {
			p.t.Fatal(err)
		}
		if _, errs, code := p.runWith(environment(), args...); code == 0 || !strings.Contains(errs, key+tt.want) {
			p.t.Errorf("code %d, want %s: %s", code, tt.want, errs)
		}
		if err := tt.right(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// TestTLSForTrialsIsForTrials: the flag without --dev, and with an issuer or with files that contradict it.
func TestTLSForTrialsIsForTrials(t *testing.T) {
	p := newPlace(t)
	for _, tt := range []struct {
		env  []string
		args []string
		want string
	}{
		{nil, []string{"--issuer", "https://127.0.0.1:8420"}, "--tls is for trial servers and needs --dev\n  hint: set tls.cert_file and tls.key_file"},
		{nil, []string{"--dev", "--issuer", "http://127.0.0.1:8420"}, `the server speaks TLS, and "http://127.0.0.1:8420" is not an https URL`},
		{[]string{"KEYMILL_TLS_CERT_FILE=/x", "KEYMILL_TLS_KEY_FILE=/y"}, []string{"--dev"}, "a trial server speaks plain http on loopback"},
	} {
		_, errs, code := p.runWith(environment(tt.env...), append([]string{"serve", "--tls", "--data", p.data, "--listen", "127.0.0.1:0"}, tt.args...)...)
		if code == 0 || !strings.Contains(errs, tt.want) {
			t.Errorf("%v: code %d, %s", tt.args, code, errs)
		}
	}
}
