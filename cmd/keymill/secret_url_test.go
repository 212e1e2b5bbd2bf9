package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestNoURLShowsItsPassword, whichever command gets it, in a URL that is valid otherwise and in one that is not.
func TestNoURLShowsItsPassword(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	i := newForeignIssuer(t)
	good := i.sign(i.claims())
	for _, url := range []string{"https://user:hun@ter2@127.0.0.1:1", "https://user:hunter2@127.0.0.1:x", "https://user:hunter2@", "ftp://user:hunter2@127.0.0.1", "user:hunter2@127.0.0.1:1",
		"http://user:hunter2@127.0.0.1:1", "http://user:hunter2@id.example.com/ x", "https://user:hun/ter2@127.0.0.1:1"} {
		for _, args := range [][]string{
			{"healthcheck", "--url", url},
			{"token", "--issuer", url, "--client", "billing"},
			{"verify", good, "--issuer", url, "--audience", "orders"},
			{"verify", good, "--issuer", i.url, "--jwks", url, "--audience", "orders"},
			{"serve", "--data", p.data, "--issuer", url},
		} {
			out, errs, code := p.runWith(append(p.env(), "KEYMILL_CLIENT_SECRET=secret"), args...)
			if code == 0 || strings.Contains(out+errs, "ter2") {
				t.Errorf("%s %s: code %d, %s%s", args[0], url, code, out, errs)
			}
		}
		out, errs, code := p.runWith(append(p.env(), "KEYMILL_WEBHOOK_URL="+url), p.serveArgs()...)
		if code == 0 || !strings.Contains(errs, "webhook") || strings.Contains(out+errs, "ter2") {
			t.Errorf("webhook.url %s: code %d, %s", url, code, errs)
		}
	}
}

// TestTokenExplainsTLSFaults: an authority that this machine does not know, and plain http at a port with TLS.
func TestTokenExplainsTLSFaults(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for issuer, want := range map[string]string{
		secure.URL: "\n  hint: for a certificate authority of your own, set SSL_CERT_FILE to the file of its certificate\n",
		strings.Replace(secure.URL, "https:", "http:", 1): "answered with status 400\n  hint: the server speaks TLS there: begin --issuer with https://\n",
		strings.Replace(plain.URL, "http:", "https:", 1):  "\n  hint: the server speaks plain http there\n",
	} {
		if out, errs, code := p.runWith(environment("KEYMILL_CLIENT_SECRET=secret"), "token", "--issuer", issuer, "--client", "billing"); code != 1 || out != "" || !strings.HasSuffix(errs, want) {
			t.Errorf("%s: code %d, %s", issuer, code, errs)
		}
	}
}
