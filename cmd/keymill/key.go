package main

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/completion"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/keychange"
	"keymill/cmd/keymill/internal/keyimport"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/cmd/keymill/internal/verifierlist"
	"keymill/issuer/api"
	"keymill/issuer/refusal"
	"keymill/keystore"
)

// thumbprintLength is the length of the kids that keystore creates: 32 bytes in base64url.
const thumbprintLength = 43

// kidsLast moves kids that begin with "-" behind a "--". One kid in 64 begins with "-". An
// operator who copies it from the list in an emergency should not get an error about an unknown flag.
func kidsLast(args []string) []string {
	if len(args) == 0 || args[0] != "key" || !slices.Contains(args, "revoke") || slices.Contains(args, "--") {
		return args
	}
	var others, kids []string
	for _, a := range args {
		if len(a) == thumbprintLength && a[0] == '-' && !strings.ContainsRune(a, '=') {
			kids = append(kids, a)
		} else {
			others = append(others, a)
		}
	}
	if len(kids) == 0 {
		return args
	}
	return append(append(others, "--"), kids...)
}

func keyCommand() *cobra.Command {
	cmd := group("key", "List, rotate, revoke, import and export signing keys", `
Keys rotate by themselves. A key is first published (spare), then it signs (active), and then
it stays published (retiring) until the last token that it signed has expired. A reserve is a
key that exists but is not published yet.`)
	cmd.Example = "  keymill key list\n  keymill key rotate --alg EdDSA"
	addServerFlags(cmd)
	cmd.AddCommand(keyListCommand(), keyRotateCommand(), keyRevokeCommand(), keyImportCommand(), keyExportCommand())
	return cmd
}

func keyListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys and when each changes its stage",
		Long: `List the keys. PUBLISH, SIGN, STOP and DROP are the times at which a key is published,
begins to sign, stops signing and leaves the published set. "-" means that it is not known yet.

If verifiers are pinned, a line for each ring says how many of them were served its spare, and
names those that were not (see "keymill verifier --help").`,
		Example: "  keymill key list\n  keymill key list --json | jq -r '.[] | select(.stage == \"active\") | .kid'",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			keys, raw, err := adminapi.Ask[[]api.Key](cmd.Context(), server, http.MethodGet, "keys", nil)
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			if err := printKeys(cmd.OutOrStdout(), keys...); err != nil {
				return err
			}
			return verifierlist.PrintReach(cmd.OutOrStdout(), keys)
		},
	}
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func printKeys(w io.Writer, keys ...api.Key) error {
	t := terminal.NewTable(w, "KID", "ALG", "STAGE", "PUBLISH", "SIGN", "STOP", "DROP")
	for _, k := range keys {
		t.Row(k.KID, k.Alg, k.Stage, terminal.FormatTime(k.Publish), terminal.FormatTime(k.Sign), terminal.FormatTime(k.Stop), terminal.FormatTime(k.Drop))
	}
	return t.Flush()
}

func keyRotateCommand() *cobra.Command {
	r := keychange.Rotation{}
	var wait string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rotate --alg ALG",
		Short: "Let the published spare sign now",
		Long: `Let the published spare of one algorithm sign now, before its time. Keys rotate by themselves,
so this is rarely needed. The server refuses, with exit code 1, in two cases: the spare was not
published for long enough, and the error says when it can sign; or a pinned verifier that comes
regularly was not served the spare yet, and the error names it (see "keymill verifier --help").

--wait TIME waits until the server allows it, at most that long, and shows who is waited for. It
goes on while the server restarts. When the time is over, the error is the same as without it.
--force rotates anyway: services that have not fetched the new key refuse its tokens until they do.
The output says how long that can take.

--flush lets the reserve sign instead of the spare, so that verifiers that fetch the key set only for
an unknown kid fetch it, and forget keys that were revoked: they may know the spare already. It waits
for no verifier, so it is not combined with --force. The server refuses it while the reserve is being
made, which takes some seconds; with --wait the command waits for that. The output says what it costs.`,
		Example: `  keymill key rotate --alg EdDSA
  keymill key rotate --alg EdDSA --wait 1h
  keymill key rotate --alg EdDSA --flush
  keymill key rotate --alg RS256 --json`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Alg == "" {
				return terminal.WithHint(terminal.Usage("--alg is missing"), "keymill key rotate --alg EdDSA")
			}
			if r.Force && r.Flush {
				return terminal.Usage("--flush and --force cannot be combined; give one of them")
			}
			if err := readWait(cmd, &r, wait); err != nil {
				return err
			}
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			defer untilSignal(cmd)()
			r.Server, r.Errs = server, cmd.ErrOrStderr()
			done, err := r.Run(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				raw, err := terminal.MarshalJSON(done)
				return commandline.PrintAnswer(cmd, raw, err)
			}
			return keychange.PrintRotation(cmd.OutOrStdout(), done)
		},
	}
	cmd.Flags().StringVar(&r.Alg, "alg", "", "the algorithm whose key rotates: "+algorithms()+" (required)")
	cmd.Flags().BoolVar(&r.Force, "force", false, "rotate even if services may not have fetched the spare yet")
	cmd.Flags().BoolVar(&r.Flush, "flush", false, "let the reserve sign, so that verifiers fetch the key set")
	cmd.Flags().StringVar(&wait, "wait", "", "wait until services have fetched the spare, at most this `TIME`, such as 90s or 1h")
	completion.Algorithm(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}

