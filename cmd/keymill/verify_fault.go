package main

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

	"keymill/jwks"
)

// A sighting is how the issuer answered once. The package that fetches keys tells what it
// would not accept; this is what helps a person to see why.
type sighting struct {
	url    string
	status int // 0: no answer
	kind   string
	clock  time.Time // of who answered, when it did; zero if it did not say
	at     time.Time
}

// A watch keeps the last answer that passes through it. Only headers are looked at.
type watch struct {
	transport http.RoundTripper
	mu        sync.Mutex // guards seen
	seen      sighting
}

func newWatch() *watch {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxResponseHeaderBytes = 64 << 10 // as package jwks has it; the default is 10 MB
	return &watch{transport: transport}
}

func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.transport.RoundTrip(r)
	s := sighting{url: r.URL.String(), at: time.Now()}
	if err == nil {
		s.status = response.StatusCode
		s.kind, _, _ = mime.ParseMediaType(response.Header.Get("Content-Type"))
		s.clock = clockOf(response.Header)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = s
	return response, err
}

func (w *watch) last() sighting {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// clockOf is the time at the origin when it was asked: Date, and for how long a cache has
// kept the answer since (RFC 9111, section 5.1).
func clockOf(h http.Header) time.Time {
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

// fault says in a sentence why there is no key set.
func (v *verification) fault() string {
	err := v.err
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	var dns *net.DNSError
	var slow net.Error
	who := v.host()
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("%s shows a certificate that no authority known to this machine has signed", who)
	case errors.As(err, &hostname):
		return fmt.Sprintf("the certificate of %s is for another name", who)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s has expired or is not valid yet", who)
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Sprintf("%s does not speak TLS", who)
	case errors.As(err, &dns):
		return fmt.Sprintf("no address is known for %s", who)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("nothing listens at %s", who)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("%s did not answer in time", who)
	}
	return strings.TrimPrefix(err.Error(), jwks.ErrUnavailable.Error()+": ")
}

// faultAdvice is the hint to fault.
func (v *verification) faultAdvice() string {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var plain tls.RecordHeaderError
	discovery := strings.Contains(v.seen.url, "/.well-known/openid-configuration") && v.location == ""
	switch status := v.seen.status; {
	case errors.As(v.err, &unknown):
		return "for an authority of your own, name its certificate: SSL_CERT_FILE=ca.pem keymill verify …"
	case errors.As(v.err, &hostname):
		return "ask by a name that the certificate has; it is the issuer that tokens name"
	case errors.As(v.err, &plain), errors.Is(v.err, http.ErrSchemeMismatch):
		return "is that the port of the TLS proxy in front? Keymill itself speaks HTTP, and on loopback only"
	case status == 0:
		return "try \"curl -v " + v.seen.url + "\" from here: is the server up, and no firewall or proxy between?"
	case status/100 == 3:
		return "no redirect is followed, as keys must come from where the issuer says: give the final address"
	case status == http.StatusNotFound && discovery:
		return "is that the issuer? one without discovery needs --jwks URL"
	case status == http.StatusNotFound:
		return v.nowhereAdvice()
	case status/100 == 5:
		return "the server or the proxy in front of it is not ready: look at its log, and try again"
	case status != http.StatusOK:
		return "the address must be open to all: look at the proxy in front of it"
	case v.seen.kind == "text/html":
		return "a page for browsers came back, as from a login or an error page of a proxy: is that the issuer's address?"
	case discovery:
		return "\"curl " + v.seen.url + "\" shows the document; its issuer must be the same as --issuer, letter for letter"
	}
	return "\"curl " + v.seen.url + "\" shows the document; it must be a key set: {\"keys\": [...]}"
}

// nowhereAdvice is for a key set that is not where it was looked for.
func (v *verification) nowhereAdvice() string {
	usual := strings.TrimRight(v.issuer, "/") + "/.well-known/jwks.json"
	switch {
	case v.location == "":
		return "the issuer's discovery document names that address, and nothing is there: correct its jwks_uri, or the proxy in front"
	case v.location == usual:
		return "that is where Keymill has it: is a Keymill at that address, and does a proxy in front pass /.well-known/ on?"
	}
	return "it is the wrong address: Keymill's is " + usual
}

// host is whom the last request went to.
func (v *verification) host() string {
	rest := v.seen.url
	if scheme, after, found := strings.Cut(rest, "://"); found {
		host, _, _ := strings.Cut(after, "/")
		return scheme + "://" + host
	}
	return v.issuer
}
