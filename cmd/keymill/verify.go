package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/jwks"
)

// A verification is one token judged as a service would judge it, and what there is to
// say about that. Everything but the command line and claims may be a stranger's text.
type verification struct {
	issuer, location, audience string // location: of the key set, "" means discovery
	algorithms, scopes         []string
	leeway                     time.Duration

	token   string
	strip   []string // what was around the token and is no part of it
	says    peek     // what the token says, believed or not
	mistake mistake  // what was given in its place

	claims *jwks.Claims // nil unless Verify accepted the token
	err    error        // why it is refused
	now    time.Time
	keys   jwks.RemoteStatus
	seen   sighting // how the issuer answered last
}

const verifyManual = `Fetch the issuer's published keys and check an access token (RFC 9068) with the code that
Go services use, package jwks. The checks, in this order; the first that fails ends it:

  form       three parts of base64url with dots between; not encrypted, not over 16 KiB
  header     nothing that changes what a token means: crit, b64, zip, enc
  algorithm  one that the service allows (--alg), and the one that the key is for
  type       "typ" is at+jwt; an ID token is none
  key        the header's kid is in the key set: not revoked, not another issuer's
  signature  it holds with that key: nothing was changed since
  issuer     "iss" is --issuer, letter for letter
  audience   --audience is one of "aud"
  claims     "sub", "client_id" and "exp" are there, and everything is of its type
  lifetime   now is before "exp", and not before "nbf" or "iat"
  scope      only with --scope: the token grants each of them

The list of checks, the claims and the key set go to stdout, the reason of a refusal and
what to do about it to stderr. What a token says before its signature is known to hold is
marked UNVERIFIED: anybody may have written it. The token itself is never printed.

"-" reads the token from standard input. "Bearer ", quotes and spaces around it are left
out, and the answer says so. Every user of this machine sees arguments: "-" is better for
a token that still lives.

The exit code is 0 for a good token, 1 for one that is refused, 2 for a command line that
cannot be meant (an empty token, too), and 3 if there is no key set to check with, which
says nothing about the token. With code 2 stdout stays empty, also with --json: nothing was
checked, and stderr says why.

The keys come from the issuer's discovery document, or from --jwks URL. No redirect
is followed, and only https and loopback are asked.`

func verifyCommand() *cobra.Command {
	var v verification
	var leeway string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify TOKEN --issuer URL --audience NAME",
		Short: "Check a token as a service would, and say why not",
		Long:  verifyManual,
		Example: `  keymill verify "$TOKEN" --issuer https://id.example.com --audience orders
  keymill token --client dev-service | keymill verify - --audience dev-api --json
  keymill verify - --audience orders --scope read --alg EdDSA --leeway 30s < token.txt
  keymill verify - --issuer https://id.example.com --jwks http://127.0.0.1:8420/.well-known/jwks.json --audience orders < token.txt`,
		Args: verifyArguments,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := v.complete(cmd, args, leeway); err != nil {
				return err
			}
			if err := v.run(cmd.Context()); err != nil {
				return err
			}
			if asJSON {
				return v.printVerdict(cmd.OutOrStdout())
			}
			return v.printReport(cmd.OutOrStdout())
		},
	}
	addDataFlag(cmd)
	addIssuerFlag(cmd, &v.issuer)
	f := cmd.Flags()
	f.StringVar(&v.audience, "audience", "", "the service that verifies")
	f.StringVar(&v.location, "jwks", "", "the address of the key set (default: as the issuer's discovery document says)")
	f.StringArrayVar(&v.algorithms, "alg", []string{jwks.RS256, jwks.EdDSA}, "an algorithm that the service allows (repeat it for more)")
	f.StringArrayVar(&v.scopes, "scope", nil, "a scope that the token must grant (repeat it for more)")
	f.StringVar(&leeway, "leeway", "0s", "what to forgive a clock, 0s to 1m")
	_ = cmd.RegisterFlagCompletionFunc("alg", cobra.FixedCompletions([]string{jwks.RS256, jwks.EdDSA}, cobra.ShellCompDirectiveNoFileComp))
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// verifyArguments wants one token, but takes a whole header line that the shell has split.
// It never repeats an argument: what is too many may be the token.
func verifyArguments(cmd *cobra.Command, args []string) error {
	for len(args) > 1 && isHeaderWord(args[0]) {
		args = args[1:]
	}
	if len(args) > 1 {
		return hint(usage("%d arguments, not one TOKEN", len(args)), "put quotes around the token, or give \"-\" and the token on standard input")
	}
	return arguments("TOKEN")(cmd, args)
}

