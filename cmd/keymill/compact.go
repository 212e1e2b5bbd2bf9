package main

import (
	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/compact"
	"keymill/cmd/keymill/internal/terminal"
)

func compactCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Give the free pages of a stopped store back to the disk",
		Long: `Write the store of a stopped server again, without its free pages, and replace the file in one
step. What was deleted leaves free pages: a server uses them for new records and never makes the
file smaller. So compact it after much was deleted, or before a copy is moved. Stop the server
first: while it serves, a store cannot be compacted.

The store is checked first, and a damaged one is refused. The new file needs free space on the
same disk, as much as the records take. It is synced and compared with the old one, record by
record, before it gets the name. Owner and mode stay. An error, Ctrl-C or a kill leaves the old
store. No master key is needed, and the server starts on the new file as on the old one.`,
		Example: `  keymill compact --data /var/lib/keymill`,
		Args:    arguments(),
	}
	addConfigFlag(cmd, &file)
	addDataFlag(cmd)
	addJSONFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := doctorConfig(cmd, file)
		if err != nil {
			return err
		}
		if c.IsShared() {
			return terminal.WithHint(c.SettingError("store", "the store is in a database, and compact is for a store in a file"), "the autovacuum of PostgreSQL keeps its tables small")
		}
		defer untilSignal(cmd)()
		r, err := compact.Run(cmd.Context(), compact.Options{Data: c.Data, Program: "/proc/self/exe", Notes: cmd.ErrOrStderr()})
		if err != nil {
			return err
		}
		if asJSON {
			raw, err := terminal.MarshalJSON(r)
			return commandline.PrintAnswer(cmd, raw, err)
		}
		return r.Print(cmd.OutOrStdout())
	}
	return cmd
}
