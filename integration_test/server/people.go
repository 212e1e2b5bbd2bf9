package server

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Tests of families log in as this user, through a public client at the simplejwt endpoints.
const (
	Web       = "web"
	WebConfig = "simplejwt:\n  client: " + Web
	Person    = "alice"
	Password  = "correct horse battery staple"
)

// AddWeb adds the audience orders, the client Web and the user Person.
func (s *Server) AddWeb(t testing.TB) {
	t.Helper()
	s.Run(t, "audience", "add", "orders", "--alg", "EdDSA")
	s.Run(t, "client", "add", Web, "--public", "--grant", "refresh_token", "--audience", "orders")
	cmd := exec.CommandContext(t.Context(), s.binary, "user", "add", Person, "--id", "7", "--password-stdin")
	cmd.Env = append(Environment(), "KEYMILL_DATA="+s.Data, "KEYMILL_CONFIG="+s.config())
	cmd.Stdin = strings.NewReader(Password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("user add: %v\n%s", err, out)
	}
}

// An Answer is an HTTP answer of the server, with any status. If a method returns an error instead,
// there was no answer, and the request may or may not have been executed.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Field returns a member of the JSON body that is a string, "" if there is none.
func (a Answer) Field(name string) string {
	var members map[string]any
	json.Unmarshal(a.Body, &members)
	text, _ := members[name].(string)
	return text
}

// String returns status and body.
func (a Answer) String() string { return fmt.Sprintf("%d %s", a.Status, a.Body) }

// ReadToken returns the parts of a refresh token that can be read without a key. After the version
// and the number of the secret come the 16 bytes of the family, whose id is their base32 form, and
// the 4 bytes of the generation.
func ReadToken(token string) (family string, generation uint32, err error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "kmr_"))
	if err != nil || len(b) != 45 {
		return "", 0, fmt.Errorf("not a refresh token: %d bytes, %v", len(b), err)
	}
	text := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[2:18])
	return strings.ToLower(text), binary.BigEndian.Uint32(b[18:22]), nil
}

// Login logs Person in, which begins a family, and returns the first refresh token.
func (s *Server) Login(ctx context.Context) (string, error) {
	body, err := json.Marshal(map[string]string{"username": Person, "password": Password})
	if err != nil {
		return "", err
	}
	a, err := s.post(ctx, "/api/token/", "application/json", string(body))
	if err != nil {
		return "", err
	}
	if a.Status != http.StatusOK || a.Field("refresh") == "" {
		return "", &StatusError{a.Status, string(a.Body)}
	}
	return a.Field("refresh"), nil
}

// Refresh sends a refresh token to POST /token, as client.
func (s *Server) Refresh(ctx context.Context, client, token string) (Answer, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "client_id": {client}, "refresh_token": {token}}
	return s.post(ctx, "/token", "application/x-www-form-urlencoded", form.Encode())
}

// Revoke sends a token to POST /revoke, as client.
func (s *Server) Revoke(ctx context.Context, client, token string) (Answer, error) {
	form := url.Values{"client_id": {client}, "token": {token}}
	return s.post(ctx, "/revoke", "application/x-www-form-urlencoded", form.Encode())
}

func (s *Server) post(ctx context.Context, path, contentType, body string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", s.Issuer+path, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := s.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return a, err
}

// AwaitEnd waits until the server ends by itself. It returns an error if the server still runs after
// limit, or ended without an exit code other than 0. The server can be started again afterwards.
func (s *Server) AwaitEnd(limit time.Duration) error {
	select {
	case <-s.process.done:
		err := s.process.err
		s.process = nil
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		if err == nil || !exit.Exited() {
			return fmt.Errorf("the server ended with %v, want an exit code other than 0", err)
		}
		return nil
	case <-time.After(limit):
		return fmt.Errorf("the server is still running after %v", limit)
	}
}
