package main

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
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/healthcheck"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

// A tokenRequest is a request with the client_credentials grant (RFC 6749, section 4.4).
type tokenRequest struct {
	issuer, client, secret string
	secretFile             string
	audience               string
	scopes                 []string
}

func tokenCommand() *cobra.Command {
	var req tokenRequest
	var stdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "token --issuer URL --client ID",
		Short: "Fetch a token as a client does, and print it",
		Long: `Fetch a token with the client_credentials grant and print it, and nothing else. Use it to try
a client, or in a script that calls an API. The secret comes from standard input
(--client-secret-stdin), from a file that others cannot read (--client-secret-file), from the
systemd credential keymill-client-secret or from KEYMILL_CLIENT_SECRET. It is never an argument,
because every user of the machine sees arguments. For the clients of "serve --dev", the secret and
the issuer come from its data directory.`,
		Example: `  keymill token --client dev-service
  KEYMILL_CLIENT_SECRET=… keymill token --issuer https://id.example.com --client billing --audience orders --scope read
  keymill token --issuer https://id.example.com --client billing --client-secret-file /run/secrets/billing
  keymill token --issuer https://id.example.com --client billing --client-secret-stdin --json < secret.txt`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := req.complete(cmd, stdin); err != nil {
				return err
			}
			raw, err := req.fetch(cmd.Context(), webClient())
			if err != nil || asJSON {
				return printAnswer(cmd, raw, err)
			}
			var answer struct {
				AccessToken string `json:"access_token"`
			}
			if err := json.Unmarshal(raw, &answer); err != nil || answer.AccessToken == "" {
				return errors.New("the answer has no access_token")
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer.AccessToken)
			return err
		},
	}
	addDataFlag(cmd)
	addIssuerFlag(cmd, &req.issuer)
	f := cmd.Flags()
	f.StringVar(&req.client, "client", "", "the client's id")
	f.StringVar(&req.audience, "audience", "", "the audience to request (default: the client's only one)")
	f.StringArrayVar(&req.scopes, "scope", nil, "a scope to request (repeatable; default: all that the client is allowed)")
	f.BoolVar(&stdin, "client-secret-stdin", false, "read the secret from standard input")
	f.StringVar(&req.secretFile, "client-secret-file", "", "read the secret from this file")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func addIssuerFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "issuer", "", "the issuer's URL (or $KEYMILL_ISSUER; else that of the local \"serve --dev\")")
}

// complete fills in the issuer and the secret if they were not given.
func (req *tokenRequest) complete(cmd *cobra.Command, stdin bool) error {
	if req.client == "" {
		return terminal.WithHint(terminal.Usage("--client is missing"), "keymill token --issuer URL --client ID")
	}
	for _, scope := range req.scopes {
		if strings.Contains(scope, ",") {
			return checkScopes([]string{scope})
		}
	}
	dev := localCredentials(cmd)
	if req.issuer = knownIssuer(req.issuer, dev); req.issuer == "" {
		return terminal.WithHint(terminal.Usage("--issuer is missing"), "keymill token --issuer https://id.example.com --client %s", terminal.ShellWord(req.client))
	}
	if err := req.readSecret(cmd, stdin); err != nil {
		return err
	}
	if req.secret == "" && req.issuer == dev.Issuer {
		req.secret = dev.Secret(req.client)
	}
	if req.secret != "" {
		return nil
	}
	if req.issuer == dev.Issuer && dev.IsPublic(req.client) {
		return fmt.Errorf("client %s is public, it cannot use client_credentials", req.client)
	}
	return terminal.WithHint(fmt.Errorf("no secret was given for client %s", req.client),
		"set KEYMILL_CLIENT_SECRET, name its file with --client-secret-file, or pipe it into --client-secret-stdin")
}

// readSecret reads the client's secret, and nothing if it is nowhere.
func (req *tokenRequest) readSecret(cmd *cobra.Command, stdin bool) error {
	var in io.Reader
	switch {
	case stdin && req.secretFile != "":
		return terminal.Usage("--client-secret-stdin and --client-secret-file cannot be combined")
	case cmd.Flags().Changed("client-secret-file") && req.secretFile == "":
		return terminal.Usage("--client-secret-file is empty; is a variable not set?")
	case stdin:
		in = cmd.InOrStdin()
	}
	secret, err := config.ClientSecret(req.secretFile, in)
	req.secret = string(secret)
	return err
}

// localCredentials reads the credentials of the trial server whose data directory is near,
// if there is one.
func localCredentials(cmd *cobra.Command) serve.Credentials {
	for _, dir := range dataDirs(cmd) {
		if d, err := serve.ReadCredentials(filepath.Join(dir, "dev-credentials")); err == nil {
			return d
		}
	}
	return serve.Credentials{}
}

func knownIssuer(flag string, dev serve.Credentials) string {
	return cmp.Or(flag, os.Getenv("KEYMILL_ISSUER"), dev.Issuer)
}

// webClient returns a client that follows no redirect, because a redirect could send the
// client's secret to another server.
func webClient() *http.Client {
	return &http.Client{
		Timeout:       15 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch asks the token endpoint that the issuer's metadata names. It returns the answer's
// JSON.
func (req *tokenRequest) fetch(ctx context.Context, client *http.Client) ([]byte, error) {
	endpoint, err := tokenEndpoint(ctx, client, req.issuer)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if req.audience != "" {
		form.Set("audience", req.audience)
	}
	if scope := strings.Join(nonEmpty(req.scopes), " "); scope != "" {
		form.Set("scope", scope)
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749, section 2.3.1: both parts are form-encoded first.
	post.SetBasicAuth(url.QueryEscape(req.client), url.QueryEscape(req.secret))
	raw, status, err := roundTrip(client, post)
	if err != nil || status == http.StatusOK {
		return raw, err
	}
	refused := &adminapi.Error{}
	if json.Unmarshal(raw, refused) != nil || refused.Code == "" {
		return nil, fmt.Errorf("%s answered with status %d", endpoint, status)
	}
	err = fmt.Errorf("the server refused: %s: %w", refused.Code, refused)
	if refused.Code == "invalid_client" {
		return nil, terminal.WithHint(err, "the client ID or the secret is wrong, or the client is disabled; for a new secret: keymill client rotate-secret %s", terminal.ShellWord(req.client))
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
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/oauth-authorization-server", nil)
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
		return "", fmt.Errorf("%s answered with status %d", get.URL, status)
	case json.Unmarshal(raw, &metadata) != nil:
		return "", fmt.Errorf("%s is not JSON", get.URL)
	case metadata.Issuer != issuer:
		return "", terminal.WithHint(fmt.Errorf("the server's issuer is %q, not %q", metadata.Issuer, issuer), "give --issuer exactly as the server does")
	case !safeURL(metadata.TokenEndpoint):
		return "", fmt.Errorf("the token endpoint %q is neither https nor loopback", terminal.WithoutUser(metadata.TokenEndpoint))
	}
	return metadata.TokenEndpoint, nil
}

func safeURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && jwks.IsLoopback(u.Hostname()))
}

// maxWebAnswerBytes bounds the answers with metadata and tokens.
const maxWebAnswerBytes = 256 << 10

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
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxWebAnswerBytes))
	return raw, resp.StatusCode, err
}
