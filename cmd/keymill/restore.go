package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/restore"
	"keymill/cmd/keymill/internal/terminal"
)

func restoreCommand() *cobra.Command {
	var file string
	var asJSON bool
	q := restore.Request{}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Restore the store from a backup",
		Long: `Restore the store from a backup, into an empty data directory or, with --replace, in place of the
store there, which stays beside the new one. The server must be stopped. Run restore as the server's
user or as root, with the server's configuration. It needs the master key that the server had when the
backup was made. It checks every record first; if one is damaged, it changes nothing.

A backup does not know what was revoked after it was made. So new keys sign, and all sessions end: all
users log in again. The file keymill.revoked beside the mark lists the keys that were revoked. With
it the other keys of the backup stay in the key set, to verify only, until their tokens have expired.
Without it they are revoked, and services refuse every earlier token. If you know that no key was
revoked since the backup, --trust-keys keeps them. --jwks FILE keeps the keys in FILE, the key set
that a service fetched last, and adds those that are later than the backup. --keep-sessions lets the
sessions of the backup go on, also those that were ended since, and those of users who were disabled
since.

restore prints what it did and what you have to check. Settings, the master key and files beside the
store are not in a backup.`,
		Example: `  keymill restore /var/backups/keymill/today --config /etc/keymill/keymill.yaml
  keymill restore --replace --trust-keys /var/backups/keymill/today --config /etc/keymill/keymill.yaml
  keymill restore --identity age-key.txt today.age --data restored --jwks jwks.json`,
		Args: arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if q.Config, err = config.Load(file, commandline.GivenFlags(cmd, "data"), false); err != nil {
				return err
			}
			if q.Config.MarkFile != "" && cmd.Flags().Changed("data") {
				return terminal.WithHint(errors.New("store.mark_file names the mark of the configured directory, and --data another directory"),
					"give that one a mark of its own: KEYMILL_STORE_MARK_FILE=FILE")
			}
			defer untilSignal(cmd)()
			q.File, q.Stdin, q.Errs = args[0], cmd.InOrStdin(), cmd.ErrOrStderr()
			report, err := restore.Run(cmd.Context(), q)
			if report == nil {
				return err
			}
			if !asJSON {
				return cmp.Or(report.Print(cmd.OutOrStdout()), err)
			}
			raw, jsonErr := terminal.MarshalJSON(report)
			return cmp.Or(commandline.PrintAnswer(cmd, raw, jsonErr), err)
		},
	}
	f := cmd.Flags()
	addConfigFlag(cmd, &file)
	cmd.Flags().Var(new(dirName), "data", "the server's data directory; created if missing, its parent must exist")
	f.BoolVar(&q.Replace, "replace", false, "replace the store in the data directory")
	f.BoolVar(&q.TrustKeys, "trust-keys", false, "keep the keys of the backup in the key set, to verify only")
	f.StringVar(&q.Set, "jwks", "", "keep or add the keys in `FILE`, a key set (RFC 7517), to verify only")
	f.BoolVar(&q.AcceptDamage, "accept-damage", false, "restore although the checks of the backup find damage, which stays")
	f.BoolVar(&q.KeepSessions, "keep-sessions", false, "let the sessions of the backup go on")
	f.StringArrayVar(&q.Identities, "identity", nil, "`FILE` with the secret key of age (repeatable)")
	addJSONFlag(cmd, &asJSON)
	return cmd
}
