// Package tokenrequest fetches a token with the client_credentials grant (RFC 6749, section 4.4), as a client
// does: it asks the token endpoint that the issuer's metadata names, and sends a secret over https or
// loopback only.
package tokenrequest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"keymill/cmd/keymill/internal/healthcheck"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
	"keymill/issuer/origin"
	"keymill/jwks"
)

// A Request asks for one token.
type Request struct {
	Issuer, Client, Secret string
	Audience               string   // "" for the client's only one
	Scopes                 []string // none for all that the client is allowed
}

// Fetch returns the answer's JSON.
func (req *Request) Fetch(ctx context.Context) ([]byte, error) {
	client := webClient()
	endpoint, err := tokenEndpoint(ctx, client, req.Issuer)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if req.Audience != "" {
		form.Set("audience", req.Audience)
	}
	if scope := strings.Join(req.Scopes, " "); scope != "" {
		form.Set("scope", scope)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749, section 2.3.1: both parts are form-encoded first.
	post.SetBasicAuth(url.QueryEscape(req.Client), url.QueryEscape(req.Secret))
	raw, status, err := roundTrip(client, post)
	if err != nil || status == http.StatusOK {
		return raw, err
	}
	var refused api.ErrorResponse
	if json.Unmarshal(raw, &refused) != nil || refused.Code == "" {
		return nil, fmt.Errorf("%s answered with status %d", endpoint, status)
	}
	err = fmt.Errorf("the server refused: %s: %s", refused.Code, cmp.Or(refused.Description, refused.Code))
	if refused.Code == "invalid_client" {
		return nil, terminal.WithHint(err, "the client ID or the secret is wrong, or the client is disabled; for a new secret: keymill client rotate-secret %s", terminal.ShellWord(req.Client))
	}
	return nil, err
}

// tokenEndpoint reads the issuer's metadata (RFC 8414). It asks only an https or loopback
// issuer, because the next request carries a secret.
func tokenEndpoint(ctx context.Context, client *http.Client, issuer string) (string, error) {
	if strings.Contains(issuer, "@") {
		return "", terminal.Usage("--issuer %q must not have a user or a password", terminal.WithoutUser(issuer))
	}
	if !safeURL(issuer) {
		return "", fmt.Errorf("the issuer %q is neither https nor loopback: the secret would cross the network unencrypted", issuer)
	}
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, metadataURL(issuer), nil)
	if err != nil {
		return "", err
	}
	raw, status, err := roundTrip(client, get)
	if err != nil {
		return "", err
	}
	var metadata struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	switch {
	case status == http.StatusBadRequest && healthcheck.WantsTLS(bytes.NewReader(raw)):
		return "", terminal.WithHint(fmt.Errorf("%s answered with status 400", get.URL), "the server speaks TLS there: begin --issuer with https://")
	case status != http.StatusOK:
		return "", belowHost(issuer, fmt.Errorf("%s answered with status %d", get.URL, status))
	case json.Unmarshal(raw, &metadata) != nil:
		return "", belowHost(issuer, fmt.Errorf("%s is not JSON", get.URL))
	case metadata.Issuer != issuer:
		return "", terminal.WithHint(fmt.Errorf("the server's issuer is %q, not %q", metadata.Issuer, issuer), "give --issuer exactly as the server does")
	case !safeURL(metadata.TokenEndpoint):
		return "", fmt.Errorf("the token endpoint %q is neither https nor loopback", terminal.WithoutUser(metadata.TokenEndpoint))
	}
	return metadata.TokenEndpoint, nil
}

// metadataURL puts the well-known path between the host and the path of the issuer (RFC 8414, section 3.1).
func metadataURL(issuer string) string {
	host, path := origin.OfIssuer(strings.TrimSuffix(issuer, "/"))
	return host + "/.well-known/oauth-authorization-server" + path
}

// belowHost adds a hint if the issuer has a path: another program of its host may have answered.
func belowHost(issuer string, err error) error {
	_, path := origin.OfIssuer(issuer)
	if path == "" {
		return err
	}
	return terminal.WithHint(err, "the proxy must pass this path on to Keymill, and everything below %s/ (see docs/operate.md, One host for several programs)", strings.TrimSuffix(path, "/"))
}

func safeURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && jwks.IsLoopback(u.Hostname()))
}

// maxAnswerBytes bounds the answers with metadata and tokens.
const maxAnswerBytes = 256 << 10

func roundTrip(client *http.Client, req *http.Request) ([]byte, int, error) {
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, 0, terminal.WithHint(fmt.Errorf("request to %s://%s failed: %w", req.URL.Scheme, req.URL.Host, err),
			"%s", healthcheck.TLSHint(err, "is the server running, and is --issuer its address?"))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	return raw, resp.StatusCode, err
}

// webClient returns a client that follows no redirect, because a redirect could send the
// client's secret to another server.
func webClient() *http.Client {
	return &http.Client{
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
