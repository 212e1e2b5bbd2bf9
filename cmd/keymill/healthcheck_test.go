package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"keymill/cmd/keymill/internal/tlsfiles/tlstest"
)

// TestHealthcheckAsksTheRunningServer, over plain http, TLS and the admin socket, with the server's own settings.
func TestHealthcheckAsksTheRunningServer(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		p := newPlace(t)
		env := p.env()
		if secure {
			p.tlsPair(tlstest.NewKey(t, "ECDSA"), tlstest.Cert{})
			env = p.tlsEnv()
		}
		args := p.serveArgs()
		args[4] = "0.0.0.0:0"
		c := p.startWith(append(env, "KEYMILL_HTTP_TRUSTED_PROXIES=127.0.0.1"), args...)
		_, port, err := net.SplitHostPort(c.address)
		if err != nil {
			t.Fatal(err)
		}
		check := func(env []string, wantCode int, want string, args ...string) {
			t.Helper()
			out, errs, code := p.runWith(env, append([]string{"healthcheck"}, args...)...)
			if code != wantCode || !strings.Contains(out+errs, want) || wantCode == 0 && errs != "" || wantCode != 0 && out != "" {
				t.Errorf("TLS %v, %v: code %d, %q, %q; want %d, %q", secure, args, code, out, errs, wantCode, want)
			}
		}
		here := append(env, "KEYMILL_LISTEN=0.0.0.0:"+port)
		check(here, 0, "ready\n")
		check(here, 0, "alive\n", "--live")
		check(env, 0, "ready\n", "--listen", "127.0.0.1:"+port)
		check(environment(), 0, "ready\n", "--data", p.data)
		check(environment(), 0, "alive\n", "--data", p.data, "--live")
		check(here, 0, `"server": "ready"`, "--json")
		check(env, 1, "keymill: not reachable: ", "--listen", "127.0.0.1:1")
		check(environment(), 1, "keymill: not reachable: no server is running on the data directory "+p.dir, "--data", p.dir)
		check(here, 2, "keymill: --timeout \"soon\" is not a duration like 3s", "--timeout", "soon")
		check(here, 2, "exclude each other", "--data", p.data, "--listen", "127.0.0.1:1")
		check(append(here, "KEYMILL_CONFIG="+filepath.Join(p.dir, "none")), 1, "no such file")
		if secure {
			check(append(environment(), "KEYMILL_LISTEN=0.0.0.0:"+port), 1, "speaks TLS")
		}
		// A server that is stopped in its tracks still has its port open.
		c.signal(syscall.SIGSTOP)
		check(here, 1, "gave no answer within 100ms", "--timeout", "100ms")
		check(environment(), 1, "gave no answer within 100ms", "--timeout", "100ms", "--data", p.data)
		c.signal(syscall.SIGCONT)
		check(here, 0, "ready\n")
		c.signal(syscall.SIGTERM)
		c.wait(failsafe)
		check(here, 1, "connection refused")
		check(environment(), 1, "no server is running", "--data", p.data)
	}
}

// TestHealthcheckNeedsNoFileOfTheServer: in an image it may run as a user who cannot read the master key.
func TestHealthcheckNeedsNoFileOfTheServer(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	c := p.start()
	env := append(environment(), "KEYMILL_LISTEN="+c.address, "KEYMILL_MASTER_KEY_FILE="+filepath.Join(p.dir, "none"), "KEYMILL_ISSUER="+testIssuer)
	if err := os.Chmod(p.data, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(p.data, 0o700)
	if out, errs, code := p.runWith(env, "healthcheck"); code != 0 || out != "ready\n" {
		t.Errorf("code %d, %q, %q", code, out, errs)
	}
}
