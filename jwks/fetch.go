package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	gopath "path"
	"strings"
	"time"
)

// defaultTimeout bounds a whole fetch, discovery and set together.
const defaultTimeout = 10 * time.Second

// discoveryLifetime is how long jwks_uri is used before discovery is read again.
const discoveryLifetime = time.Hour

// Fetch reads issuer's discovery document and the key set that it names, once. It uses only
// https, or http with a loopback host, and follows no redirect: the keys decide which tokens
// are accepted, so they must come from the address that the issuer names. Each document is at
// most 256 KiB long, and both together take at most 10 s. A nil client means a default one.
func Fetch(ctx context.Context, client *http.Client, issuer string) (*Set, error) {
	if _, err := parseIssuer(issuer); err != nil {
		return nil, err
	}
	safe, release := safeClient(client)
	defer release()
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	f := fetcher{client: safe, issuer: issuer}
	result, err := f.fetch(ctx)
	if err != nil {
		return nil, err
	}
	return result.set, nil
}

// A fetcher fetches one key set repeatedly. It belongs to one goroutine.
type fetcher struct {
	client   *http.Client
	issuer   string    // "" where location was given
	location string    // of the key set; "" before discovery
	learned  time.Time // when discovery named location; if zero, the next fetch reads discovery
	verifier string    // credential for requests to location; "" for none
	needKey  bool      // a set without a usable key is an error, because there is a good one

	// The headers of the last set from location. etag is "" if there is no such set.
	etag         string
	cacheControl []string

	moduli map[modulusHash]error // of the set that was parsed last, so that none is checked again
}

// A fetchResult is the result of one fetch.
type fetchResult struct {
	set      *Set          // nil if the set has not changed (304)
	sent     time.Time     // when the request was sent
	age      time.Duration // time that the set had spent in caches by then
	lifetime time.Duration // how long it is fresh, from sent on
}

func (f *fetcher) fetch(ctx context.Context) (fetchResult, error) {
	if err := f.discover(ctx); err != nil {
		return fetchResult{}, err
	}
	result, err := f.fetchSet(ctx)
	if err != nil {
		f.learned = time.Time{} // the set may have moved: read discovery again
		return fetchResult{}, fmt.Errorf("fetch key set: %w", err)
	}
	return result, nil
}

// discover reads the address of the set from the discovery document, at most once in
// discoveryLifetime. If it fails, the whole fetch fails: the issuer may have moved its keys,
// and another party may control the old address now.
func (f *fetcher) discover(ctx context.Context) error {
	known := !f.learned.IsZero() && elapsed(f.learned, time.Now()) < discoveryLifetime
	if f.issuer == "" || known {
		return nil
	}
	sent := time.Now()
	// After the path (OpenID Connect Discovery 1.0, section 4), where nearly every issuer has it.
	location := strings.TrimSuffix(f.issuer, "/") + "/.well-known/openid-configuration"
	response, err := get(ctx, f.client, location, nil)
	if err != nil {
		return fmt.Errorf("fetch discovery: %w", err)
	}
	keys, err := readDiscovery(response.body, f.issuer)
	if err != nil {
		return fmt.Errorf("read discovery of %s: %w", f.issuer, err)
	}
	if keys != f.location {
		f.etag = "" // the tag belongs to the former location
	}
	f.location, f.learned = keys, sent
	return nil
}

// fetchSet gets the set, or learns that it has not changed.
func (f *fetcher) fetchSet(ctx context.Context) (fetchResult, error) {
	sent := time.Now()
	response, err := get(ctx, f.client, f.location, f.conditions())
	if err != nil {
		return fetchResult{}, err
	}
	result := fetchResult{sent: sent, age: readAge(response.header)}
	cacheControl := response.header.Values("Cache-Control")
	if response.unchanged {
		// A 304 need not repeat what it does not change (RFC 9111, section 4.3.4).
		if len(cacheControl) == 0 {
			cacheControl = f.cacheControl
		}
	} else {
		if result.set, err = f.parse(response.body); err != nil {
			return fetchResult{}, fmt.Errorf("%s: %w", shown(f.location), err)
		}
		// After an error the tag stays that of the last good set. With the tag of a refused set
		// the next answer could be a 304, which would count as a success.
		f.etag = entityTag(response.header)
	}
	f.cacheControl = cacheControl
	result.lifetime = freshFor(cacheControl, result.age)
	return result, nil
}

