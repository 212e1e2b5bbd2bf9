package main

import (
	"context"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"keymill/cmd/keymill/internal/adminapi"
	"keymill/cmd/keymill/internal/commandline"
	"keymill/cmd/keymill/internal/config"
	"keymill/cmd/keymill/internal/diagnose"
	"keymill/cmd/keymill/internal/serve"
	"keymill/cmd/keymill/internal/terminal"
	"keymill/issuer/api"
)

func doctorCommand() *cobra.Command {
	var file, newKey string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the store, the keys and the audit chain",
		Long: `Check a data directory: every page and record of the store, whether a record is missing that
another one needs, whether the master key opens the store, whether the keys can be used, the hash
chain of the audit records, and the clients of the login endpoints. As root it also checks whether
the server's user, who owns the data directory, can open the server's files. Use it after a crash,
after restoring a copy, or when a server does not start. It changes nothing. If a server runs on
the directory, doctor prints the status of that server instead.

The master key is looked for where the server does, and then in the systemd unit
keymill.service: LoadCredential, Environment or EnvironmentFile. Run doctor as root for that.

With --new-master-key-file, and only if every check passes, doctor seals the store under
another master key. It writes all that in one transaction. Stop the server first; afterwards
only the new key opens the store. If a check fails, the last line says that the key was not
changed, and the exit code is 1.`,
		Example: `  keymill doctor --data /var/lib/keymill --config /etc/keymill/keymill.yaml
  KEYMILL_MASTER_KEY_FILE=master.key keymill doctor --data /var/lib/keymill --new-master-key-file new.key`,
		Args: arguments(),
	}
	f := cmd.Flags()
	addConfigFlag(cmd, &file)
	f.StringVar(&newKey, "new-master-key-file", "", "seal the store under the key in this file")
	addDataFlag(cmd)
	addJSONFlag(cmd, &asJSON)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := doctorConfig(cmd, file)
		if err != nil {
			return err
		}
		d := &diagnose.Doctor{Config: c, NewMasterKeyFile: newKey, AskServer: askStatus(c), Program: "/proc/self/exe"}
		if f, ok := cmd.ErrOrStderr().(*os.File); ok && terminal.IsTerminal(f) {
			d.Progress = f
		}
		findings, err := d.Examine(cmd.Context())
		if err != nil {
			return err
		}
		return findings.Print(cmd.OutOrStdout(), asJSON)
	}
	return cmd
}

// doctorConfig reads the settings and finds the directory: the configured one, or the
// default that holds a store.
func doctorConfig(cmd *cobra.Command, file string) (*config.Config, error) {
	c, dirs, err := checkedKeys(cmd, file)
	if err == nil {
		err = diagnose.FindStore(c, dirs)
	}
	if err != nil {
		return nil, err
	}
	return c, c.CheckMark()
}

// checkedKeys reads the settings. It also returns where the data directory may be.
func checkedKeys(cmd *cobra.Command, file string) (c *config.Config, dirs []string, err error) {
	if c, err = config.Load(file, commandline.GivenFlags(cmd, "data"), false); err != nil {
		return nil, nil, err
	}
	dirs = []string{c.Data}
	if !c.IsSet("data") {
		dirs = dataDirs(cmd)
	}
	return c, dirs, c.CheckKeys()
}

// pagesCommand is the process that doctor runs to check the pages.
func pagesCommand() *cobra.Command {
	return &cobra.Command{
		Use:     diagnose.PagesVerb,
		Short:   "Check the pages of a store, for doctor",
		Example: "  keymill " + diagnose.PagesVerb + " /var/lib/keymill/keymill.db",
		Hidden:  true,
		Args:    arguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := serve.Harden(); err != nil {
				return err
			}
			diagnose.CheckPages(cmd.Context(), args[0], cmd.InOrStdin(), cmd.OutOrStdout())
			return nil
		},
	}
}

// accessCommand is the process that doctor runs as the server's user to try its files.
func accessCommand() *cobra.Command {
	return &cobra.Command{
		Use:     diagnose.AccessVerb,
		Short:   "Try to open files, for doctor",
		Example: `  echo '[{"path": "/var/lib/keymill/keymill.db", "use": "write"}]' | keymill ` + diagnose.AccessVerb,
		Hidden:  true,
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return diagnose.CheckAccess(cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
}

func askStatus(c *config.Config) func(context.Context) (api.Status, error) {
	return func(ctx context.Context) (api.Status, error) {
		server := adminapi.New(c.Path("admin.sock"))
		status, _, err := adminapi.Ask[api.Status](ctx, server, http.MethodGet, "status", nil)
		return status, err
	}
}