// algorithms names every algorithm, for the help of flags.
func algorithms() string { return strings.Join(keystore.SupportedAlgorithms(), ", ") }

// readWait reads --wait, if it was given.
func readWait(cmd *cobra.Command, r *keychange.Rotation, text string) error {
	if !cmd.Flags().Changed("wait") {
		return nil
	}
	if r.Force {
		return terminal.Usage("--wait and --force cannot be combined; give one of them")
	}
	wait, err := config.ParseDuration(text)
	if err != nil {
		return terminal.Usage("--wait %v", err)
	}
	if wait == 0 {
		return terminal.Usage("--wait %s is not more than 0", text)
	}
	r.Wait = wait
	return nil
}

func keyRevokeCommand() *cobra.Command {
	var watch, flush, asJSON bool
	cmd := &cobra.Command{
		Use:   "revoke KID",
		Short: "Remove a key at once, so that every token that it signed is refused",
		Long: `Remove a key from the published set at once, and its private half from the store. Use it if a
private key may have leaked. If the key was the active one, the spare signs from now on. A
service refuses the key's tokens once its cached key set has expired. The output says when the
last cache expires. A revoked kid is never used again. "keymill key list" shows the kids.

The output also names the pinned verifiers whose last key set has the key, and counts the other
addresses. --watch goes on until no pinned verifier has it, and prints a line for each that was
served a set without it. It ends with 0 then; Ctrl-C ends it earlier, and the key stays revoked.
With --json the answer is printed at once, as the only JSON, and these lines go to standard error.

Some verifiers fetch the key set only for an unknown kid. They know the spare, so they keep the revoked
key. With --flush the reserve signs from now on, whatever the key was: these verifiers fetch at its first
token. The spare stays next. The output says what that costs. If it is not possible, nothing is revoked
and the error says why; without --flush a key can always be revoked.`,
		Example: `  keymill key list
  keymill key revoke $(keymill key list | awk '$2 == "EdDSA" && $3 == "active" {print $1}')
  keymill key revoke --watch $(keymill key list | awk '$2 == "RS256" && $3 == "active" {print $1}')`,
		Args: arguments("KID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			r, raw, err := keychange.Revoke(cmd.Context(), server, api.RevokeKeyRequest{KID: args[0], Flush: flush})
			for _, w := range r.Warnings {
				terminal.Warn(cmd.ErrOrStderr(), "%s", w)
			}
			if err != nil {
				return err
			}
			lines := cmd.OutOrStdout()
			if asJSON {
				err, lines = commandline.PrintAnswer(cmd, raw, nil), cmd.ErrOrStderr()
			} else {
				err = keychange.PrintRevocation(lines, r)
			}
			if err != nil || !watch {
				return err
			}
			defer untilSignal(cmd)()
			follow := keychange.Watch{Server: server, Revoked: r, Out: lines, Errs: cmd.ErrOrStderr()}
			return follow.Run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&flush, "flush", false, "let the reserve sign, so that verifiers fetch the key set")
	cmd.Flags().BoolVar(&watch, "watch", false, "go on until no pinned verifier holds the key")
	addJSONFlag(cmd, &asJSON)
	return cmd
}

func keyImportCommand() *cobra.Command {
	var req api.ImportKeyRequest
	var until string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import a key from another token server",
		Long: `Import a key from another server, in PEM or as a JWK; "-" reads standard input. Use it when you
replace that server, so that tokens that it signed stay valid. The kid is kept, because those
tokens carry it. Without flags the key becomes the spare and signs when its turn comes. With
--until TIME it only verifies until then, and a public key is enough. Use --sign-now if
services already know the key.

An RSA, Ed25519 or P-256 key is taken if its algorithm (RS256, EdDSA, ES256) is in keys.algorithms.
A PEM file may have certificates too: the key is taken. The error for another format names it
and the command that converts it.`,
		Example: `  keymill key import old.pem --kid 2024-01 --until 2027-01-31T00:00:00Z
  keymill key import signing.jwk --sign-now
  openssl genpkey -algorithm ed25519 | keymill key import -`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			// An empty --until, as from an unset variable, is an error: the key would become a spare.
			if cmd.Flags().Changed("until") {
				t, err := time.Parse(time.RFC3339, until)
				if err != nil {
					return terminal.Usage("--until %q is not a time like 2027-01-31T00:00:00Z", until)
				}
				req.Until = &t
			}
			key, err := keyimport.Read(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			if err := keyimport.Check(key, args[0], req.Until != nil); err != nil {
				return err
			}
			req.Key = refusal.Secret(key)
			server, err := dial(cmd)
			if err != nil {
				return err
			}
			k, raw, err := adminapi.Ask[api.Key](cmd.Context(), server, http.MethodPost, "keys/import", req)
			if err != nil || asJSON {
				return commandline.PrintAnswer(cmd, raw, err)
			}
			return printKeys(cmd.OutOrStdout(), k)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Alg, "alg", "", algorithms()+", if the key does not say which")
	f.StringVar(&req.KID, "kid", "", "the kid that tokens carry (default: the JWK's, or else the RFC 7638 thumbprint)")
	f.StringVar(&until, "until", "", "use the key only to verify, until this time (RFC 3339)")
	f.BoolVar(&req.SignNow, "sign-now", false, "sign with the key at once; for a key that services already know")
	completion.Algorithm(cmd)
	addJSONFlag(cmd, &asJSON)
	return cmd
}
