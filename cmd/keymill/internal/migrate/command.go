package migrate

import (
	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/terminal"
)

// Command returns the command. addConfig and addJSON add --config and --json. untilSignal ends the context of a command
// at a signal.
func Command(addConfig func(*cobra.Command, *string), addJSON func(*cobra.Command, *bool), untilSignal func(*cobra.Command) (stop func())) *cobra.Command {
	var file, password string
	var asJSON, sql bool
	o := Options{}
	cmd := &cobra.Command{
		Use:   "migrate --from STORE --to STORE",
		Short: "Move the store to a database, or back to a file",
		Long: `Move all records of a store to another place, and compare each of them. A STORE is a data directory, or
the URL of a PostgreSQL database: postgres://ROLE@HOST/DATABASE. The target must be empty; a directory
is created if it is missing. Run migrate as the server's user or as root. It needs no master key.

The servers of the source can go on running: they serve keys, introspection and client credentials
in the meantime, and answer 503 with Retry-After to logins, refreshes and everything else that
writes. If migrate fails or is interrupted, they write again. If it was killed, they do so after a
minute, or at once with --abort. The same command goes on where the copy ended. No record is lost at
any point.

At the end the source says durably that it was moved. No server starts on it from then on, and no
server starts on the target before. So start the servers of the target, send the clients there, and
stop those of the source. keymill.mark and keymill.revoked in the data directory are not part of the
store: let the first server of the target use the same directory, or copy them.

--print prints the SQL that makes the tables in PostgreSQL, for a role that may not make them itself.`,
		Example: `  keymill migrate --from /var/lib/keymill --to postgres://keymill@db.example.com/keymill
  keymill migrate --from /var/lib/keymill --to postgres://keymill@db.example.com/keymill --dry-run
  keymill migrate --from postgres://keymill@db.example.com/keymill --to /var/lib/keymill-file
  keymill migrate --abort --from /var/lib/keymill
  keymill migrate --print | psql keymill`,
		Args: commandline.Arguments(),
	}
	f := cmd.Flags()
	f.StringVar(&o.From, "from", "", "the `STORE` to move")
	f.StringVar(&o.To, "to", "", "the `STORE` that gets the records")
	f.BoolVar(&o.DryRun, "dry-run", false, "look at both stores, say what would be done, and change nothing")
	f.BoolVar(&o.Abort, "abort", false, "let the servers of --from write again after a migration that was killed")
	f.BoolVar(&sql, "print", false, "print the SQL that makes the tables of a database")
	f.StringVar(&password, "password-file", "", "`FILE` with the password of the database's role (or as the setting store.password_file)")
	addConfig(cmd, &file)
	addJSON(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if sql {
			return printSQL(cmd.OutOrStdout(), o)
		}
		c, err := config.Load(file, nil, false)
		if err != nil {
			return err
		}
		defer untilSignal(cmd)()
		o.Password, o.Notes = passwordOf(c, password), cmd.ErrOrStderr()
		r, err := Run(cmd.Context(), o)
		if err != nil {
			return err
		}
		if asJSON {
			raw, err := terminal.MarshalJSON(r)
			if err != nil {
				return err
			}
			return terminal.PrintJSON(cmd.OutOrStdout(), raw)
		}
		return r.Print(cmd.OutOrStdout())
	}
	return cmd
}
