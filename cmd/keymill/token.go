package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/tokenrequest"
)

// A tokenInput is a request and where its secret is.
type tokenInput struct {
	tokenrequest.Request
	secretFile string
}

func tokenCommand() *cobra.Command {
	var req tokenInput
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
			req.Scopes = nonEmpty(req.Scopes)
			raw, err := req.Fetch(cmd.Context())
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
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
	addIssuerFlag(cmd, &req.Issuer)
	f := cmd.Flags()
	f.StringVar(&req.Client, "client", "", "the client's id")
	f.StringVar(&req.Audience, "audience", "", "the audience to request (default: the client's only one)")
	f.StringArrayVar(&req.Scopes, "scope", nil, "a scope to request (repeatable; default: all that the client is allowed)")
	f.BoolVar(&stdin, "client-secret-stdin", false, "read the secret from standard input")
	f.StringVar(&req.secretFile, "client-secret-file", "", "read the secret from this file")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func addIssuerFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "issuer", "", "the issuer's URL (or $KEYMILL_ISSUER; else that of the local \"serve --dev\")")
}

// complete fills in the issuer and the secret if they were not given.
func (req *tokenInput) complete(cmd *cobra.Command, stdin bool) error {
	if req.Client == "" {
		return terminal.WithHint(terminal.Usage("--client is missing"), "keymill token --issuer URL --client ID")
	}
	for _, scope := range req.Scopes {
		if strings.Contains(scope, ",") {
			return checkScopes([]string{scope})
		}
	}
	dev := localCredentials(cmd)
	if req.Issuer = knownIssuer(req.Issuer, dev); req.Issuer == "" {
		return terminal.WithHint(terminal.Usage("--issuer is missing"), "keymill token --issuer https://id.example.com --client %s", terminal.ShellWord(req.Client))
	}
	if err := req.readSecret(cmd, stdin); err != nil {
		return err
	}
	if req.Secret == "" && req.Issuer == dev.Issuer {
		req.Secret = dev.Secret(req.Client)
	}
	if req.Secret != "" {
		return nil
	}
	if req.Issuer == dev.Issuer && dev.IsPublic(req.Client) {
		return fmt.Errorf("client %s is public, it cannot use client_credentials", req.Client)
	}
	return terminal.WithHint(fmt.Errorf("no secret was given for client %s", req.Client),
		"set KEYMILL_CLIENT_SECRET, name its file with --client-secret-file, or pipe it into --client-secret-stdin")
}

// readSecret reads the client's secret, and nothing if it is nowhere.
func (req *tokenInput) readSecret(cmd *cobra.Command, stdin bool) error {
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
	req.Secret = string(secret)
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
