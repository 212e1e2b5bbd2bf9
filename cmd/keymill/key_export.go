package main

import (
	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/completion"
	"keymill/cmd/keymill/internal/keyexport"
	"keymill/cmd/keymill/internal/terminal"
)

func keyExportCommand() *cobra.Command {
	var e keyexport.Export
	var dir dirName
	var format, issuer string
	var watch bool
	cmd := &cobra.Command{
		Use:   "export [--format jwks|pem|cert] [--alg ALG] [--dir DIR]",
		Short: "Write the published keys to files, for software that reads keys from files",
		Long: `Write the public keys of the key set, the spare included, for software that reads its keys from
files. The keys are those of a running server, or with --issuer URL (and without --server) those
of any issuer: they are fetched through its discovery document, over https or from a loopback
address.

  --format jwks   one key set: jwks.json
  --format pem    each key in a file of its own: KID.pem, "BEGIN PUBLIC KEY"
  --format cert   each key as a self-signed certificate without an end: KID.crt. A key that only
                  verifies has none and becomes KID.pem. Only a running server has certificates

Without --dir the keys go to standard output. --dir DIR brings a directory up to date: a file is
replaced as a whole and only if its content differs, new keys are written before old ones are
removed, and a set without a key changes nothing. The exit code is 0 if nothing has changed, 10 if
a file has, and 1 after an error. So a timer runs this and reloads the software after a 10.

--watch goes on until SIGTERM or Ctrl-C, and ends with 0 then. It asks a running server every five
seconds, and an issuer before the max-age of its set is over. After an error it leaves the files
as they are, warns and tries again.

DIR is made if only its last element is missing. It must belong to the user of this command (or
the command runs as root), and no other user may be able to write to it. The command replaces and
removes only files that it wrote, which .keymill-export.json in DIR lists: another file of the
same name is an error. If one of its files was changed by hand, it is written again with a
warning, or left with a warning if its key is no longer published. One directory has one export:
the same format and the same --alg.

A kid is the name of a file as it is if it has only letters, digits, "-", "_" and "."; every other
byte, and a "." at the beginning, is written as % and two hexadecimal digits.`,
		Example: `  keymill key export --format pem --alg RS256 --dir /etc/haproxy/keys
  keymill key export --issuer https://id.example.com --format jwks --dir /var/lib/orders/keys --watch
  keymill key export --format pem`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			e.Format, e.Dir, e.Out, e.Errs = keyexport.Format(format), string(dir), cmd.OutOrStdout(), cmd.ErrOrStderr()
			switch {
			case cmd.Flags().Changed("alg") && e.Alg == "":
				return terminal.Usage("--alg is empty; is a variable not set?")
			case watch && e.Dir == "":
				return terminal.Usage("--watch needs --dir: it keeps the files of a directory up to date")
			}
			if err := e.Check(); err != nil {
				return err
			}
			if e.Source, err = exportSource(cmd, e.Format, issuer); err != nil {
				return err
			}
			defer e.Source.Close()
			defer untilSignal(cmd)()
			if watch {
				return e.Watch(cmd.Context())
			}
			return e.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", string(keyexport.JWKS), "how keys are written: jwks, pem or cert")
	f.StringVar(&e.Alg, "alg", "", "only keys of this algorithm (default: all)")
	f.Var(&dir, "dir", "the directory that is brought up to date (default: standard output)")
	f.BoolVar(&watch, "watch", false, "go on, and keep the directory up to date")
	f.StringVar(&issuer, "issuer", "", "the issuer's `URL`, whose key set is fetched; with --server: where a token is fetched")
	addJSONFlag(cmd, &e.JSON)
	completion.Algorithm(cmd)
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"jwks", "pem", "cert"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// exportSource finds the running server that the flags name, or the issuer of --issuer.
func exportSource(cmd *cobra.Command, format keyexport.Format, issuer string) (keyexport.Source, error) {
	given := cmd.Flags().Changed
	if !given("issuer") || given("server") {
		server, err := dial(cmd)
		if err != nil {
			return keyexport.Source{}, err
		}
		return keyexport.FromServer(server), nil
	}
	if format == keyexport.Cert {
		return keyexport.Source{}, terminal.WithHint(terminal.Usage("--format cert and --issuer cannot be combined: a key set has no certificates"),
			"use --format pem, or ask the server itself, with --data or --server")
	}
	for _, name := range []string{"data", "client-id", "client-secret-file", "token-file"} {
		if given(name) {
			return keyexport.Source{}, terminal.Usage("--%s and --issuer cannot be combined without --server: the key set of an issuer is public", name)
		}
	}
	return keyexport.FromIssuer(issuer)
}
