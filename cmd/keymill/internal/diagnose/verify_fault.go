package diagnose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"keymill/cmd/keymill/internal/healthcheck"
	"keymill/cmd/keymill/internal/terminal"
)

// An answer is how the issuer answered one request. Package jwks says what it refused in an
// answer; these facts help a person to see why.
type answer struct {
	url       string
	status    int       // 0 if there was no answer
	mediaType string    // of Content-Type
	wantsTLS  bool      // it was asked over plain http, and says that it speaks TLS
	clock     time.Time // the issuer's clock at that moment; zero if it is not known
	at        time.Time // the clock of this machine
}

// A recorder is a transport that remembers the last answer. It reads only its headers.
type recorder struct {
	transport http.RoundTripper
	mu        sync.Mutex // guards seen
	seen      answer
}

func newRecorder() *recorder {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10 // as in package jwks; the default is 10 MB
	return &recorder{transport: transport}
}

// RoundTrip implements http.RoundTripper.
func (w *recorder) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.transport.RoundTrip(r)
	seen := answer{url: r.URL.String(), at: time.Now()}
	if err == nil {
		seen.status = response.StatusCode
		seen.mediaType, _, _ = mime.ParseMediaType(response.Header.Get("Content-Type"))
		seen.clock = originClock(response.Header)
		seen.wantsTLS = response.StatusCode == http.StatusBadRequest && healthcheck.WantsTLS(response.Body)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = seen
	return response, err
}

func (w *recorder) last() answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// originClock returns the time at the origin server now: Date is when it answered, and Age
// how long a cache has kept that answer (RFC 9111, section 5.1).
func originClock(h http.Header) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	age, err := strconv.ParseUint(h.Get("Age"), 10, 31)
	if err != nil && h.Get("Age") != "" {
		return time.Time{}
	}
	return date.Add(time.Duration(age) * time.Second)
}

// fault says in one sentence why there is no key set.
func (c *TokenCheck) fault() string {
	err := c.err
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	var dns *net.DNSError
	var slow net.Error
	host := c.host()
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("%s shows a certificate that no authority known to this machine has signed", host)
	case errors.As(err, &hostname) && len(hostname.Certificate.DNSNames)+len(hostname.Certificate.IPAddresses) == 0:
		return fmt.Sprintf("the certificate of %s has no subjectAltName, and its common name does not count", host)
	case errors.As(err, &hostname):
		return fmt.Sprintf("the certificate of %s is for another name", host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s has expired or is not valid yet", host)
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS", host)
	case errors.As(err, &dns):
		return fmt.Sprintf("no address is known for %s", host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s", host)
	case errors.Is(err, context.Canceled):
		return "the fetch was interrupted"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("%s did not answer in time", host)
	}
	if c.keys.Err != nil {
		return c.keys.Err.Error()
	}
	return terminal.Plain(err)
}

// faultAdvice says what to do about fault.
func (c *TokenCheck) faultAdvice() string {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var plain tls.RecordHeaderError
	discovery := strings.Contains(c.seen.url, "/.well-known/openid-configuration") && c.KeySetURL == ""
	switch status := c.seen.status; {
	case c.seen.wantsTLS:
		return "the server speaks TLS there: begin the address with https://"
	case errors.As(c.err, &unknown):
		return "for an authority of your own, name its certificate: SSL_CERT_FILE=ca.pem keymill verify …"
	case errors.As(c.err, &hostname) && len(hostname.Certificate.DNSNames)+len(hostname.Certificate.IPAddresses) == 0:
		return "the server needs a certificate with its name as subjectAltName"
	case errors.As(c.err, &hostname):
		return "use a name that is in the certificate; tokens name the issuer by it too"
	case errors.As(c.err, &plain), errors.Is(c.err, http.ErrSchemeMismatch):
		return "use the port of the TLS proxy: Keymill itself speaks plain HTTP"
	case status == 0:
		return "try \"curl -v " + c.seen.url + "\" from here: is the server running, and is no firewall or proxy in between?"
	case status/100 == 3:
		return "redirects are not followed, because the keys must come from the address that the issuer names: give the final address"
	case status == http.StatusNotFound && discovery:
		return "check --issuer; an issuer without a discovery document needs --jwks URL"
	case status == http.StatusNotFound:
		return c.notFoundAdvice()
	case status/100 == 5:
		return "the server or the proxy in front of it is not ready: check its log, and try again"
	case status != http.StatusOK:
		return "the address must be readable without authentication: check the proxy in front of it"
	case c.seen.mediaType == "text/html":
		return "the answer is a page for browsers, like the login or error page of a proxy: is that the issuer's address?"
	case discovery:
		return "\"curl " + c.seen.url + "\" shows the document; its issuer must be the same as --issuer, letter for letter"
	}
	return "\"curl " + c.seen.url + "\" shows the document; it must be a key set: {\"keys\": [...]}"
}

// notFoundAdvice is for a key set that is not at its address.
func (c *TokenCheck) notFoundAdvice() string {
	usual := strings.TrimRight(c.Issuer, "/") + "/.well-known/jwks.json"
	switch {
	case c.KeySetURL == "":
		return "the issuer's discovery document names that address, and nothing is there: correct its jwks_uri, or the proxy in front"
	case c.KeySetURL == usual:
		return "that is where Keymill publishes it: is a Keymill at that address, and does a proxy in front pass /.well-known/ on?"
	}
	return "it is the wrong address: Keymill's is " + usual
}

// host returns scheme and host of the last request.
func (c *TokenCheck) host() string {
	rest := c.seen.url
	if scheme, after, found := strings.Cut(rest, "://"); found {
		host, _, _ := strings.Cut(after, "/")
		return scheme + "://" + host
	}
	return c.Issuer
}
