package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// fetchTimeout bounds a whole Fetch, discovery and set together.
const fetchTimeout = 10 * time.Second

// Fetch reads issuer's discovery document and the key set it points to, once. It
// speaks https, or http with a loopback host, and follows no redirect: the keys must
// come from where the issuer says, for they decide who is believed. Each document is
// at most 256 KiB, and both together take at most 10 s. A nil client means a plain one.
func Fetch(ctx context.Context, client *http.Client, issuer string) (*Set, error) {
	base, err := parseIssuer(issuer)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	document, err := get(ctx, client, issuer+"/.well-known/openid-configuration")
	if err != nil {
		return nil, fmt.Errorf("fetch discovery: %w", err)
	}
	location, err := readDiscovery(document, issuer, base.Scheme)
	if err != nil {
		return nil, fmt.Errorf("read discovery of %s: %w", issuer, err)
	}
	written, err := get(ctx, client, location)
	if err != nil {
		return nil, fmt.Errorf("fetch key set: %w", err)
	}
	return Parse(written)
}

// parseIssuer refuses what Keymill refuses as its own issuer: path, query, fragment,
// trailing slash.
func parseIssuer(issuer string) (*url.URL, error) {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || issuer != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("issuer %q is not of the form https://host", clip(issuer))
	}
	if err := trusted(u); err != nil {
		return nil, fmt.Errorf("issuer %q: %w", clip(issuer), err)
	}
	return u, nil
}

// readDiscovery returns jwks_uri, from a document that is issuer's own (RFC 8414,
// section 3.3): another issuer's keys would verify another issuer's tokens.
func readDiscovery(document []byte, issuer, scheme string) (string, error) {
	members, err := parseObject(document)
	if err != nil {
		return "", err
	}
	claimed, err := members.text("issuer")
	if err != nil {
		return "", err
	}
	if claimed != issuer {
		return "", fmt.Errorf("it is the document of issuer %q", clip(claimed))
	}
	location, err := members.text("jwks_uri")
	if err != nil {
		return "", err
	}
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("jwks_uri %q is not a URL", clip(location))
	}
	if u.Scheme != scheme {
		return "", fmt.Errorf("jwks_uri %q is not %s as the issuer is", clip(location), scheme)
	}
	if err := trusted(u); err != nil {
		return "", fmt.Errorf("jwks_uri %q: %w", clip(location), err)
	}
	return location, nil
}

// trusted says whether what u answers is what its host sent: by TLS, or because it
// never leaves this machine.
func trusted(u *url.URL) error {
	if u.Scheme == "https" {
		return nil
	}
	host := u.Hostname()
	address, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && address.IsLoopback()
	if u.Scheme == "http" && loopback {
		return nil
	}
	return errors.New("only https, or http with a loopback host, can be trusted")
}

func get(ctx context.Context, client *http.Client, location string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, location, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	var once http.Client
	if client != nil {
		once = *client
	}
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := once.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", location, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocumentBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", location, err)
	}
	if len(body) > maxDocumentBytes {
		return nil, fmt.Errorf("%s sent over %d bytes", location, maxDocumentBytes)
	}
	return body, nil
}
