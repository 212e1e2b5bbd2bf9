package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/completion"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/jwks"
)

const verifyManual = `Fetch the issuer's published keys and check an access token (RFC 9068) with the code that
Go services use, package jwks. The checks, in this order; the first that fails ends it:

  form       three parts of base64url with dots between; not encrypted, not over 16 KiB
  header     nothing that changes what a token means: crit, b64, zip, enc
  algorithm  one that the service allows (--alg); after the key is found, also the key's own
  type       "typ" is at+jwt, or JWT with --type JWT; an ID token has not at+jwt
  key        the header's kid is in the key set: not revoked, not another issuer's
  signature  it was made with that key, so the token was not changed
  issuer     "iss" is --issuer, letter for letter
  audience   --audience is one of "aud"
  claims     "sub", "client_id" and "exp" are present, and every claim has the right type
  lifetime   now is before "exp", and not before "nbf" or "iat"
  scope      the token grants every --scope (checked only if the flag is given)

The list of checks, the claims and the key set go to stdout, the reason of a refusal and
what to do about it to stderr. Claims of a token whose signature is not verified are
marked UNVERIFIED: anyone may have written them. The token itself is never printed.

"-" reads the token from standard input. "Bearer ", quotes and spaces around the token are
removed, and the output says so. Every user of this machine can see arguments: "-" is safer
for a token that is still valid.

The exit code is 0 for a valid token, 1 for one that is refused, 2 for a usage error (an
empty token, too), and 3 if there is no key set to check with, which says nothing about the
token. With code 2 nothing was checked: stdout is empty, also with --json, and stderr
says why.

The keys come from the issuer's discovery document, or from --jwks URL. No redirect
is followed, and only https and loopback addresses are used.`

// notChecked is the exit code if there is no key set, or no server, to check a token with.
const notChecked = 3

func verifyCommand() *cobra.Command {
	var check diagnose.TokenCheck
	var leeway string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify TOKEN --issuer URL --audience NAME",
		Short: "Check an access token as a service does",
		Long:  verifyManual,
		Example: `  keymill verify "$TOKEN" --issuer https://id.example.com --audience orders
  keymill token --client dev-service | keymill verify - --audience dev-api --json
  keymill verify - --audience orders --scope read --alg EdDSA --leeway 30s < token.txt
  keymill verify - --issuer https://id.example.com --jwks http://127.0.0.1:8420/.well-known/jwks.json --audience orders < token.txt`,
		Args: verifyArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkType(cmd, check.Type); err != nil {
				return err
			}
			if check.Type != jwks.TypeAccessToken && check.Type != jwks.TypeJWT {
				return terminal.Usage("--type %.100q is neither %s nor %s", check.Type, jwks.TypeAccessToken, jwks.TypeJWT)
			}
			if err := completeCheck(cmd, &check, args, leeway); err != nil {
				return err
			}
			var invalid *diagnose.ConfigError
			if errors.As(check.Run(cmd.Context()), &invalid) {
				return terminal.WithHint(terminal.Usage("%v", invalid), "%s", invalid.Advice)
			}
			return printCheck(cmd.OutOrStdout(), &check, asJSON)
		},
	}
	addDataFlag(cmd)
	addIssuerFlag(cmd, &check.Issuer)
	f := cmd.Flags()
	f.StringVar(&check.Audience, "audience", "", "the audience that the token must have: the name of the service")
	f.StringVar(&check.KeySetURL, "jwks", "", "the address of the key set (default: from the issuer's discovery document)")
	f.StringArrayVar(&check.Algorithms, "alg", jwks.Algorithms(), "an algorithm that the service allows (repeatable)")
	f.StringVar(&check.Type, "type", jwks.TypeAccessToken, "the type of the audience's tokens: at+jwt or JWT")
	f.StringArrayVar(&check.Scopes, "scope", nil, "a scope that the token must grant (repeatable)")
	f.StringVar(&leeway, "leeway", "0s", "allowed clock difference, 0s to 1m")
	completion.Algorithm(cmd)
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{jwks.TypeAccessToken, jwks.TypeJWT}, cobra.ShellCompDirectiveNoFileComp))
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// verifyArguments requires one token, but accepts a whole header line that the shell has
// split. Its error does not repeat an argument, which may be the token.
func verifyArguments(cmd *cobra.Command, args []string) error {
	for len(args) > 1 && diagnose.IsHeaderWord(args[0]) {
		args = args[1:]
	}
	if len(args) > 1 {
		return terminal.WithHint(terminal.Usage("expected one TOKEN, got %d arguments", len(args)), "put quotes around the token, or give \"-\" and the token on standard input")
	}
	return arguments("TOKEN")(cmd, args)
}

