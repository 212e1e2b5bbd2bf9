package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/jwks"
)

func verifyCommand() *cobra.Command {
	var issuer, audience string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify TOKEN --issuer URL --audience NAME",
		Short: "Check a token as a service would, and say why not",
		Long: `Fetch the issuer's published keys and check an access token as a strict service would:
signature, algorithm, type, issuer, audience and lifetime. "-" reads the token from
standard input. The exit code is 0 if the token is good, 1 if not.`,
		Example: `  keymill verify "$TOKEN" --issuer https://id.example.com --audience orders
  keymill token --client dev-service | keymill verify - --audience dev-api --json`,
		Args: arguments("TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			issuer = knownIssuer(issuer, localCredentials(cmd))
			switch {
			case issuer == "":
				return hint(usage("--issuer is missing"), "keymill verify TOKEN --issuer https://id.example.com --audience orders")
			case audience == "":
				return hint(usage("--audience is missing"), "a service accepts only tokens that are meant for it: --audience orders")
			}
			token, err := readToken(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			set, err := jwks.Fetch(cmd.Context(), nil, issuer)
			if err != nil {
				return fmt.Errorf("the issuer's keys: %w", err)
			}
			claims, err := jwks.Check(token, set, jwks.Expectation{
				Issuer: issuer, Audience: audience, Algorithms: []string{"RS256", "EdDSA"},
			}, time.Now())
			if asJSON {
				return printVerdict(cmd.OutOrStdout(), claims, err)
			}
			if err != nil {
				return fmt.Errorf("the token is refused: %w", err)
			}
			return printClaims(cmd.OutOrStdout(), claims)
		},
	}
	addDataFlag(cmd)
	addIssuerFlag(cmd, &issuer)
	cmd.Flags().StringVar(&audience, "audience", "", "the service that verifies")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// maxTokenInput is above the longest token that jwks looks at.
const maxTokenInput = 32 << 10

func readToken(in io.Reader, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxTokenInput))
	return strings.TrimSpace(string(raw)), err
}

// A verdict is what verify --json prints.
type verdict struct {
	Valid  bool            `json:"valid"`
	Check  string          `json:"check,omitempty"`  // the check that failed
	Reason string          `json:"reason,omitempty"` // in words
	KID    string          `json:"kid,omitempty"`
	Alg    string          `json:"alg,omitempty"`
	Claims json.RawMessage `json:"claims,omitempty"` // of a valid token only
}

func printVerdict(w io.Writer, claims *jwks.Claims, refused error) error {
	v := verdict{Valid: refused == nil}
	if refused != nil {
		v.Check, v.Reason = failedCheck(refused), refused.Error()
	} else {
		v.KID, v.Alg, v.Claims = claims.KID, claims.Alg, claims.Raw
	}
	raw, err := marshalJSON(v)
	if err == nil {
		err = printJSON(w, raw)
	}
	if err == nil && refused != nil {
		return errSaid
	}
	return err
}

// failedCheck names the check for programs; people read the reason.
func failedCheck(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{jwks.ErrMalformed, "form"},
		{jwks.ErrHeader, "header"},
		{jwks.ErrType, "type"},
		{jwks.ErrAlgorithm, "algorithm"},
		{jwks.ErrUnknownKey, "key"},
		{jwks.ErrSignature, "signature"},
		{jwks.ErrIssuer, "issuer"},
		{jwks.ErrAudience, "audience"},
		{jwks.ErrExpired, "expired"},
		{jwks.ErrNotYet, "not_yet"},
		{jwks.ErrClaims, "claims"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}

func printClaims(w io.Writer, c *jwks.Claims) error {
	t := newTable(w)
	t.row("valid until:", instant(&c.Expires), "("+time.Until(c.Expires).Round(time.Second).String()+" from now)")
	t.row("signed by:", c.KID, c.Alg)
	t.row("issuer:", c.Issuer)
	t.row("audience:", listed(c.Audience))
	t.row("subject:", c.Subject)
	t.row("client:", c.ClientID)
	t.row("scope:", orDash(c.Scope))
	return errors.Join(t.flush(), printOthers(w, c.Raw))
}

// printOthers shows the claims that printClaims has no line for.
func printOthers(w io.Writer, raw []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	t := newTable(w)
	var names []string
	for name := range all {
		switch name {
		case "iss", "aud", "sub", "client_id", "scope", "exp", "iat", "nbf", "jti":
		default:
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		t.row(name+":", string(all[name]))
	}
	return t.flush()
}
