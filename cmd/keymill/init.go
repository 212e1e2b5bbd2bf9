package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
)

// created is what init prints with --json.
type created struct {
	Data       string `json:"data"`
	DatabaseID string `json:"database_id"`
}

func initCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the store of a new server",
		Long: `Create the store of a new server, once, before its first start. "keymill serve" refuses a directory
without a store, so that a mistyped directory or a volume that is not mounted does not become
a new issuer. Run init as the server's own user and with the server's configuration: the store
is sealed under its master key. init needs no issuer.

init prints the id of the store as a line of the configuration. With database_id set, a server
refuses every other store and creates none. A store that exists is never changed.`,
		Example: `  keymill init --data first-store
  keymill init --data second-store --json
  keymill init --config /etc/keymill/keymill.yaml >> /etc/keymill/keymill.yaml`,
		Args: arguments(),
	}
	addConfigFlag(cmd, &file)
	cmd.Flags().Var(new(dirName), "data", "directory of the store; created if missing, its parent must exist")
	addJSONFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := config.Load(file, givenFlags(cmd, "data"), false)
		if err != nil {
			return err
		}
		if err := c.CheckStore(); err != nil {
			return err
		}
		id, err := serve.Init(cmd.Context(), serve.Options{Config: c, Version: release})
		if err != nil {
			return err
		}
		return printCreated(cmd.OutOrStdout(), created{c.Data, id}, asJSON)
	}
	return cmd
}

func addConfigFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "config", os.Getenv("KEYMILL_CONFIG"), "the server's YAML file with settings (or $KEYMILL_CONFIG)")
}

// printCreated prints YAML, so that the output can be appended to the configuration. It begins with a newline,
// because the last line of the configuration may have none.
func printCreated(w io.Writer, c created, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprintf(w, "\n# created a store in %s\ndatabase_id: %s\n", terminal.Printable(c.Data), c.DatabaseID)
		return err
	}
	raw, err := terminal.MarshalJSON(c)
	if err != nil {
		return err
	}
	return terminal.PrintJSON(w, raw)
}
