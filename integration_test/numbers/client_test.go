package numbers

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"keymill/issuer"
	"keymill/issuer/refusal"
)

// A client sends HTTP requests to a server. It keeps one connection for each parallel request.
type client struct {
	base string
	http *http.Client
}

func newClient(t *testing.T, base string, connections int) *client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{base, &http.Client{Transport: transport, Timeout: 5 * time.Minute}}
}

func (c *client) post(path, contentType, body string) (status int, answer []byte, err error) {
	return c.postFrom(here(), path, contentType, body)
}

// postFrom is post with a header of a proxy that names the client's address.
func (c *client) postFrom(from netip.Addr, path, contentType, body string) (status int, answer []byte, err error) {
	req, err := http.NewRequest("POST", c.base+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("X-Forwarded-For", from.String())
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, answer, err
}

// token sends POST /token and returns the refresh token, if the answer has one. It returns an error
// for an answer without an access token.
func (c *client) token(form url.Values) (refusal.Secret, error) {
	status, answer, err := c.post("/token", "application/x-www-form-urlencoded", form.Encode())
	if err != nil {
		return "", err
	}
	var grant struct {
		Access  string         `json:"access_token"`
		Refresh refusal.Secret `json:"refresh_token"`
	}
	if err := json.Unmarshal(answer, &grant); err != nil || status != 200 || grant.Access == "" {
		return "", fmt.Errorf("POST /token: status %d: %.300s", status, answer)
	}
	return grant.Refresh, nil
}

// refresh rotates a family of the client with these credentials.
func (c *client) refresh(creds issuer.Credentials, token refusal.Secret) (refusal.Secret, error) {
	return c.token(url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {string(token)},
		"client_id": {creds.ClientID}, "client_secret": {string(creds.Secret)},
	})
}