// conditions returns the headers of a request for the set.
func (f *fetcher) conditions() http.Header {
	header := http.Header{}
	if f.etag != "" {
		header.Set("If-None-Match", f.etag)
	}
	if f.verifier != "" {
		header.Set(VerifierHeader, f.verifier)
	}
	return header
}

// parse reads a set. With needKey it refuses one that cannot verify any token.
func (f *fetcher) parse(body []byte) (*Set, error) {
	set, err := parseSet(body, f.moduli)
	if err != nil {
		return nil, err
	}
	f.moduli = set.moduli
	if f.needKey && len(set.keys) == 0 {
		return nil, &noKeyError{set.skipped}
	}
	return set, nil
}

// A noKeyError is the error for a set that was fetched and has no usable key.
type noKeyError struct{ skipped Skipped }

// Error names the first key that was left out.
func (e *noKeyError) Error() string {
	if len(e.skipped.Keys) == 0 {
		return "the key set is empty"
	}
	return fmt.Sprintf("the key set has no usable key; %d left out, the first: %v", e.skipped.Count, e.skipped.Keys[0])
}

// parseIssuer reads the name of an issuer (RFC 8414, section 2): a host and perhaps a path. A
// trailing slash is a part of the name. Keymill's own issuer has no path. A name that can be
// written in two ways is refused, since issuers are compared character by character.
func parseIssuer(issuer string) (*url.URL, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Hostname() == "" || issuer != u.Scheme+"://"+u.Host+u.Path || !plainPath(u.Path) {
		shown := cutUserinfo(issuer)
		if at := strings.LastIndex(issuer, "@"); at >= 0 && !strings.Contains(issuer, "://") {
			shown = "…" + issuer[at:]
		}
		return nil, fmt.Errorf("issuer %q is not of the form https://host or https://host/path", clip(shown))
	}
	if err := checkTransport(u); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", clip(issuer), err)
	}
	return u, nil
}

// plainPath reports whether path has no empty segment and no segment of dots.
func plainPath(path string) bool {
	path = strings.TrimSuffix(path, "/")
	return path == "" || path == gopath.Clean(path) && path != "/"
}

// parseLocation reads the address of a key set. It may have a query, which some issuers need.
// It must not have a password, which would get into logs.
func parseLocation(location string) (*url.URL, error) {
	u, err := url.Parse(location)
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("not a URL with a host")
	}
	if u.User != nil || strings.Contains(location, "#") {
		return nil, errors.New("it must not have a user or a fragment")
	}
	if err := checkTransport(u); err != nil {
		return nil, fmt.Errorf("%q: %w", clip(shown(location)), err)
	}
	return u, nil
}

// readDiscovery returns jwks_uri. The document must name issuer itself (RFC 8414, section
// 3.3): with the keys of another issuer, tokens of that issuer would be accepted.
func readDiscovery(document []byte, issuer string) (string, error) {
	members, err := parseObject(document)
	if err != nil {
		return "", err
	}
	claimed, err := members.Text("issuer")
	if err != nil {
		return "", err
	}
	if claimed != issuer {
		return "", fmt.Errorf("the discovery document names issuer %q, not %q", clip(claimed), clip(issuer))
	}
	location, err := members.Text("jwks_uri")
	if err != nil {
		return "", err
	}
	u, err := parseLocation(location)
	if err != nil {
		return "", fmt.Errorf("jwks_uri: %w", err)
	}
	if !strings.HasPrefix(issuer, u.Scheme+"://") {
		return "", fmt.Errorf("jwks_uri %q does not have the scheme of the issuer", clip(location))
	}
	return location, nil
}

// checkTransport returns an error unless a response from u is certain to come from its host:
// it uses TLS, or it never leaves this machine.
func checkTransport(u *url.URL) error {
	if u.Scheme == "https" || u.Scheme == "http" && IsLoopback(u.Hostname()) {
		return nil
	}
	return errors.New("only https, or http with a loopback host, can be trusted")
}

// IsLoopback reports whether host, without a port, is this machine: localhost, 127.0.0.0/8 or
// ::1. Plain HTTP is accepted there, because nothing leaves the machine.
func IsLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}