// completeCheck reads the token and finds what was not typed. The audience must be typed: if
// it came from the token, its check would accept every token.
func completeCheck(cmd *cobra.Command, check *diagnose.TokenCheck, args []string, leeway string) error {
	typed, err := readToken(cmd.InOrStdin(), strings.Join(args, " "))
	if err != nil {
		return err
	}
	if check.Token = diagnose.ReadToken(typed); check.Token.IsEmpty() {
		return emptyToken(args)
	}
	check.Issuer = knownIssuer(check.Issuer, localCredentials(cmd))
	switch {
	case check.Issuer == "":
		return terminal.WithHint(terminal.Usage("--issuer is missing"), "%s", suggestFlag("--issuer", check.Token.Claim("iss"),
			"keymill verify TOKEN --issuer https://id.example.com --audience orders"))
	case check.Audience == "":
		return terminal.WithHint(terminal.Usage("--audience is missing"), "a service accepts only tokens that are meant for it: %s",
			suggestFlag("--audience", check.Token.Claim("aud"), "--audience orders"))
	}
	for _, scope := range check.Scopes {
		if !jwks.IsScope(scope) {
			return terminal.WithHint(terminal.Usage("--scope %q is not one scope", scope), "repeat the flag for more: --scope read --scope write")
		}
	}
	if err := checkScopes(check.Scopes); err != nil {
		return err
	}
	if check.Leeway, err = config.ParseDuration(leeway); err != nil {
		return terminal.Usage("--leeway %v", err)
	}
	return nil
}

// suggestFlag suggests the value that the token names, if it names one.
func suggestFlag(flag, claim, otherwise string) string {
	if claim == "" {
		return otherwise
	}
	return fmt.Sprintf("the token names %q (unverified): %s %s", claim, flag, terminal.ShellWord(claim))
}

// emptyToken is a usage error and not a refusal: there is no token to refuse.
func emptyToken(args []string) error {
	if args[0] == "-" {
		return terminal.WithHint(terminal.Usage("TOKEN is empty: nothing came on standard input"), "did the command before it fail, or is it the wrong file?")
	}
	return terminal.WithHint(terminal.Usage("TOKEN is empty"), "the variable that it comes from is probably empty or not set")
}

// maxTokenInput is above the longest token that package jwks accepts.
const maxTokenInput = 32 << 10

// readToken reads the token as it is: a report says which encoding is wrong, and how to write another.
func readToken(in io.Reader, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxTokenInput))
	return string(raw), err
}

// printCheck prints the result to w and returns the error that ends the program. With JSON a
// refusal is not repeated on stderr, but a missing key set is, since its exit code differs.
func printCheck(w io.Writer, check *diagnose.TokenCheck, asJSON bool) error {
	result := check.Outcome()
	if !asJSON {
		if err := check.Print(w); err != nil {
			return err
		}
		return checkError(result)
	}
	raw, err := check.Report()
	if err == nil {
		err = terminal.PrintJSON(w, raw)
	}
	switch {
	case err != nil || result.Accepted:
		return err
	case result.NoKeySet:
		return checkError(result)
	}
	return terminal.ErrSilent
}

func checkError(o diagnose.Outcome) error {
	switch {
	case o.Accepted:
		return nil
	case o.NoKeySet:
		return terminal.WithHint(&terminal.Error{Err: errors.New("no key set to check with: " + o.Reason), Code: notChecked}, "%s", o.Advice)
	}
	return terminal.WithHint(errors.New("the token is refused: "+o.Reason), "%s", o.Advice)
}