// complete reads the token and finds what was not typed. The audience has to be typed: one
// that the token itself brings would make its check say yes to everything.
func (v *verification) complete(cmd *cobra.Command, args []string, leeway string) error {
	typed, err := readToken(cmd.InOrStdin(), strings.Join(args, " "))
	if err != nil {
		return err
	}
	if v.token, v.strip = bareToken(typed); v.token == "" {
		return nothingGiven(args)
	}
	v.says = peekInto(v.token)
	v.issuer = knownIssuer(v.issuer, localCredentials(cmd))
	switch {
	case v.issuer == "":
		return hint(usage("--issuer is missing"), "%s", v.says.suggest("iss", "--issuer",
			"keymill verify TOKEN --issuer https://id.example.com --audience orders"))
	case v.audience == "":
		return hint(usage("--audience is missing"), "a service accepts only tokens that are meant for it: %s",
			v.says.suggest("aud", "--audience", "--audience orders"))
	}
	for _, scope := range v.scopes {
		if !jwks.IsScope(scope) {
			return hint(usage("--scope %q is not one scope", scope), "repeat the flag for more: --scope read --scope write")
		}
	}
	if v.leeway, err = parseDuration(leeway); err != nil {
		return usage("--leeway %v", err)
	}
	return nil
}

// nothingGiven is no refusal: there is no token to say that of, just as if the shell had
// dropped an empty variable without quotes.
func nothingGiven(args []string) error {
	if args[0] == "-" {
		return hint(usage("TOKEN is empty: nothing came on standard input"), "did the command before it fail, or is it the wrong file?")
	}
	return hint(usage("TOKEN is empty"), "the variable that it comes from is probably empty or not set")
}

// run asks the verifier. Its error is a command line that cannot be meant; a refusal is v.err.
func (v *verification) run(ctx context.Context) error {
	watch := newWatch()
	config := jwks.RemoteConfig{URL: v.location, Client: &http.Client{Transport: watch}}
	if v.location == "" {
		config.Issuer = v.issuer
	}
	remote, err := jwks.NewRemote(config)
	if err != nil {
		return hint(expectation(err), "an issuer is https://host, and a path if it has one, letter for letter as tokens name it; a key set has a whole address: --jwks https://host/path")
	}
	defer remote.Close()
	verifier, err := jwks.NewVerifier(jwks.VerifierConfig{
		Issuer: v.issuer, Audience: v.audience, Algorithms: v.algorithms, Leeway: v.leeway, Keys: remote,
	})
	if err != nil {
		return hint(expectation(err), "%q tells more", "keymill verify --help")
	}
	v.claims, v.err = verifier.Verify(ctx, v.token)
	v.now = time.Now()
	v.explain()
	if v.keysMattered() {
		v.keys, v.seen = remote.Status(), watch.last()
	}
	if v.err == nil {
		v.err = v.claims.Grants(v.scopes...) // as a service asks, route by route
	}
	return nil
}

// expectation is a command line that asks for no whole check, in the package's words but
// without its name for that, which means programs.
func expectation(err error) error {
	return usage("%s", strings.TrimPrefix(err.Error(), jwks.ErrConfig.Error()+": "))
}

// keysMattered reports whether the verifier came to look for a key. Before that the set may
// be here or still under way, and an answer must not depend on which.
func (v *verification) keysMattered() bool {
	switch failedCheck(v.err) {
	case "form", "header", "type":
		return false
	case "algorithm":
		return v.allowed()
	case "key":
		return text(v.says.header, "kid") != ""
	}
	return true
}

// maxTokenInput is above the longest token that jwks looks at.
const maxTokenInput = 32 << 10

func readToken(in io.Reader, arg string) (string, error) {
	if arg != "-" {
		return arg, nil
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxTokenInput))
	return string(raw), err
}
