package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// A Client has the credentials that `client add` printed.
type Client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// A StatusError is an answer of the server with a status other than 200.
type StatusError struct {
	Status int
	Body   string
}

// Error returns status and body.
func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Body) }

// Run runs a verb and returns its standard output. The test ends if the verb fails.
func (s *Server) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, errs, err := s.Verb(context.Background(), args...)
	if err != nil {
		t.Fatalf("keymill %s: %v\n%s", strings.Join(args, " "), err, errs)
	}
	return out
}

// RunJSON runs a verb with --json and decodes its output into v.
func (s *Server) RunJSON(t testing.TB, v any, args ...string) {
	t.Helper()
	out := s.Run(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("keymill %s: %v in %q", strings.Join(args, " "), err, out)
	}
}

// AddClient adds a confidential client that may get tokens for one audience.
func (s *Server) AddClient(t testing.TB, id, audience string) Client {
	t.Helper()
	var c Client
	s.RunJSON(t, &c, "client", "add", id, "--grant", "client_credentials", "--audience", audience)
	return c
}

// Token requests a token with the credentials of c. It returns a *StatusError for an answer other
// than 200.
func (s *Server) Token(ctx context.Context, c Client, audience string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "audience": {audience}}
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	status, body, err := s.do(req)
	if err != nil {
		return "", err
	}
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if status != http.StatusOK {
		return "", &StatusError{status, string(body)}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		return "", fmt.Errorf("the answer has no token: %q (%v)", body, err)
	}
	return answer.AccessToken, nil
}

// Get sends GET to a public path.
func (s *Server) Get(ctx context.Context, path string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
	if err != nil {
		return 0, nil, err
	}
	return s.do(req)
}

func (s *Server) do(req *http.Request) (int, []byte, error) {
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}
